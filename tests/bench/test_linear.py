"""`aero bench linear`: what it measures is what was declared, and within its bound."""

import numpy as np
import pytest
from typer.testing import CliRunner

from aero.bench.linear import OUTPUT_BITS, RING_BITS, WORKS, BenchProduct, bench_linear, table
from aero.cli.main import app
from aero.mpc.protocols.linear import plan_linear
from aero.mpc.protocols.pair import plan_pair
from aero.report.record import Record, read_records
from aero.wire.network import WAN


def test_the_works_are_these():
    assert list(WORKS) == [
        "linear/128x768x768",
        "linear/128x768x2304",
        "qk/12x128x64x128",
        "av/12x128x128x64",
        "linear/1x768x768",
        "linear/1x768x50257",
    ]
    for work in WORKS.values():
        assert work.name.endswith(
            "x".join(map(str, ([] if work.weights else [12]) + [work.rows, work.inner, work.columns]))
        )


def test_declared_bytes_of_the_large_products():
    """The bounds that were set: 2.6 MB for 128x768x768, 6 MB for Q K^T."""
    assert plan_linear(128, 768, 768, RING_BITS, OUTPUT_BITS).cost().total_bytes <= 2.6e6
    assert plan_pair(12, 128, 64, 128, RING_BITS, OUTPUT_BITS).cost().total_bytes <= 6e6


def test_a_measurement():
    work = "linear/1x768x768"
    (record,) = bench_linear(["two-party"], [work], repetitions=2)
    cost = WORKS[work].plan().cost()
    assert (record.bytes_client_to_server, record.bytes_server_to_client) == (
        cost.bytes_client_to_server,
        cost.bytes_server_to_client,
    )
    assert record.rounds == 2 and record.engine == "two-party"
    assert 0 < record.max_abs_error <= record.extra["error_bound"] < 0.05
    assert len(record.extra["all_seconds"]) == 2


def test_an_emulated_network_takes_its_time():
    (record,) = bench_linear(["two-party"], ["linear/1x768x768"], 1, network=WAN)
    sent = record.bytes_client_to_server + record.bytes_server_to_client
    # two message delays of half a round trip each, and the bytes of both messages, one after the other
    assert record.seconds >= WAN.round_trip_seconds + WAN.seconds(sent)
    assert record.extra["network"] == "wan"
    with pytest.raises(ValueError, match="--engine two-party"):
        bench_linear(["spu-cheetah"], ["linear/1x768x768"], 1, network=WAN)


def test_the_bound_counts_rounding_and_noise():
    work = BenchProduct("linear/2x3x4", 1, 2, 3, 4, True, 14, 16)
    left, right = work.factors()
    rounded = np.rint(left * 2.0**14) * 2.0**-14 @ (np.rint(right * 2.0**16) * 2.0**-16)
    assert 0 < np.abs(rounded - left @ right).max() <= work.error_bound(0.0)
    assert work.error_bound(3.0) == pytest.approx(work.error_bound(0.0) + 3 * 2.0**-14)


def test_table_compares_with_spu():
    def record(engine, seconds, size, bound):
        extra = {"cpu_seconds": seconds, "error_bound": bound}
        return Record("qk/12x128x64x128", engine, None, None, seconds, size, size, 2, 1e-3, extra=extra)

    header, (ours, spu) = table([record("two-party", 0.5, 10, 0.1), record("spu-cheetah", 10.0, 30, None)])
    assert ours[header.index("faster")] == "20.0x" and ours[header.index("smaller")] == "3.0x"
    assert spu[header.index("faster")] == "" and spu[header.index("bound")] == ""


def test_unknown_names_are_refused():
    for arguments, message in ((["--engine", "seal"], "seal"), (["--work", "linear/2x2x2"], "2x2x2")):
        result = CliRunner().invoke(app, ["bench", "linear", *arguments])
        assert isinstance(result.exception, ValueError) and message in str(result.exception)


def test_the_verb_writes_records(tmp_path):
    path = tmp_path / "linear.json"
    arguments = ["--engine", "two-party", "--work", "linear/1x768x768", "--repetitions", "1", "--json", str(path)]
    result = CliRunner().invoke(app, ["bench", "linear", *arguments], catch_exceptions=False)
    assert result.exit_code == 0 and "linear/1x768x768" in result.output
    (record,) = read_records(path)
    assert record.work == "linear/1x768x768" and record.seconds > 0
