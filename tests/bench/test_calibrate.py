"""Fitting finds what made the data; the relay delays; a small calibration end to end where SPU is installed."""

import importlib.util
import socket
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aero.bench.calibrate import Sample, calibration_graphs, fit, fit_rounds, measure, profile_of
from aero.bench.delay import DelayRelay
from aero.cost import estimate
from aero.graph import OPS
from aero.models.presets import Size

coefficients = st.floats(1, 1e4)
shapes = st.lists(st.tuples(st.integers(1, 500), st.integers(1, 500)), min_size=6, max_size=12, unique=True)


@settings(max_examples=30)
@given(coefficients, coefficients, coefficients)
def test_fit_recovers_an_affine_cost(constant, per_input, per_output):
    at = [
        {"calls": 1, "inputs": a, "outputs": b} for a, b in ((1, 9), (8, 2), (30, 40), (64, 16), (100, 300), (500, 7))
    ]
    values = [constant + per_input * q["inputs"] + per_output * q["outputs"] for q in at]
    formula = fit(at, values, ("calls", "inputs", "outputs"))
    for q, value in zip(at, values, strict=True):
        assert formula.at(q) == pytest.approx(value, rel=1e-3)


def test_what_costs_nothing_is_free():
    assert fit([{"calls": 1}, {"calls": 1}], [0, 0], ("calls",)).terms == {}
    with pytest.raises(ValueError, match="no samples"):
        fit([], [], ("calls",))


def sample(op, messages, outputs=1, levels=1, seconds=0.0):
    counts = {
        "calls": 1,
        "inputs": outputs,
        "outputs": outputs,
        "products": outputs,
        "rows": 1,
        "live": outputs,
        "heads": 1,
    }
    return Sample(op, op, counts | {"levels": levels}, 10 * outputs, 20 * outputs, messages, seconds, seconds)


def test_rounds_are_fixed_or_grow_with_the_levels_of_a_tree():
    """relu: 20 rounds, softmax: 5 + 8 levels; what took long to compute says little."""
    data = [
        (sample("relu", 40), 20.0),
        (sample("relu", 40, seconds=60.0), 300.0),
        (sample("softmax", 100, levels=3), 29.0),
        (sample("softmax", 100, levels=5), 45.0),
    ]
    found = fit_rounds(data)
    assert found["relu"].at({"calls": 1}) == pytest.approx(20, abs=1)
    assert dict(found["softmax"].terms) == {
        "calls": pytest.approx(5, abs=0.1),
        "levels": pytest.approx(8, abs=0.1),
    }


def test_the_least_time_of_equal_samples_counts():
    samples = [sample(op, 0 if op in ("bias", "add", "rows", "concat_rows", "concat_columns") else 2, 7) for op in OPS]
    slow = [Sample(**{**vars(s), "compute_seconds": 5.0}) for s in samples]
    quick = [Sample(**{**vars(s), "compute_seconds": 3.0}) for s in samples]
    profile = profile_of(sample("set-up", 9), slow + quick, [(s, 4.0) for s in samples])
    assert profile.ops["gelu"].at(samples[0].quantities).compute_seconds == pytest.approx(3.0, rel=1e-3)
    assert profile.ops["gelu"].at(samples[0].quantities).bytes_both_ways == pytest.approx(210, rel=1e-3)
    assert (profile.set_up.rounds, profile.set_up.messages) == (None, 9)


def test_an_operation_that_starts_to_send_is_noticed():
    samples = [sample(op, 2) for op in OPS]
    with pytest.raises(ValueError, match="bias sends messages"):
        profile_of(sample("set-up", 9), samples, [(s, 4.0) for s in samples])


def test_the_relay_delivers_everything_in_order_and_late():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def echo():
            connection, _ = server.accept()
            with connection:
                while data := connection.recv(1 << 16):
                    connection.sendall(data)

        thread = threading.Thread(target=echo, daemon=True)
        thread.start()
        data = bytes(range(256)) * 4096
        with DelayRelay(f"127.0.0.1:{server.getsockname()[1]}", 0.05) as relay:
            host, port = relay.address.split(":")
            with socket.create_connection((host, int(port)), timeout=20) as connection:
                started = time.monotonic()
                threading.Thread(target=connection.sendall, args=(data,), daemon=True).start()
                found = b""
                while len(found) < len(data):
                    found += connection.recv(1 << 16)
                # Two delays, there and back; a busy machine only adds to them.
                assert time.monotonic() - started >= 0.1
            thread.join(20)
        assert found == data and not thread.is_alive()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("spu") is None, reason="SPU is not installed")
def test_what_spu_counts_is_what_the_worker_reports():
    graphs = calibration_graphs([("SM+LN+R", Size(16, 4, 1, 2, 8))])
    set_up, samples = measure(graphs, 0.0, lambda share: None)
    assert set_up.op == "set-up" and set_up.messages > 0
    assert {s.op for s in samples} == {n.op for n in graphs[0].nodes}
    for s in samples:
        talks = s.op not in ("bias", "add", "rows")
        assert (s.messages > 0) == talks and (s.bytes_client_to_server + s.bytes_server_to_client > 0) == talks


def test_the_shipped_calibration_prices_what_it_measured():
    """Samples of more than 6 MB, where ciphertexts and batches are many, are within a quarter of the fit."""
    from aero.cost import load_profile

    profile = load_profile("spu-cheetah")
    assert profile.machine and profile.version
    assert set(profile.ops) == set(OPS)
    large = [s for samples in profile.details["samples"].values() for s in samples if s["measured_bytes"] > 6e6]
    assert len(large) > 15
    for s in large:
        assert s["fitted_bytes"] == pytest.approx(s["measured_bytes"], rel=0.25)
    graph = calibration_graphs([("SM(t)+LN+G", Size(128, 16, 1, 2, 64))])[0]
    total = estimate(graph, profile).total
    assert None not in (total.bytes_client_to_server, total.bytes_server_to_client, total.rounds, total.compute_seconds)
