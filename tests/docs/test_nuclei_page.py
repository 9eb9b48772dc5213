"""The page of the model `nuclei` says what the header of the model says."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_unet.app.models import find_model

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "nuclei-model.md").read_text(encoding="utf-8")
SCORES = find_model("nuclei").header.provenance.scores
COLUMNS = ("object_f1", "ap_0.5", "ap_0.6", "ap_0.7", "ap_0.8", "ap_0.9", "ap_mean")


def row(group: str, suffix: str) -> str:
    """Return the line of a table as the scores of the header make it."""
    return f"| {group} | " + " | ".join(f"{SCORES[f'{group}_{c}{suffix}']:.3f}" for c in COLUMNS)


@pytest.mark.parametrize("suffix", ["", "_pooled"])
@pytest.mark.parametrize("group", ["all", "fluorescence", "color", "brightfield"])
def test_the_tables_hold_the_scores_of_the_header(group: str, suffix: str) -> None:
    means, pooled = PAGE.split("Pooled")
    assert row(group, suffix) in (pooled if suffix else means)


def test_the_readme_names_the_scores_of_the_header() -> None:
    words = " ".join((ROOT / "README.md").read_text(encoding="utf-8").replace("*", "").split())
    for name, group in (("fluorescence", "fluorescence"), ("color", "color")):
        f1, ap = SCORES[f"{group}_object_f1"], SCORES[f"{group}_ap_mean"]
        assert f"{name} images: object F1 {f1:.3f}, mean AP {ap:.3f}" in words
