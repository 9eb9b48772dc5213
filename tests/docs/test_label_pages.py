"""The pages on labels and data sets name what the program has: no more, no less."""

from __future__ import annotations

import re
import typing
from pathlib import Path

import pytest

from napari_unet.core.label_kinds import LabelKind, Separation
from napari_unet.io.annotation_store import StoreAttributes
from napari_unet.io.datasets.catalog import DATASETS, read_dataset

DOCS = Path(__file__).resolve().parents[2] / "docs"


def first_cells(page: str, heading: str) -> list[str]:
    """Return the code words in the first column of the first table below a heading."""
    text = "\n" + (DOCS / page).read_text(encoding="utf-8")
    _, found, after = text.partition(f"\n{heading}\n")
    assert found
    table = re.search(r"(?:^\|.*\n)+", after, flags=re.MULTILINE)
    assert table
    rows = table.group().splitlines()[2:]
    return [word for row in rows for word in re.findall(r"`([^`]+)`", row.split("|")[1])]


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("## Kinds", typing.get_args(LabelKind)),
        ("## Objects that touch", typing.get_args(Separation)),
        ("## Stored annotations", tuple(StoreAttributes.model_fields)),
    ],
)
def test_the_tables_on_labels_are_complete(heading: str, expected: tuple[str, ...]) -> None:
    assert sorted(first_cells("reference/labels.md", heading)) == sorted(expected)


@pytest.mark.parametrize(
    "heading",
    ["# Read a public data set", "## What has to be where", "## What becomes of the labels"],
)
def test_the_tables_on_data_sets_are_complete(heading: str) -> None:
    cells = first_cells("how-to/read-a-public-dataset.md", heading)
    assert sorted(cells) == sorted(DATASETS)


def test_the_layouts_on_the_page_are_those_of_the_messages(tmp_path: Path) -> None:
    text = (DOCS / "how-to/read-a-public-dataset.md").read_text(encoding="utf-8")
    for name in DATASETS:
        with pytest.raises(OSError, match="is missing") as caught:
            read_dataset(name, tmp_path)
        files = re.findall(r"[\w/*-]+\.(?:tif|png|gif)", str(caught.value).partition("; ")[2])
        assert files
        assert [file for file in files if f"`{file}`" not in text] == []
