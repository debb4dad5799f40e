"""benchmarks/record_table.py: records become a section of a Markdown file, and the rest of the file stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from aero.report.record import Record, write_records

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "record_table.py"


@pytest.fixture
def page(tmp_path: Path):
    """Writes records as the section "s" of a page that has other text, and gives the page's lines."""

    def write(*records: Record) -> list[str]:
        out = tmp_path / "results.md"
        if not out.exists():
            out.write_text("# Results\n\nbefore\n\n<!-- s: begin -->\nold\n<!-- s: end -->\n\nafter\n")
        write_records(tmp_path / "records.json", records)
        options = ["--section", "s", "--title", "A title", "--command", "aero bench x", "--out", str(out)]
        subprocess.run([sys.executable, str(SCRIPT), str(tmp_path / "records.json"), *options], check=True)
        lines = out.read_text().splitlines()
        assert lines[:5] == ["# Results", "", "before", "", "<!-- s: begin -->"] and lines[-2:] == ["", "after"]
        return lines[5 : lines.index("<!-- s: end -->")]

    return write


def rows(lines: list[str]) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def test_a_row_for_each_record_and_notes_by_the_engines_own_name(page) -> None:
    measured = {"bytes_client_to_server": 2_500_000, "bytes_server_to_client": 0, "max_abs_error": 0.0123}
    held = {"peak_bytes": {"client": 250_000_000, "server": 1_600_000_000}}
    ours = Record("forward", "two-party", "SM", 128, 2.0, rounds=7, **measured, extra={"network": "lan", **held})
    spu = Record("forward", "spu-cheetah", "SM", 128, 30.0, extra={"network": "loopback", "note": "one layer times 12"})
    lines = page(ours, spu)
    assert lines[0] == "## A title" and lines[2] == f"Made by `aero bench x` on {ours.machine}; aero {ours.version}."
    header, rule, first, second = rows(lines)
    assert header[:5] == ["work", "engine", "model", "network", "tokens"] and rule == ["---"] * 4 + ["---:"] * 9
    assert first == [
        "forward",
        "two-party",
        "SM",
        "lan",
        "128",
        "2",
        "2.50",
        "0.00",
        "7",
        "0.25",
        "1.60",
        "1.2e-02",
        "",
    ]
    assert second == ["forward", "spu-cheetah", "SM", "loopback", "128", "30", "", "", "", "", "", "", "15.0x"]
    assert lines[-2:] == ["", "`spu-cheetah`: one layer times 12."]
    assert page(ours, spu) == lines, "written again, it is the same"


def test_oblivious_transfers_have_columns_of_their_own(page) -> None:
    times = {"sender_seconds": 2e-7, "receiver_seconds": 4e-7}
    ots = Record("ot/ferret/random", "kernels", seconds=4e-7, extra={"level": "avx2", "unit": 9, "bits": 0.7, **times})
    both = {"bytes_client_to_server": 1_000, "bytes_server_to_client": 234}
    set_up = Record("ot/ferret/set-up", "two-party", seconds=1.5, **both, extra={"level": "avx2"})
    header, rule, first, second = rows(page(ots, set_up))
    assert header[:3] == ["extension", "OTs", "level"] and rule == ["---"] * 3 + ["---:"] * 3
    assert first == ["ferret", "random", "avx2", "5.00", "2.50", "0.70 bits each"]
    assert second == ["ferret", "set-up", "avx2", "", "", "1.50 s, 1,234 bytes"]


def test_guesses_are_compared_with_none_on_the_same_network(page) -> None:
    bytes_of = {"bytes_client_to_server": 2_500_000, "bytes_server_to_client": 500_000}
    both = {"answers": 3, "other_answers": 0, "tokens": 33}
    found = [
        Record("guess", "two-party", "SM", 32, seconds, rounds=rounds, **bytes_of,
               extra={"network": network, "guesses": by, "tokens_a_step": a_step, "acceptance": held, **both})
        for network, by, seconds, rounds, a_step, held in (
            ("loopback", "none", 0.2, 90, 1.0, None), ("loopback", "phrases", 0.1, 45, 2.0, 0.5),
            ("wan", "none", 4.0, 90, 1.0, None), ("wan", "phrases", 2.5, 45, 2.0, 0.5),
        )
    ]  # fmt: skip
    header, _, plain, phrases, slow, slow_phrases = rows(page(*found))
    assert header[-3:] == ["rounds a token", "seconds a token", "of those without"]
    assert plain == ["loopback", "none", "3", "0", "33", "1.00", "", "3.00", "90", "0.2", ""]
    assert phrases == ["loopback", "phrases", "3", "0", "33", "2.00", "0.50", "3.00", "45", "0.1", "0.50"]
    assert slow[-1] == "" and slow_phrases[-1] == "0.62"


def test_kernels_have_a_column_for_each_level(page) -> None:
    found = [
        Record("kernel/ntt", "kernels", seconds=s, extra={"level": level, "unit": "polynomial", "threads": 1})
        for level, s in (("portable", 2e-3), ("avx2", 5e-4))
    ]
    header, _, row = rows(page(*found))
    assert header == ["kernel", "for one", "portable", "avx2"] and row == ["ntt", "polynomial", "2 ms", "500 us"]
