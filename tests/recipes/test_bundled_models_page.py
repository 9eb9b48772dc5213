"""The page of `em-membranes` says what its logs and the model's header say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from napari_unet.app.models import find_model

ROOT = Path(__file__).parents[2]
LOGS = ROOT / "recipes" / "logs"
PAGE = ROOT / "docs" / "reference" / "bundled-models.md"


def table_below(words: str) -> list[list[str]]:
    """Return the cells of the first table after some words, without its head."""
    _, found, text = PAGE.read_text(encoding="utf-8").partition(words)
    assert found
    lines = re.search(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert lines is not None
    rows = [line.strip("|").split("|") for line in lines.group().splitlines()]
    return [[cell.strip(" *") for cell in row] for row in rows[2:]]


def log(name: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((LOGS / name).read_text(encoding="utf-8"))
    return values


def test_scores_of_version_1_are_those_of_the_model_that_ships() -> None:
    scores = find_model("em-membranes").header.provenance.scores
    keys = ("boundary_f1", "plain_f1", "voi_bits", "adapted_rand_error")
    assert [row[2] for row in table_below("## Version 1")] == [f"{scores[k]:.3f}" for k in keys]


def test_the_comparison_is_the_logged_one() -> None:
    rows = table_below("(`recipes/compare.py`")
    for row, found in zip(rows, log("em_membranes_compare.json").values(), strict=True):
        assert row[1:3] == [f"{found[key]:.3f}" for key in ("before", "after")]
        assert row[3].startswith(f"{found['difference']:+.4f}")
        assert row[4] == found["verdict"]


@pytest.mark.parametrize(("key", "column"), [("boundary_f1", 3), ("plain_f1", 4), ("voi_bits", 5)])
def test_the_ablation_is_the_logged_one(key: str, column: int) -> None:
    rows = table_below("## What each part is worth")
    logged = [found["test"][key] for found in log("em_membranes_ablation.json").values()]
    assert sorted(row[column] for row in rows) == sorted(f"{value:.3f}" for value in logged)
