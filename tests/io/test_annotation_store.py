"""A stored annotation holds what a dense array would, in no more chunks than have labels."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.core.annotation import Annotation
from napari_unet.core.boxes import Box
from napari_unet.core.classes import ClassInfo
from napari_unet.core.label_kinds import LabelRules
from napari_unet.errors import AnnotationError, InputError, OutputExistsError, StorageError
from napari_unet.io.annotation_store import create_annotation_store, open_annotation_store
from napari_unet.io.image import open_image
from napari_unet.labels.label_images import annotate

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = (ClassInfo(name="cell", color="#0000ff"), ClassInfo(name="membrane", color="#ffb000"))
NAMES = ("cell", "membrane")
SHAPE, BLOCK = (3, 21, 10), (1, 8, 4)


def chunk_files(path: Path) -> set[str]:
    """Return the names of the stored chunks."""
    return {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()} - {"zarr.json"}


def random_box(rng: np.random.Generator) -> Box:
    """Return a box in the image, empty ones included."""
    ends = [np.sort(rng.integers(0, n + 1, 2)) for n in SHAPE]
    return Box(tuple(int(e[0]) for e in ends), tuple(int(e[1]) for e in ends))


@settings(max_examples=20)
@given(st.integers(0, 2**32))
def test_painting_on_disk_is_what_a_dense_array_does(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("painted") / "my strokes.zarr"
    dense = np.zeros(SHAPE, np.uint8)
    store = create_annotation_store(path, SHAPE, CLASSES, block_shape=BLOCK)
    for _ in range(3):
        box = random_box(rng)
        labels = rng.integers(0, rng.choice([1, 3]), box.shape)
        dense[box.slices] = labels
        store.write(box, labels)
    again = open_annotation_store(path)
    box = random_box(rng)
    np.testing.assert_array_equal(again.read(box), dense[box.slices])
    expected = Annotation.from_array(dense, NAMES, block_shape=BLOCK)
    assert again.load() == expected
    assert again.block_boxes() == expected.block_boxes()
    assert chunk_files(path) == {
        "c/" + "/".join(str(a // n) for a, n in zip(box.start, BLOCK, strict=True))
        for box in expected.block_boxes()
    }


def test_saving_an_annotation_replaces_what_was_there(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    path = tmp_path / "strokes.zarr"
    store = create_annotation_store(path, SHAPE, CLASSES, block_shape=BLOCK)
    store.write(Box((0, 0, 0), (1, 1, 1)), np.array([[[1]]]))
    labels = rng.integers(1, 3, SHAPE).astype(np.uint8)
    labels[:2] = 0
    annotation = Annotation.from_array(labels, NAMES, block_shape=(2, 5, 5))
    store.save(annotation)
    assert open_annotation_store(path).load() == annotation
    assert len(chunk_files(path)) == 9
    with pytest.raises(StorageError, match="with the classes cell does not fit the store"):
        store.save(Annotation(SHAPE, ["cell"]))


def test_it_is_an_image_of_kind_annotation_with_checksums(tmp_path: Path) -> None:
    path = tmp_path / "strokes.zarr"
    store = create_annotation_store(path, (1, 600, 500), CLASSES)
    store.write(Box((0, 250, 250), (1, 260, 260)), np.full((1, 10, 10), 2))
    rules = LabelRules(kind="annotation", class_names=store.class_names)
    assert annotate(open_image(path), rules) == store.load()
    document = json.loads((path / "zarr.json").read_text())
    assert [codec["name"] for codec in document["codecs"]] == ["bytes", "zstd", "crc32c"]
    assert document["attributes"]["napari_unet"]["classes"][1]["color"] == "#ffb000"
    assert open_annotation_store(path).classes == CLASSES


def test_erased_chunks_go_even_where_zarr_is_told_to_keep_empty_ones(tmp_path: Path) -> None:
    path = tmp_path / "strokes.zarr"
    create_annotation_store(path, SHAPE, CLASSES, block_shape=BLOCK)
    with zarr.config.set({"array.write_empty_chunks": True}):
        store = open_annotation_store(path)
        store.write(Box.of_shape(SHAPE), np.ones(SHAPE, np.uint8))
        assert len(chunk_files(path)) == 27
        store.write(Box.of_shape(SHAPE), np.zeros(SHAPE, np.uint8))
    assert chunk_files(path) == set()
    assert store.load().is_empty


def test_unfinished_files_of_a_killed_writer_are_no_blocks(tmp_path: Path) -> None:
    path = tmp_path / "strokes.zarr"
    store = create_annotation_store(path, SHAPE, CLASSES, block_shape=BLOCK)
    store.write(Box((0, 0, 0), (1, 1, 1)), np.array([[[1]]]))
    (path / "c" / "0" / "0" / "1.0123456789abcdef.partial").write_bytes(b"half")
    assert open_annotation_store(path).block_boxes() == (Box((0, 0, 0), BLOCK),)


@pytest.mark.parametrize("damage", ["flip", "empty"])
def test_damage_is_noticed_and_leaves_the_rest_readable(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "strokes.zarr"
    store = create_annotation_store(path, SHAPE, CLASSES, block_shape=BLOCK)
    store.write(Box.of_shape(SHAPE), np.ones(SHAPE, np.uint8))
    chunk = path / "c" / "1" / "1" / "1"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(bytes(data) if damage == "flip" else b"")
    store = open_annotation_store(path)
    assert store.read(Box((0, 0, 0), (1, 21, 10))).all()
    part = Box((1, 8, 4), (2, 9, 5))
    with pytest.raises(InputError, match=r"strokes.zarr"):
        store.load()
    with pytest.raises(InputError, match=r"strokes.zarr"):
        store.write(part, np.zeros(part.shape, np.uint8))
    whole = Box((1, 8, 4), (2, 16, 8))
    store.write(whole, np.full(whole.shape, 2))
    assert store.load().counts == (SHAPE[0] * SHAPE[1] * SHAPE[2] - whole.size, whole.size)


def test_wrong_labels_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "strokes.zarr"
    store = create_annotation_store(path, SHAPE, CLASSES, block_shape=BLOCK)
    with pytest.raises(AnnotationError, match="the label 3 is none of the 2 classes"):
        store.write(Box.of_shape(SHAPE), np.full(SHAPE, 3))
    with pytest.raises(AnnotationError, match="leaves the image"):
        store.write(Box((0, 0, 0), (4, 1, 1)), np.ones((4, 1, 1), np.uint8))
    with pytest.raises(InputError, match="leaves the image"):
        store.read(Box((0, 0, 0), (4, 1, 1)))
    assert chunk_files(path) == set()


def test_places_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no stored annotation; check the path"):
        open_annotation_store(tmp_path / "none.zarr")
    with pytest.raises(InputError, match="this is no stored annotation"):
        open_annotation_store(tmp_path)
    zarr.create_array(tmp_path / "other.zarr", shape=(2, 2), chunks=(2, 2), dtype="uint8")
    with pytest.raises(InputError, match="this is no stored annotation"):
        open_annotation_store(tmp_path / "other.zarr")
    with pytest.raises(OutputExistsError, match="something is there already"):
        create_annotation_store(tmp_path / "other.zarr", SHAPE, CLASSES)
    with pytest.raises(StorageError, match="there is no such folder"):
        create_annotation_store(tmp_path / "a" / "b.zarr", SHAPE, CLASSES)
    with pytest.raises(AnnotationError, match="0 classes"):
        create_annotation_store(tmp_path / "b.zarr", SHAPE, ())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotation_version": 2}, "has version 2, this program reads version 1"),
        ({"classes": [{"name": "a", "color": "red"}]}, "classes.0.color"),
        ({"classes": []}, "0 classes"),
        ({"more": 1}, "there is no setting more"),
    ],
)
def test_attributes_of_another_kind(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "strokes.zarr"
    create_annotation_store(path, SHAPE, CLASSES)
    document = json.loads((path / "zarr.json").read_text())
    document["attributes"]["napari_unet"].update(change)
    (path / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=message):
        open_annotation_store(path)
