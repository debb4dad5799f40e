"""The table of docs/security/errors.md is what benchmarks/errors_table.py writes from the plans."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT, PAGE = ROOT / "benchmarks" / "errors_table.py", ROOT / "docs" / "security" / "errors.md"


@pytest.fixture
def errors_table(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))  # its neighbour sections.py
    spec = importlib.util.spec_from_file_location("errors_table", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("sections", None)


def test_the_page_has_the_table_of_the_present_plans(errors_table):
    written = PAGE.read_text().split("<!-- errors: begin -->\n")[1].split("\n<!-- errors: end -->")[0]
    assert written == errors_table.section()
