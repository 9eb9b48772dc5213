"""Data sets are read in the folders, names, modes and formats in which they are given out.

The real ones are not in this repository, some may not be; the tests write tiny ones of their kind.
"""

from __future__ import annotations

import shutil
from contextlib import closing
from typing import TYPE_CHECKING, Any

import imageio.v3 as iio
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny_datasets import write_bowl_2018, write_cells, write_drive, write_isbi_2012

from napari_unet.core.annotation import Annotation
from napari_unet.core.boxes import Box
from napari_unet.errors import ConfigError, InputError
from napari_unet.io.datasets.catalog import DATASETS, read_dataset
from napari_unet.io.datasets.cell_tracking import (
    U373_VOXEL_SIZE,
    CellTrackingOptions,
    find_unknown,
    read_cell_tracking,
)
from napari_unet.labels.label_images import annotate
from napari_unet.labels.objects import objects_to_classes

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.io.datasets.pairs import Openable, TrainingPair

Array = npt.NDArray[Any]


def dense(what: Openable) -> Array:
    """Return all values of an image, (c, z, y, x)."""
    with closing(what.open()) as image:
        return image.read(Box.of_shape(image.shape))


def annotation_of(pair: TrainingPair) -> Annotation:
    """Return what training gets of a pair."""
    pair.check_shapes()
    with closing(pair.labels.open()) as labels:
        return annotate(labels, pair.rules, ignore=pair.ignore.open() if pair.ignore else None)


# --- ISBI 2012 ---


@pytest.fixture(params=[False, True], ids=["plain", "imagej"])
def isbi(
    tmp_path: Path, rng: np.random.Generator, request: pytest.FixtureRequest
) -> tuple[Path, Array, Array]:
    """A multi-page TIFF of 8 bit and one of 0 and 255, with and without ImageJ's description."""
    return tmp_path, *write_isbi_2012(tmp_path, rng, imagej=request.param)


def test_isbi_2012_is_one_stack_of_two_classes(isbi: tuple[Path, Array, Array]) -> None:
    root, volume, labels = isbi
    (pair,) = read_dataset("ISBI2012", root)
    np.testing.assert_array_equal(dense(pair.image)[0], volume)
    expected = Annotation.from_array(np.where(labels == 255, 1, 2), ["interior", "membrane"])
    assert annotation_of(pair) == expected
    assert pair.ignore is None
    assert pair.voxel_size is not None
    assert pair.voxel_size.zyx == (50, 4, 4)
    (root / "train-labels.tif").unlink()
    with pytest.raises(InputError, match=r"train-labels\.tif: this file is missing; ISBI 2012"):
        read_dataset("isbi2012", root)


# --- DRIVE ---


@pytest.fixture(params=[False, True], ids=["gray", "palette"])
def drive(
    tmp_path: Path, rng: np.random.Generator, request: pytest.FixtureRequest
) -> tuple[Path, dict[str, tuple[Array, Array, Array]]]:
    """RGB TIFF, and GIF for vessels and field of view."""
    return tmp_path, write_drive(tmp_path, rng, palette=request.param)


def test_drive_ignores_what_lies_outside_the_field_of_view(
    drive: tuple[Path, dict[str, tuple[Array, Array, Array]]],
) -> None:
    root, made = drive
    pairs = read_dataset("drive", root)
    assert [pair.name for pair in pairs] == list(made)
    for pair in pairs:
        image, vessels, view = made[pair.name]
        np.testing.assert_array_equal(dense(pair.image)[:, 0], image.transpose(2, 0, 1))
        expected = np.where(view, vessels + 1, 0)
        assert annotation_of(pair) == Annotation.from_array(expected, ["background", "vessel"])


