"""`aero cost` as a person runs it."""

import json

import pytest
from typer.testing import CliRunner

from aero.cli.main import app
from aero.cost.machine import load_machine
from aero.files import manifest
from aero.models.notation import parse
from aero.models.presets import SIZES
from aero.structure import lowered


def run(*arguments):
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["cost", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_a_preset_and_a_notation_need_no_model(tmp_path):
    path = tmp_path / "cost.json"
    output = run("--preset", "demo", "--notation", "SM+ScFuFFN", "--context", 8, "--json", path, "--network", "wan")
    assert "MB = 10^6 bytes" in output and "set-up, once" in output
    (data,) = json.loads(path.read_text())
    (found,) = data["estimates"]
    total = found["total"]
    assert (data["context"], found["profile"]) == (8, "two-party")
    assert total["bytes_both_ways"] == total["bytes_client_to_server"] + total["bytes_server_to_client"] > 0
    wan = total["seconds"]["wan"]
    assert wan["sending"] == pytest.approx(total["bytes_both_ways"] * 8 / 100e6)
    assert wan["waiting"] == pytest.approx(total["rounds"] * 0.04)
    assert not any(line["op"] == "gelu" for line in found["lines"])


@pytest.mark.parametrize(
    ("preset", "notation"),
    [
        ("pythia-70m", "SM+LN+R"),
        ("pythia-70m", "SM+ScFuFFN"),
        ("demo", "EReg(SM(t)+ScFuFFN)"),
        ("demo", "SM+FLN(p)"),
        ("demo-llama", "SM+FRMS(p)+SiLU+GaFFN"),
    ],
)
def test_rotary_positions_and_gains_of_each_position_have_a_price(preset, notation, tmp_path):
    path = tmp_path / "cost.json"
    run("--preset", preset, "--notation", notation, "--context", 8, "--batch", 2, "-n", 2, "--json", path)
    (data,) = json.loads(path.read_text())
    prefill = {work["work"]: work["together"] for work in data["sessions"][0]["works"]}["prefill"]
    assert prefill["bytes_both_ways"] > data["estimates"][0]["total"]["bytes_both_ways"] > 0


def test_seconds_are_of_a_machine_and_its_threads(tmp_path):
    path, mine, found = tmp_path / "cost.json", tmp_path / "mine.json", load_machine("portable")
    mine.write_text(json.dumps({**found.to_json(), "units": {name: 2 * value for name, value in found.units.items()}}))
    seconds = []
    for options in (["portable"], ["portable", "--threads", 2], [mine]):
        common = ["--preset", "demo", "--notation", "SM+R", "--context", 8, "--batch", 1, "-n", 2, "--json", path]
        output = run(*common, "--machine", *options)
        assert "?" not in output and ">" not in output and "measured on" in output
        (data,) = json.loads(path.read_text())
        whole = data["sessions"][0]["works"][-1]["together"]
        seconds.append(whole["seconds"]["loopback"]["total"])
        assert whole["seconds"]["wan"]["computing"] == whole["compute_seconds"] == seconds[-1]
    assert seconds[0] / 2 < seconds[1] < seconds[0]
    assert seconds[2] == pytest.approx(2 * seconds[0])
    result = CliRunner().invoke(app, ["cost", "--preset", "demo", "--notation", "SM", "--machine", "nonesuch"])
    assert isinstance(result.exception, ValueError) and "there are avx2, avx512, portable" in str(result.exception)


def test_comparisons_and_networks(tmp_path):
    path, picture = tmp_path / "cost.json", tmp_path / "cost.png"
    common = ["--preset", "demo", "--profile", "aero-published", "--stage", "lowered", "--json", path]
    output = run(
        *common, "--notation", "SM+LN+G", "--compare", "SM+ScFuFFN", "--plot", picture,
        "--bandwidth", "300mbit", "--rtt", "40ms",
    )  # fmt: skip
    assert "less bytes" in output
    base, ours = json.loads(path.read_text())
    assert (base["notation"], ours["notation"]) == ("SM+LN+G", "SM+ScFuFFN")
    assert base["graph_digest"] == lowered(parse("SM+LN+G"), SIZES["demo"]).digest
    totals = [subject["estimates"][0]["total"] for subject in (base, ours)]
    assert totals[0]["bytes_both_ways"] > totals[1]["bytes_both_ways"]
    assert list(totals[0]["seconds"]) == ["300mbit,40ms"]
    assert totals[0]["seconds"]["300mbit,40ms"]["total"] is None  # the paper states no rounds
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_prompts_that_share_a_session(tmp_path):
    path = tmp_path / "cost.json"
    common = ["--preset", "demo", "--notation", "SM+ScFuFFN", "--context", 8, "--json", path]
    output = run(*common, "--batch", 1, "--batch", 4, "-n", 3)
    assert "8 tokens, 3 new ones, prompts together" in output and output.count("next-token") == 2
    (data,) = json.loads(path.read_text())
    one, four = data["sessions"]
    assert (one["prompts"], four["prompts"], four["length"], four["new_tokens"]) == (1, 4, 8, 3)
    prefill, together = one["works"][1], four["works"][1]
    assert prefill["runs"] == 1
    assert prefill["together"]["rounds"] == data["estimates"][0]["total"]["rounds"]
    assert together["per_prompt"]["bytes_both_ways"] < prefill["together"]["bytes_both_ways"]
    assert set(four["works"][2]["per_token"]["seconds"]) == {"loopback", "lan", "wan"}
    run(*common)
    (data,) = json.loads(path.read_text())
    assert "sessions" not in data


def products(past, length):
    """Of SM+ScFuFFN at size demo, the last row wanted: queries, keys, values and what is fused after them, d^2 each."""
    layers, d, vocabulary = 2, SIZES["demo"].hidden_size, SIZES["demo"].vocab_size
    before = (layers - 1) * (4 * length * d**2 + 2 * d * sum(range(past + 1, past + length + 1)))
    return before + (2 * length + 2) * d**2 + 2 * d * (past + length) + vocabulary * d


def record(work="prefill", context=8, server=0.5, **changed):
    """As `aero bench generate` writes it."""
    found = {"prefill": products(0, 8), "next-token": products(8, 1)}.get(work)
    extra = {"prompts": 1, "multiplications": found, "cpu_seconds": {"client": 0.25, "server": server}}
    own = {"notation": "SM+ScFuFFN", "machine": "a machine", "work": work, "context": context, **extra, **changed}
    return {"engine": "two-party", "version": "0", **own}


RECORDS = [record(), record("next-token", 9, 0.125), record("next-token", 10, 0.375)]
SERVED = ["--clients", "2", "--cores", "1", "--measured", "x"]
ASKED = ["--preset", "demo", "--notation", "SM+ScFuFFN", "--context", 8, "-n", 3, "--clients", 5, "--network", "wan"]


def test_what_a_server_holds(tmp_path):
    path, records = tmp_path / "cost.json", tmp_path / "records.json"
    records.write_text(json.dumps(RECORDS))
    output = run(*ASKED, "--cores", 2, "--measured", records, "--json", path, "--batch", 1)
    assert "5 clients at one server" in output and "measured on a machine" in output
    (data,) = json.loads(path.read_text())
    found, session = data["capacity"], {work["work"]: work["together"] for work in data["sessions"][0]["works"]}
    assert (found["clients"], found["cores"], found["length"], found["new_tokens"]) == (5, 2, 8, 3)
    assert found["processor_seconds"]["next-token"] == {"client": 0.25, "server": 0.25}
    assert [work["work"] for work in found["works"]] == ["prefill", "next-token", "answer"]
    following, cost = found["works"][1], session["next-token"]  # of two runs
    assert following["bounds"]["processors"] == pytest.approx(2 / 0.25)
    assert following["bounds"]["client-to-server"] == pytest.approx(100e6 / 8 / (cost["bytes_client_to_server"] / 2))
    alone = cost["bytes_both_ways"] / 2 * 8 / 100e6 + cost["rounds"] / 2 * 0.04 + 0.5
    assert following["bounds"]["clients"] == pytest.approx(5 / alone)
    assert (following["limit"], following["seconds_per_token"]) == ("clients", pytest.approx(alone))
    assert found["works"][2]["bounds"]["processors"] == pytest.approx(3 * 2 / (0.5 + 2 * 0.25))


def test_without_a_measurement_processors_bound_nothing(tmp_path):
    path = tmp_path / "cost.json"
    output = run(*ASKED, "--cores", 2, "--json", path)
    assert "aero bench generate --preset demo --notation 'SM+ScFuFFN' --context 8 --json FILE" in output
    (data,) = json.loads(path.read_text())
    assert data["capacity"]["processor_seconds"] is None and "sessions" not in data
    assert all("processors" not in work["bounds"] for work in data["capacity"]["works"])


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "0 machines"),
        (RECORDS[:1], "no record of a next-token"),
        ([record(engine="spu-cheetah")], "no record of a prefill"),
        ([record(), record("next-token", 9, machine="another")], "2 machines"),
        ([record(prompts=4), record("next-token", 9, prompts=4)], "4 at once, not of"),
        ([record(notation="SM"), record("next-token", 9, notation="SM")], "prefill of SM, 8 tokens"),
        ([record(), record("next-token", 10)], "next-token of SM.ScFuFFN, 10 tokens"),
        ([record(multiplications=5), RECORDS[1]], "8 tokens, 5 multiplications"),
        ([record(cpu_seconds={"client": 1}), RECORDS[1]], "no field 'server'"),
        ([record(server=0.0), RECORDS[1]], "above zero"),
        ([record(server="1"), RECORDS[1]], "not float"),
        ([{"work": "prefill"}], "engine"),
        ({}, "not a list"),
    ],
)
def test_records_of_anything_else_are_refused(records, message, tmp_path):
    path = tmp_path / "records.json"
    path.write_text(json.dumps(records))
    with pytest.raises(ValueError, match=message) as caught:
        run(*ASKED, "--cores", 2, "--measured", path)
    assert "\n" not in str(caught.value) and "records.json" in str(caught.value)


