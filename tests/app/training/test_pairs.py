"""Which labels belong to which image, and in which classes they are read."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from napari_unet.app.training.data import gap_weights, open_data
from napari_unet.app.training.pairs import ImagePair, find_pairs
from napari_unet.core.annotation import Annotation
from napari_unet.core.boxes import Box
from napari_unet.core.classes import ClassInfo
from napari_unet.core.train_job import TrainJob
from napari_unet.errors import AnnotationError, ConfigError, InputError
from napari_unet.io.annotation_store import create_annotation_store
from napari_unet.training.weight_map import border_weights, pixel_weights

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt


def job(**fields: Any) -> TrainJob:
    fixed = {"output": "new", "label_kind": "annotation", "classes": ("a", "b")}
    return TrainJob.parse(fixed | fields, source="test")


def plane(value: int = 1) -> npt.NDArray[np.uint8]:
    return np.full((8, 9), value, np.uint8)


def folders(tmp_path: Path, images: list[str], labels: list[str]) -> dict[str, Any]:
    for folder, names in (("images", images), ("labels", labels)):
        (tmp_path / folder).mkdir()
        for name in names:
            iio.imwrite(tmp_path / folder / name, plane())
    return {"images": (str(tmp_path / "images"),), "labels": (str(tmp_path / "labels"),)}


def test_two_folders_are_paired_by_name(tmp_path: Path) -> None:
    given = folders(tmp_path, ["b.png", "a.png", ".hidden.png"], ["a.tif", "b.ome.tif"])
    (tmp_path / "images" / "notes.txt").write_text("no image")
    pairs = find_pairs(job(**given))
    assert [
        (pair.image.name, pair.labels.name) for pair in pairs if isinstance(pair, ImagePair)
    ] == [("a.png", "a.tif"), ("b.png", "b.ome.tif")]


def test_files_without_a_partner_are_named(tmp_path: Path) -> None:
    given = folders(tmp_path, ["a.png", "b.png"], ["a.png", "c.png"])
    with pytest.raises(InputError, match=r"images/b.png, labels/c.png have no partner"):
        find_pairs(job(**given))


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    given = folders(tmp_path, ["a.png", "a.tif"], ["a.png"])
    with pytest.raises(InputError, match=r"holds a.png and a.tif"):
        find_pairs(job(**given))


def test_an_image_counts_once_and_is_not_its_own_labels(tmp_path: Path) -> None:
    given = folders(tmp_path, ["a.png"], ["a.png"])
    image, labels = f"{given['images'][0]}/a.png", f"{given['labels'][0]}/a.png"
    with pytest.raises(ConfigError, match="given twice"):
        find_pairs(job(images=(image, given["images"][0]), labels=(labels, given["labels"][0])))
    with pytest.raises(ConfigError, match="its own labels"):
        find_pairs(job(images=(image,), labels=(image,)))


def test_a_painted_annotation_brings_names_and_colors(tmp_path: Path) -> None:
    iio.imwrite(tmp_path / "image.png", plane())
    annotation = Annotation((1, 8, 9), ("cell", "gap"))
    annotation.write(Box((0, 2, 2), (1, 3, 4)), np.array([[[1, 2]]]))
    classes = [ClassInfo(name="cell", color="#111111"), ClassInfo(name="gap", color="#222222")]
    create_annotation_store(tmp_path / "a.zarr", (1, 8, 9), classes).save(annotation)
    given = {"images": (str(tmp_path / "image.png"),), "labels": (str(tmp_path / "a.zarr"),)}
    with closing(open_data(job(**given, classes=None), None)) as data:
        assert data.classes == tuple(classes)
        assert data.volumes[0].annotation == annotation
    with closing(open_data(job(**given, classes=("gap", "x", "cell")), None)) as data:
        assert data.counts == {"gap": 1, "x": 0, "cell": 1}
    with pytest.raises(AnnotationError, match="'gap' is none of the model's classes cell, x"):
        open_data(job(**given, classes=("cell", "x")), None)


def test_values_are_mapped_by_name_in_the_order_of_the_model(tmp_path: Path) -> None:
    iio.imwrite(tmp_path / "image.png", plane())
    labels = plane(255)
    labels[0] = 0
    iio.imwrite(tmp_path / "labels.png", labels)
    given: dict[str, Any] = {
        "images": (str(tmp_path / "image.png"),),
        "labels": (str(tmp_path / "labels.png"),),
        "label_kind": "classes",
        "class_values": "0=membrane,255=cell",
    }
    with closing(open_data(job(**given, classes=None), None)) as data:
        assert list(data.counts.items()) == [("membrane", 9), ("cell", 63)]
    with closing(open_data(job(**given, classes=("cell", "membrane")), None)) as data:
        assert list(data.counts.items()) == [("cell", 63), ("membrane", 9)]


def test_gray_and_color_images_are_learnt_from_together(tmp_path: Path) -> None:
    given = folders(tmp_path, ["a.png"], ["a.png", "b.png"])
    color = np.stack([plane(), plane(2), plane(3), plane(255)], axis=-1)
    iio.imwrite(tmp_path / "images" / "b.png", color)
    with closing(open_data(job(**given), None)) as data:
        assert data.num_channels == 3
        seen = [volume.source.read(Box((0, 0, 0), (1, 1, 1))).ravel() for volume in data.volumes]
    np.testing.assert_array_equal(seen, [[1, 1, 1], [1, 2, 3]])


def test_gap_weights_of_a_box_are_those_of_the_whole_image(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    objects = np.zeros((90, 100), np.int32)
    for number in rng.integers(1, 2**30, 25):
        y, x = rng.integers(0, (80, 90))
        objects[y : y + 9, x : x + 8] = number
    tifffile.imwrite(tmp_path / "image.tif", objects.astype(np.float32), metadata=None)
    tifffile.imwrite(tmp_path / "labels.tif", objects, metadata=None)
    given: dict[str, Any] = {
        "images": (str(tmp_path / "image.tif"),),
        "labels": (str(tmp_path / "labels.tif"),),
        "axes": "yx",
        "label_kind": "instances",
        "separation": "gap",
        "classes": None,
    }
    balance = np.array([0.5, 2.0])
    with closing(open_data(job(**given), None)) as data:
        (volume,) = data.volumes
        labels = volume.annotation.read(Box.of_shape((1, 90, 100)))[0]
        numbered = np.unique(objects, return_inverse=True)[1].reshape(objects.shape)
        whole = pixel_weights(labels, balance, border_weights(numbered))
        weights = gap_weights(volume, balance)
        assert whole.max() > 3
        for box in (Box((0, 0, 0), (1, 30, 30)), Box((0, 41, 17), (1, 77, 100))):
            np.testing.assert_allclose(weights(box)[0], whole[box.slices[1:]], rtol=1e-5)
