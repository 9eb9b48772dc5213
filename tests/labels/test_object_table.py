"""Tables of objects: the sum of the blocks is the whole, and the numbers are those of skimage."""

from __future__ import annotations

import csv
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.csv  # type: ignore[import-untyped]  # has no types
import pyarrow.parquet  # type: ignore[import-untyped]  # as above
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import regionprops_table

from napari_unet.core.axes import VoxelSize
from napari_unet.core.boxes import Box
from napari_unet.errors import ConfigError, StorageError
from napari_unet.labels import object_table as module
from napari_unet.labels.object_table import (
    ObjectMeasures,
    TableRules,
    object_table,
    read_table,
    write_table,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RULES = TableRules(
    VoxelSize(40.0, 4.0, 5.0, "nanometer"), (100.0, 10.0, 20.0), ("interior", "membrane")
)


def image(seed: int, shape: tuple[int, int, int], count: int) -> dict[str, Any]:
    """Random objects that all occur, with a class each and a probability per voxel."""
    rng = np.random.default_rng(seed)
    objects = rng.integers(0, count + 1, shape, dtype=np.uint32)
    objects.reshape(-1)[:count] = np.arange(1, count + 1)
    class_of = np.concatenate([[0], rng.integers(1, 3, count)]).astype(np.uint8)
    return {
        "objects": objects,
        "classes": class_of[objects],
        "probability": rng.random(shape, dtype=np.float32),
    }


def blocks(shape: tuple[int, ...], edges: tuple[int, ...]) -> Iterator[Box]:
    for corner in np.ndindex(*(-(-n // edge) for n, edge in zip(shape, edges, strict=True))):
        start = tuple(i * edge for i, edge in zip(corner, edges, strict=True))
        stop = tuple(min(a + e, n) for a, e, n in zip(start, edges, shape, strict=True))
        yield Box(start, stop)


def measured(values: dict[str, Any], boxes: list[Box], count: int) -> ObjectMeasures:
    measures = ObjectMeasures(count, probable=True)
    for box in boxes:
        measures.add(box, *(values[name][box.slices] for name in values))
    return measures


@given(
    st.integers(0, 2**16),
    st.tuples(st.integers(1, 4), st.integers(3, 9), st.integers(3, 9)),
    st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
    st.integers(1, 9),
)
def test_the_table_of_the_blocks_is_the_table_of_the_whole(
    seed: int, shape: tuple[int, int, int], edges: tuple[int, int, int], count: int
) -> None:
    values = image(seed, shape, count)
    parts = list(blocks(shape, edges))
    random.Random(seed).shuffle(parts)
    whole = object_table(measured(values, [Box.of_shape(shape)], count), RULES)
    assert object_table(measured(values, parts, count), RULES).equals(whole)
    half = len(parts) // 2
    merged = measured(values, parts[:half], count)
    merged.merge(measured(values, parts[half:], count))
    assert object_table(merged, RULES).equals(whole)


def test_the_numbers_are_those_of_scikit_image() -> None:
    shape, count = (4, 20, 30), 12
    values = image(3, shape, count)
    table = object_table(measured(values, list(blocks(shape, (2, 7, 9))), count), RULES)
    expected = regionprops_table(  # type: ignore[no-untyped-call]  # scikit-image
        values["objects"],
        values["probability"],
        properties=("label", "area", "centroid", "bbox", "intensity_mean"),
    )
    got = {name: table.column(name).to_numpy() for name in table.column_names}
    np.testing.assert_array_equal(got["id"], expected["label"])
    np.testing.assert_array_equal(got["voxels"], expected["area"])
    np.testing.assert_allclose(got["volume_nanometer3"], expected["area"] * 40 * 4 * 5)
    for k, axis in enumerate("zyx"):
        center = expected[f"centroid-{k}"]
        np.testing.assert_allclose(got[f"centroid_{axis}_voxel"], center)
        world = RULES.translation[k] + center * RULES.voxel_size.zyx[k]
        np.testing.assert_allclose(got[f"centroid_{axis}_nanometer"], world)
        np.testing.assert_array_equal(got[f"start_{axis}"], expected[f"bbox-{k}"])
        np.testing.assert_array_equal(got[f"stop_{axis}"], expected[f"bbox-{k + 3}"])
    np.testing.assert_allclose(got["mean_probability"], expected["intensity_mean"], atol=1e-7)
    first = [np.flatnonzero(values["objects"].ravel() == n)[0] for n in got["id"]]
    np.testing.assert_array_equal(got["class"], values["classes"].ravel()[first])
    assert list(got["class_name"]) == [RULES.class_names[k - 1] for k in got["class"]]


def test_flat_objects_of_a_plane_have_an_area_and_no_z() -> None:
    measures = ObjectMeasures(1)
    box = Box((0, 2, 3), (1, 4, 6))
    measures.add(box, np.ones(box.shape, np.uint32), 2)
    table = object_table(
        measures,
        TableRules(VoxelSize(1, 0.5, 0.25), spatial_axes="yx", flat=True, class_names=("a", "b")),
    )
    (row,) = table.to_pylist()
    assert row == {
        "id": 1,
        "class": 2,
        "class_name": "b",
        "voxels": 6,
        "area_world2": 0.75,
        "centroid_y_world": 1.25,
        "centroid_x_world": 1.0,
        "centroid_y_voxel": 2.5,
        "centroid_x_voxel": 4.0,
        "start_y": 2,
        "start_x": 3,
        "stop_y": 4,
        "stop_x": 6,
    }


@pytest.mark.parametrize("count", [0, 5])
def test_both_files_hold_the_same(tmp_path: Path, count: int) -> None:
    shape = (2, 9, 9)
    values = image(1, shape, count)
    table = object_table(measured(values, [Box.of_shape(shape)], count), RULES)
    stem = tmp_path / "tables" / "my.cells-objects"
    text, parquet = write_table(table, stem)
    assert (text.name, parquet.name) == ("my.cells-objects.csv", "my.cells-objects.parquet")
    assert pyarrow.parquet.read_table(parquet).equals(table)
    with text.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == count
    for row, expected in zip(rows, table.to_pylist(), strict=True):
        assert {k: type(v)(row[k]) for k, v in expected.items()} == expected
    columns = read_table(parquet)
    assert list(columns) == table.column_names
    np.testing.assert_array_equal(columns["voxels"], table.column("voxels").to_numpy())


def test_probabilities_that_are_no_numbers_count_as_nothing() -> None:
    measures = ObjectMeasures(1, probable=True)
    box = Box((0, 0, 0), (1, 1, 4))
    chances = np.array([[[0.5, np.nan, np.inf, 0.5]]], np.float16)
    measures.add(box, np.ones(box.shape, np.uint64), 1, chances)
    (row,) = object_table(measures, RULES).to_pylist()
    assert row["mean_probability"] == 0.25


def test_what_cannot_be_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box((0, 0, 0), (1, 1, 1))
    with pytest.raises(ConfigError, match="object 9 is beyond the 3"):
        ObjectMeasures(3).add(box, np.full(box.shape, 9, np.uint32))
    with pytest.raises(StorageError, match="cannot be read"):
        read_table(tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"no table")
    with pytest.raises(StorageError, match="--overwrite"):
        read_table(tmp_path / "bad.parquet")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_atomically", full)
    with pytest.raises(StorageError, match="No space left"):
        write_table(object_table(ObjectMeasures(0), RULES), tmp_path / "a")
