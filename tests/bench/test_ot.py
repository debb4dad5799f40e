"""`aero bench ot`: a speed for every extension at every level, and the set-up's bytes."""

from aero.bench import ot
from aero.kernels import native
from aero.mpc.ot import ferret, softspoken
from aero.mpc.ot.supply import set_up_cost


def test_every_level_has_both_extensions(monkeypatch):
    monkeypatch.setattr(ot, "REPETITIONS", 1)
    monkeypatch.setattr(ot, "_UNITS", {"ferret": 1, "softspoken": 1})
    level, before = native.available_levels()[-1], native.level()
    records = ot.bench_ot([level])
    assert native.level() == before
    assert [record.work for record in records] == [
        *(f"ot/{extension}/{kind}" for extension in ot.EXTENSIONS for kind in ("correlated", "random")),
        *(f"ot/{extension}/set-up" for extension in ot.EXTENSIONS),
    ]
    for record in records[:4]:
        extra = record.extra
        assert extra["level"] == level
        assert record.seconds == max(extra["sender_seconds"], extra["receiver_seconds"]) > 0
    silent, soft = records[0], records[2]
    assert (silent.extra["unit"], silent.bytes_client_to_server) == (ferret.UNIT, ferret.UNIT_BYTES)
    assert silent.extra["bits"] < 0.78
    assert soft.extra["unit"] == softspoken.UNIT and 31 < soft.extra["bits"] < 31.1
    for record, extension in zip(records[4:], ot.EXTENSIONS, strict=True):
        assert record.bytes_client_to_server == set_up_cost(extension).bytes_client_to_server
        assert record.rounds == 2
    header, rows = ot.table(records)
    assert len(rows) == len(records) and all(len(row) == len(header) for row in rows)
