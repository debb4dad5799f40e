"""`aero bench kernels`: a time for every kernel at every level."""

import pytest

from aero.bench import kernels
from aero.kernels import native


def test_every_level_has_every_kernel(monkeypatch):
    monkeypatch.setattr(kernels, "SECONDS_EACH", 0.0)
    levels = ["portable", native.available_levels()[-1]]
    before = native.level()
    records = kernels.bench_kernels(levels, threads=2)
    assert native.level() == before and native.threads() == 1
    assert {record.extra["threads"] for record in records} == {2}
    header, rows = kernels.table(records)
    assert header == ["kernel", "for one", *dict.fromkeys(levels)]
    assert all(cell for row in rows for cell in row)
    names = {row[0] for row in rows}
    assert {
        "NTT forward, N=4096",
        "AES-CTR stream",
        "slots of P50, decrypt",
        "packing step (key switch), N=4096, 1 prime + special",
    } <= names
    assert not any(name.startswith("_") for name in names)
    assert all(record.seconds > 0 for record in records if "packing" not in record.work)


@pytest.mark.parametrize(
    "seconds, text", [(2.5e-3, "2.5 ms"), (3.14159e-6, "3.14 us"), (4e-9, "4 ns"), (1.5e-10, "0.150 ns")]
)
def test_times_are_readable(seconds, text):
    assert kernels._readable(seconds) == text
