import json

import pytest

from aero.report.record import Record, read_records, write_json, write_records

KEYS = {
    "work", "engine", "notation", "context", "seconds", "bytes_client_to_server", "bytes_server_to_client", "rounds",
    "max_abs_error", "machine", "version",
}  # fmt: skip


def test_a_result_file_is_a_list_of_records_with_all_keys(tmp_path):
    records = [Record("next-token", "spu", "SM", 16, 1.5, 10, 20, extra={"messages": 7}), Record("linear/1x2x3", "spu")]
    write_records(tmp_path / "deep" / "r.json", records)
    data = json.loads((tmp_path / "deep" / "r.json").read_text())
    assert all(set(item) >= KEYS for item in data)
    assert data[0]["messages"] == 7 and data[1]["rounds"] is None
    assert read_records(tmp_path / "deep" / "r.json") == records
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["r.json"]


@pytest.mark.parametrize(
    "wrong", [{"seconds": -1.0}, {"seconds": float("nan")}, {"engine": ""}, {"extra": {"rounds": 3}}]
)
def test_a_wrong_record_is_refused(wrong):
    with pytest.raises(ValueError, match=r"not a|negative|names|every record"):
        Record(**{"work": "w", "engine": "e", **wrong})


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "r.json"
    write_json(path, [1])
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, [float("nan")])
    assert json.loads(path.read_text()) == [1]