def test_what_is_missing_of_drive_is_named(
    drive: tuple[Path, dict[str, tuple[Array, Array, Array]]],
) -> None:
    root, _ = drive
    manual = root / "training" / "1st_manual" / "22_manual1.gif"
    manual.unlink()
    with pytest.raises(InputError, match=r"22_manual1\.gif: this file is missing; DRIVE has trai"):
        read_dataset("drive", root)
    manual.write_bytes(b"GIF89a, cut off")
    pair = read_dataset("drive", root)[1]
    with pytest.raises(InputError, match=r"22_manual1\.gif: this image cannot be decoded"):
        pair.labels.open()
    shutil.rmtree(root / "training" / "images")
    with pytest.raises(InputError, match="images: this folder is missing; DRIVE"):
        read_dataset("drive", root)
    (root / "training" / "images").mkdir()
    with pytest.raises(InputError, match="there is no training image"):
        read_dataset("drive", root)


# --- Data Science Bowl 2018 ---


@pytest.fixture
def bowl(tmp_path: Path, rng: np.random.Generator) -> tuple[Path, dict[str, tuple[Array, Array]]]:
    """Images in RGBA, RGB and gray; nuclei that touch, in one mask file each."""
    return tmp_path, write_bowl_2018(tmp_path, rng)


def test_nuclei_that_touch_stay_two(bowl: tuple[Path, dict[str, tuple[Array, Array]]]) -> None:
    root, made = bowl
    pairs = read_dataset("dsb2018", root)
    assert [pair.name for pair in pairs] == sorted(made)
    for pair in pairs:
        image, objects = made[pair.name]
        np.testing.assert_array_equal(dense(pair.image)[:, 0], image.transpose(2, 0, 1))
        np.testing.assert_array_equal(dense(pair.labels)[0, 0], objects)
        classes = objects_to_classes(objects[np.newaxis], "border", 1)
        assert annotation_of(pair) == Annotation.from_array(classes, pair.rules.names)


def test_what_is_missing_of_the_bowl_is_named(
    bowl: tuple[Path, dict[str, tuple[Array, Array]]],
) -> None:
    root, made = bowl
    train = root / "stage1_train"
    first, *others = (train / name for name in sorted(made))
    mask = min((first / "masks").iterdir())
    iio.imwrite(mask, np.zeros((5, 5), np.uint8))
    pair = read_dataset("dsb2018", root)[0]
    with pytest.raises(InputError, match=r"the mask has the shape \(5, 5\), its image \(14, 18\)"):
        pair.labels.open()
    shutil.rmtree(others[0] / "masks")
    with pytest.raises(InputError, match="masks: this folder is missing; the Data Science Bowl"):
        read_dataset("dsb2018", root)
    (others[0] / "masks").mkdir()
    with pytest.raises(InputError, match="masks: there is no mask"):
        read_dataset("dsb2018", root)
    (first / "images" / f"{first.name}.png").unlink()
    with pytest.raises(InputError, match=r"\.png: this file is missing"):
        read_dataset("dsb2018", root)
    shutil.rmtree(train)
    with pytest.raises(InputError, match="stage1_train: this folder is missing"):
        read_dataset("dsb2018", root)
    train.mkdir()
    with pytest.raises(InputError, match="there is no image"):
        read_dataset("dsb2018", root)


# --- Cell Tracking Challenge ---


