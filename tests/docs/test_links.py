"""What the sources and the pages outside docs/ say of docs/ is there. Links between its pages: `make docs`."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [*(ROOT / "src").rglob("*.py"), *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
SOURCES += [path for path in (ROOT / "csrc").rglob("*") if path.suffix in (".h", ".cpp")]
FRONT = sorted(ROOT.glob("*.md"))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as Python-Markdown and the forges make them of plain words."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", head).strip().lower()) for head in heads}


def test_pages_that_sources_name_exist():
    named = {
        (str(path.relative_to(ROOT)), page)
        for path in [*SOURCES, *FRONT]
        for page in re.findall(r"\bdocs/[\w/-]+\.\w+", path.read_text(encoding="utf-8"))
    }
    assert len(named) > 30
    assert not [(path, page) for path, page in named if not (ROOT / page).is_file()]


@pytest.mark.parametrize("page", FRONT, ids=lambda page: page.name)
def test_links_of_the_front_pages_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]+)(?:#([^)\s]+))?\)", page.read_text(encoding="utf-8")):
        assert (ROOT / target).exists(), target
        assert not anchor or anchor in anchors(ROOT / target), f"{target}#{anchor}"
