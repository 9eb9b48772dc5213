"""The page on evaluation names every field of its files, and every family of scores."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_unet.app.evaluate import evaluate
from napari_unet.app.evaluation.tables import CSV_COLUMNS
from napari_unet.app.evaluation.words import FAMILIES, METRICS
from napari_unet.core.evaluate_job import EvaluateJob

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "evaluate.md").read_text(
    encoding="utf-8"
)


def words(text: str) -> set[str]:
    """Return what stands between backticks."""
    return set(re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text))


def first_cells(heading: str) -> set[str]:
    """Return the code words in the first column of the table below a heading."""
    _, found, after = PAGE.partition(f"\n{heading}\n")
    assert found
    rows = re.search(r"(?:^\|.*\n)+", after, flags=re.MULTILINE)
    assert rows
    return {word for row in rows.group().splitlines()[2:] for word in words(row.split("|")[1])}


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    np.save(tmp_path / "t.npy", np.eye(30, dtype=np.uint8))
    job = {
        "predictions": [str(tmp_path / "t.npy")],
        "truths": [str(tmp_path / "u.npy")],
        "truth_kind": "instances",
        "output": str(tmp_path / "out"),
        "resamples": 2,
    }
    np.save(tmp_path / "u.npy", np.eye(30, dtype=np.uint8))
    evaluate(EvaluateJob.parse(job, source="test"))
    text = (tmp_path / "out" / "metrics.json").read_text(encoding="utf-8")
    result: dict[str, Any] = json.loads(text)
    return result


def test_every_field_of_the_document_is_described(document: dict[str, Any]) -> None:
    assert first_cells("### `metrics.json`") == set(document)
    described = first_cells("### A prediction in `metrics.json`")
    assert described == set(document["predictions"][0])
    assert set(CSV_COLUMNS) <= words(PAGE)


def test_every_family_is_named_and_every_metric_has_a_name(document: dict[str, Any]) -> None:
    assert set(FAMILIES) <= words(PAGE)
    metrics = {key.split(".")[1] for key in document["predictions"][0]["scores"]}
    assert metrics <= set(METRICS)