@pytest.fixture
def cells(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Two sequences of three time points; gold truth of one each, without the second cell."""
    write_cells(tmp_path, rng)
    return tmp_path


@pytest.mark.parametrize("name", ["PhC-C2DH-U373", "DIC-C2DH-HeLa"])
def test_cells_that_are_not_drawn_are_not_background(cells: Path, name: str) -> None:
    pairs = read_dataset(name, cells)
    assert [pair.name for pair in pairs] == ["01_t001", "02_t002"]
    for pair in pairs:
        annotation = annotation_of(pair)
        labels = annotation.read(Box.of_shape(annotation.shape))[0]
        np.testing.assert_array_equal(labels[55:65, 55:62] > 1, True)  # the drawn cell
        assert (labels[55:65, 95:105] == 0).all()  # the cell that is not drawn
        assert (labels[50:70, 50:55] == 1).all()  # background beside the drawn cell
        assert not labels[:50].any()  # the margin
        assert not labels[:, -50:].any()
        assert dense(pair.labels).dtype == np.uint16


def test_silver_truth_fills_in_what_gold_has_not(cells: Path) -> None:
    options = CellTrackingOptions(silver=True, margin=0)
    pairs = read_cell_tracking(cells, U373_VOXEL_SIZE, options)
    assert [pair.name for pair in pairs] == [f"{s}_t00{k}" for s in ("01", "02") for k in range(3)]
    silver, gold = annotation_of(pairs[0]), annotation_of(pairs[1])
    assert sum(silver.counts) == 120 * 160
    assert sum(gold.counts) < 120 * 160


def test_one_sequence_alone_is_read(cells: Path) -> None:
    shutil.rmtree(cells / "02")
    assert [pair.name for pair in read_dataset("phc-c2dh-u373", cells)] == ["01_t001"]


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("01", "01: this folder is missing; a training set of the Cell Tracking Challenge has"),
        ("01_GT/SEG", "SEG: this folder is missing"),
        ("01/t001.tif", r"t001\.tif: this file is missing"),
        ("02_GT/TRA/man_track002.tif", r"man_track002\.tif: this file is missing"),
    ],
)
def test_what_is_missing_of_cells_is_named(cells: Path, gone: str, message: str) -> None:
    path = cells / gone
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    with pytest.raises(InputError, match=message):
        read_dataset("phc-c2dh-u373", cells)


def test_sequences_without_any_drawn_cell_are_refused(cells: Path) -> None:
    for path in cells.glob("*_GT/SEG/*.tif"):
        path.unlink()
    with pytest.raises(InputError, match="no cells are drawn"):
        read_dataset("dic-c2dh-hela", cells)


def test_label_images_of_another_size_are_noticed(cells: Path) -> None:
    tifffile.imwrite(cells / "01" / "t001.tif", np.zeros((120, 150), np.uint8))
    pair = read_dataset("phc-c2dh-u373", cells)[0]
    with pytest.raises(InputError, match=r"01_t001: the image has the shape \(1, 120, 150\), but"):
        pair.check_shapes()
    tifffile.imwrite(cells / "01_GT" / "TRA" / "man_track001.tif", np.zeros((120, 150), np.uint16))
    assert pair.ignore is not None
    with pytest.raises(InputError, match=r"the markers have the shape \(120, 150\)"):
        pair.ignore.open()


@given(st.integers(0, 2**32), st.integers(0, 4))
def test_unknown_pixels_are_as_defined(seed: int, margin: int) -> None:
    rng = np.random.default_rng(seed)
    objects = rng.integers(0, 3, (3, 4)).repeat(3, axis=0).repeat(2, axis=1).astype(np.uint16)
    objects[rng.random(objects.shape) < 0.7] = 0
    markers = rng.integers(0, 4, objects.shape) * (rng.random(objects.shape) < 0.3)
    drawn = {(y, x) for y, x in np.argwhere(objects)}
    missing = set()
    for number in np.unique(markers[markers > 0]):
        pixels = {(y, x) for y, x in np.argwhere(markers == number)}
        if len(pixels & drawn) * 2 <= len(pixels):
            missing |= pixels - drawn
    found = find_unknown(objects, markers, margin)
    height, width = objects.shape

    def distance(y: int, x: int, to: set[tuple[int, int]]) -> float:
        return min((float(np.hypot(y - v, x - u)) for v, u in to), default=np.inf)

    for y, x in np.ndindex(objects.shape):
        inside = margin <= y < height - margin and margin <= x < width - margin
        near = distance(y, x, missing) < distance(y, x, drawn)
        assert found[y, x] == ((y, x) not in drawn and (near or not inside))


# --- all ---


@pytest.mark.parametrize("name", DATASETS)
def test_an_empty_folder_is_refused_in_words(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"this (file|folder) is missing; .* has "):
        read_dataset(name, tmp_path)
    with pytest.raises(InputError, match="give the folder that the data set was unpacked into"):
        read_dataset(name, tmp_path / "none")


def test_an_unknown_name_is_refused_with_the_names_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no data set 'drives'; choose one of isbi2012, drive, "):
        read_dataset("drives", tmp_path)
