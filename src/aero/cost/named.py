"""Files that come with aero and are asked for by name, where any file of the same kind may stand in their place."""

from __future__ import annotations

from pathlib import Path

from aero.files.reading import present


def names(folder: Path) -> list[str]:
    """Of the JSON files in a folder of the package."""
    return sorted(path.stem for path in folder.glob("*.json"))


def path_of(name_or_path: str, folder: Path, kind: str, *more: str) -> Path:
    """The file of that name in the folder, or else at that path. ValueError, listing the names and `more`, for
    neither."""
    known = names(folder)
    if name_or_path in known:
        return folder / f"{name_or_path}.json"
    if not present(path := Path(name_or_path)):
        raise ValueError(f"no {kind} {name_or_path!r}; there are {', '.join((*more, *known))}, or give a JSON file")
    return path