def test_a_folder_of_a_graph(tmp_path):
    graph = lowered(parse("SM"), SIZES["demo"])
    manifest.write(tmp_path / "graph.json", graph.to_json(), ())
    path = tmp_path / "cost.json"
    run(tmp_path, "--json", path)
    (data,) = json.loads(path.read_text())
    assert data["graph_digest"] == graph.digest and len(data["estimates"][0]["lines"]) > 10
    with pytest.raises(ValueError, match="a single graph"):
        run(tmp_path, "--batch", 2)


def test_a_session_with_guesses_beside_one_without(tmp_path):
    path = tmp_path / "cost.json"
    common = ["--preset", "demo", "--notation", "SM+ScFuFFN", "--context", 8, "--json", path, "-n", 9]
    output = run(*common, "--draft-length", 3, "--acceptance", 0.5)
    assert output.count("next-token") == 2 and "1, 3 guesses" in output
    (data,) = json.loads(path.read_text())
    plain, guessing = data["sessions"]
    assert "guesses" not in plain
    assert (guessing["guesses"], guessing["acceptance"], guessing["tokens_a_run"]) == (3, 0.5, 1.875)
    few, many = guessing["works"][2], plain["works"][2]
    assert 8 / 1.875 < few["runs"] < many["runs"] == 8 and few["tokens"] == many["tokens"] == 8
    for name in ("loopback", "wan"):
        assert few["per_token"]["seconds"][name]["waiting"] <= many["per_token"]["seconds"][name]["waiting"]
    assert few["per_token"]["rounds"] < 0.7 * many["per_token"]["rounds"]
    assert "1, 3 steady" in run(*common, "--draft-length", 3, "--acceptance", 0.5, "--steady")
    steady = json.loads(path.read_text())[0]["sessions"][1]
    assert steady["steady"] and few["runs"] < steady["works"][2]["runs"] < 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give a run folder"),
        (("--preset", "demo", "--notation", "SM", "--steady"), "--steady is a way to guess"),
        (("--preset", "demo"), "both --preset and --notation"),
        (("--notation", "SM"), "--preset with --notation"),
        (("--preset", "demo", "--notation", "SMX"), "unknown notation"),
        (("--preset", "demo", "--notation", "SM", "--bandwidth", "1gbit"), "give both"),
        (("--preset", "demo", "--notation", "SM", "--bandwidth", "300MB", "--rtt", "4ms"), "unknown network"),
        (("--preset", "demo", "--notation", "SM", "--profile", "nonesuch"), "no cost profile"),
        (("nowhere", "--preset", "demo"), "not both"),
        (("--preset", "demo", "--notation", "SM", "--batch", "2", "--stage", "lowered"), "leave --profile"),
        (("--preset", "demo", "--notation", "SM", "--batch", "2", "--profile", "spu-cheetah"), "leave --profile"),
        (("--preset", "demo", "--notation", "SM", "--clients", "2", "--stage", "lowered"), "--clients prices"),
        (("--preset", "demo", "--notation", "SM", "--cores", "2"), "how many clients"),
        (("--preset", "demo", "--notation", "SM", "--draft-length", "2"), "--acceptance how many hold; give both"),
        (("--preset", "demo", "--notation", "SM", "--acceptance", "0.5"), "give both"),
        (("--preset", "demo", "--notation", "SM", "--measured", "x"), "how many clients"),
        (("--preset", "demo", "--notation", "SM", "--clients", "2", "--measured", "x"), "with --cores"),
        (("--preset", "demo", "--notation", "SM", *SERVED, "--compare", "SM+LN+R"), "leave --compare"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, message):
    result = CliRunner().invoke(app, ["cost", *arguments])
    assert result.exit_code != 0
    assert isinstance(result.exception, ValueError) and message in str(result.exception)
