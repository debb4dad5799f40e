"""A task of one's own for lm-evaluation-harness: choices between endings, of which each begins with the same text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path


def write_task(folder: Path, endings: Sequence[str], questions: int) -> list[dict]:
    """The task `endings`, with its rows in a file beside it; gives these rows."""
    rows = [{"text": f"def f{i}(x):", "endings": list(endings), "label": i % 2} for i in range(questions)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "task.yaml").write_text(
        f"""
task: endings
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder / "rows.jsonl"}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{text}}}}"
target_delimiter: ""
doc_to_choice: endings
doc_to_target: label
metric_list: [{{metric: acc}}]
"""
    )
    return rows
