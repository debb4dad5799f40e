"""An estimate adds up what its profile says, and times follow from bits, rounds and seconds."""

import json

import pytest

from aero.cost import Declaration, Formula, Price, estimate, load_profile, profile_names
from aero.cost.estimate import seconds_on
from aero.cost.profile import TableProfile
from aero.graph import OPS
from aero.models.notation import parse
from aero.models.presets import SIZES
from aero.structure import lowered
from aero.wire.network import LAN, LOOPBACK, WAN, Network


def table(**changes):
    each = Declaration(
        {
            "bytes_client_to_server": Formula({"calls": 10, "outputs": 1}),
            "bytes_server_to_client": Formula({"inputs": 2}),
            "rounds": Formula({"calls": 2}),
            "compute_seconds": Formula({}),
        }
    )
    return TableProfile("test", "Test", "made up for this test", dict.fromkeys(OPS, each), **changes)


GRAPH = lowered(parse("SM+LN+G"), SIZES["demo"])


def test_lines_add_up_to_the_total_and_by_operation():
    result = estimate(GRAPH, table())
    assert len(result.lines) == len(GRAPH.nodes)
    up = sum(line.cost.bytes_client_to_server for line in result.lines)
    assert result.total.bytes_client_to_server == up
    assert result.total.rounds == 2 * len(GRAPH.nodes)
    by_op = result.by_op()
    assert sum(line.cost.bytes_client_to_server for line in by_op.values()) == up
    assert sum(int(line.label) for line in by_op.values()) == len(GRAPH.nodes)
    assert sum(line.multiplications for line in by_op.values()) == result.multiplications


def test_joined_linears_are_one_step():
    joined = estimate(GRAPH, table(joins_linears=True))
    assert "blocks.0.q blocks.0.k blocks.0.v" in [line.label for line in joined.lines]
    assert len(joined.lines) == len(GRAPH.nodes) - 2 * 2
    assert joined.multiplications == estimate(GRAPH, table()).multiplications


def test_an_operation_without_a_price_is_named():
    profile = TableProfile("test", "Test", "made up", {})
    with pytest.raises(ValueError, match="no price for 'embedding' \\(node 'embedding'\\)"):
        estimate(GRAPH, profile)


def test_bytes_become_bits_and_rounds_half_round_trips():
    """10 MB up and 2.5 MB down are 100 Mbit: one second on the WAN; 50 rounds of 40 ms are two."""
    cost = Price(10e6, 2.5e6, rounds=50, compute_seconds=4.0)
    wan = seconds_on(WAN, cost)
    assert (wan.computing, wan.sending, wan.waiting, wan.total) == (4.0, 1.0, 2.0, 7.0)
    assert seconds_on(LAN, cost).total == pytest.approx(4 + 0.1 + 50 * 0.1e-3)
    assert seconds_on(LOOPBACK, cost).total == 4.0
    assert seconds_on(Network.parse("50mbit,80ms"), cost).sending == 2.0


def test_an_unknown_part_leaves_the_total_unknown():
    seconds = seconds_on(WAN, Price(bytes_both_ways=12.5e6))
    assert seconds.total is None and seconds.at_least == 1.0
    assert seconds_on(LOOPBACK, Price(bytes_both_ways=1.0, compute_seconds=3.0)).total == 3.0


def test_json_holds_every_line_and_network():
    data = json.loads(json.dumps(estimate(GRAPH, table()).to_json([LOOPBACK, WAN])))
    assert len(data["lines"]) == len(GRAPH.nodes)
    assert data["total"]["bytes_both_ways"] == sum(line["bytes_both_ways"] for line in data["lines"])
    assert set(data["total"]["seconds"]) == {"loopback", "wan"}


def test_profiles_survive_json_and_files(tmp_path):
    profile = table(joins_linears=True, set_up=Price(1, 2, rounds=3), notes=("a",), machine="m", version="v")
    assert TableProfile.from_json(json.loads(json.dumps(profile.to_json()))) == profile
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(profile.to_json()))
    assert load_profile(str(path)) == profile


def test_bad_profiles_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"there are .*aero-published"):
        load_profile("nonesuch")
    path = tmp_path / "bad.json"
    for text, message in (
        ("{", "not JSON"),
        ("{}", "format 1"),
        ('{"format_version": 1}', "profile is not usable: it has no 'name'"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            load_profile(str(path))


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_prices_the_baseline(name):
    assert estimate(GRAPH, load_profile(name)).total.bytes_both_ways > 0
