"""A job record opens as its labels and its image."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_unet.app.job_files import JobRecord, write_record
from napari_unet.app.objects import run_objects
from napari_unet.core.arrays import PyramidLevel
from napari_unet.core.axes import VoxelSize
from napari_unet.core.boxes import Box
from napari_unet.core.classes import ClassInfo
from napari_unet.core.job import SegmentJob
from napari_unet.core.objects_events import ObjectsFound
from napari_unet.core.objects_job import ObjectsJob
from napari_unet.errors import ConfigError, StorageError
from napari_unet.io.image import open_image
from napari_unet.io.ome_zarr_writer import OutputSpec, create_output
from napari_unet.io.pyramid import plan_levels
from napari_unet.widgets import _result
from napari_unet.widgets import reader as reader_module
from napari_unet.widgets._spool import SpoolRequest, spool
from napari_unet.widgets.reader import get_reader
from napari_unet.widgets.samples import open_fib_sem

CLASSES = (("interior", "#3b6fb6"), ("membrane", "#e8a33d"))


@pytest.fixture
def record(tmp_path: Path, stack: Any) -> Path:
    """A finished run over a stack of 40 x 8 x 4 nm, in a folder of its own."""
    folder = tmp_path / "run"
    folder.mkdir()
    image, output = folder / "em.zarr", folder / "em.unet.zarr"
    list(spool(SpoolRequest(stack, stack.shape, image, (40.0, 8.0, 4.0), "nanometer")))
    source = open_image(image)
    infos = tuple(ClassInfo(name=name, color=color) for name, color in CLASSES)
    sink = create_output(
        OutputSpec(output, "fake", "zyx", plan_levels(source), infos), replace=False
    )
    box = Box.of_shape(source.shape)
    sink.write_labels(box, 1 + (stack > 127).astype(np.uint8))
    job = {"input": str(image), "model": "fake", "output": str(output), "name": "fake"}
    sink.finish({"job": SegmentJob.parse(job, source="test").model_dump()})
    values = {
        "state": "complete",
        "job": job,
        "command": ["napari-unet", "segment"],
        "output": str(output),
        "name": "fake",
        "labels": str(sink.labels_path),
        "classes": CLASSES,
        "provenance": {},
    }
    path = folder / "fake.unet.json"
    write_record(path, JobRecord.parse(values, source="test"))
    return path


def test_a_record_opens_in_napari(make_napari_viewer: Any, record: Path, stack: Any) -> None:
    viewer = make_napari_viewer()
    viewer.open(record, plugin="napari-unet")
    image, labels = viewer.layers
    np.testing.assert_array_equal(np.asarray(image.data), stack)
    np.testing.assert_array_equal(np.asarray(labels.data), 1 + (stack > 127))
    for layer in (image, labels):
        np.testing.assert_array_equal(layer.scale, (40, 8, 4))
        assert {str(unit) for unit in layer.units} == {"nanometer"}
    assert labels.metadata["napari-unet"]["job"]["model"] == "fake"
    with pytest.raises(StorageError, match="new Labels layer"):
        labels.paint((0, 50, 50), 2)
    np.testing.assert_allclose(labels.get_color(1), (0x3B / 255, 0x6F / 255, 0xB6 / 255, 1))


def test_a_run_that_was_moved_still_opens(record: Path, tmp_path: Path, stack: Any) -> None:
    moved = tmp_path / "elsewhere"
    shutil.move(record.parent, moved)
    path = str(moved / record.name)
    reader = get_reader(path)
    assert reader is not None
    # The image's own path is gone; labels alone are better than nothing.
    ((data, options, kind),) = reader(path)
    assert kind == "labels"
    np.testing.assert_array_equal(np.asarray(data), 1 + (stack > 127))
    assert options["units"] == ("nanometer",) * 3


def test_other_files_are_left_to_others(tmp_path: Path) -> None:
    assert get_reader(str(tmp_path / "image.tif")) is None
    assert get_reader([str(tmp_path / "a.unet.json")]) is None
    broken = tmp_path / "broken.unet.json"
    broken.write_text(json.dumps({"state": "complete"}))
    reader = get_reader(str(broken))
    assert reader is not None
    with pytest.raises(ConfigError, match="job"):
        reader(str(broken))


def test_the_sample_opens_as_it_was_stored() -> None:
    ((levels, options, kind),) = open_fib_sem()
    assert kind == "image"
    values = np.asarray(levels[0])
    assert values.ndim == 3
    assert values.std() > 10
    assert options["scale"] == (10, 10, 10)
    assert set(options["units"]) == {"nanometer"}
    assert "CC BY" in options["metadata"]["napari-unet"]["attribution"]


@pytest.fixture
def objects_record(record: Path) -> Path:
    """The objects of the finished run; `incomplete` ones lie beside them."""
    out = record.parent / "em.unet.zarr"
    events = list(run_objects(ObjectsJob(output=str(out), method="components")))
    spec = OutputSpec(out, "begun", "zyx", (open_image(record.parent / "em.zarr").levels[0],))
    create_output(dataclasses.replace(spec, label_type="uint32"), replace=False)
    last = events[-1]
    assert isinstance(last, ObjectsFound)
    return Path(last.record)


def test_objects_open_with_their_table(
    make_napari_viewer: Any, objects_record: Path, record: Path
) -> None:
    viewer = make_napari_viewer()
    viewer.open(objects_record, plugin="napari-unet")
    image, objects = viewer.layers
    assert image.name == "em.zarr"
    assert objects.name == "em.zarr: fake-objects"
    values = np.asarray(objects.data)
    assert values.dtype == np.uint32
    table = objects.features
    np.testing.assert_array_equal(table["index"], np.arange(1, values.max() + 1))
    np.testing.assert_array_equal(table["voxels"], np.bincount(values.ravel())[1:])
    np.testing.assert_array_equal(objects.scale, (40, 8, 4))
    place = tuple(int(a[0]) for a in np.nonzero(values == 2))
    viewer.dims.set_current_step(0, place[0])
    assert "voxels" in str(objects.get_status(objects.data_to_world(place), world=True))
    # The record of the classes shows them, too, but nothing that is not finished.
    viewer.layers.clear()
    viewer.open(record, plugin="napari-unet")
    assert [layer.name for layer in viewer.layers] == [
        "em.zarr",
        "em.zarr: fake",
        "em.zarr: fake-objects",
    ]


def test_objects_open_without_their_table_and_after_a_move(
    objects_record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path / "elsewhere"
    shutil.move(objects_record.parent, moved)
    path = moved / objects_record.name
    reader = get_reader(str(path))
    assert reader is not None
    ((_, options, kind),) = reader(str(path))
    assert kind == "labels"
    assert len(options["features"]["index"]) > 1
    monkeypatch.setattr(reader_module, "MAX_FEATURE_ROWS", 1)
    assert reader(str(path))[0][1]["features"] == {}
    monkeypatch.undo()
    shutil.rmtree(moved / "em.unet.zarr" / "tables")
    assert reader(str(path))[0][1]["features"] == {}
    shutil.rmtree(moved / "em.unet.zarr" / "labels" / "fake-objects")
    with pytest.raises(StorageError, match="no objects 'fake-objects' any more"):
        reader(str(path))


def test_probabilities_open_one_layer_per_class(
    make_napari_viewer: Any, record: Path, stack: Any, rng: np.random.Generator
) -> None:
    out = record.parent / "em.unet.zarr"
    source = open_image(record.parent / "em.zarr")
    infos = tuple(ClassInfo(name=name, color=color) for name, color in CLASSES)
    values = json.loads(record.read_text())
    values["job"]["probabilities"] = True
    spec = OutputSpec(
        out, "fake", "zyx", plan_levels(source), infos, probability_type="float16",
        attributes={"job": SegmentJob.parse(values["job"], source="test").model_dump()},
    )  # fmt: skip
    sink = create_output(spec, replace=True)
    box = Box.of_shape(source.shape)
    membrane = rng.random(source.shape, dtype=np.float32)
    sink.write_labels(box, 1 + (membrane > 0.5).astype(np.uint8))
    sink.write_probabilities(box, np.stack([1 - membrane, membrane]))
    record.write_text(json.dumps(values))
    for state, name in (("begun", "em.zarr: fake (unfinished)"), ("done", "em.zarr: fake")):
        if state == "done":
            sink.finish({})
        viewer = make_napari_viewer()
        viewer.open(record, plugin="napari-unet")
        names = [layer.name for layer in viewer.layers]
        assert names == ["em.zarr", name, "em.zarr: fake, interior", "em.zarr: fake, membrane"]
        chances = viewer.layers["em.zarr: fake, membrane"]
        np.testing.assert_allclose(np.asarray(chances.data), membrane, atol=1e-3)
        np.testing.assert_array_equal(chances.scale, (40, 8, 4))
        assert tuple(chances.contrast_limits) == (0, 1)
        # The classes are what was asked to be opened; these wait to be looked at.
        assert not chances.visible
        np.testing.assert_array_equal(viewer.layers[name].data, 1 + (membrane > 0.5))


def test_an_unfinished_run_shows_what_is_done_at_every_level(
    make_napari_viewer: Any, record: Path, monkeypatch: pytest.MonkeyPatch, stack: Any
) -> None:
    monkeypatch.setattr(_result, "MAX_PLANE_EDGE", 100)
    out = record.parent / "em.unet.zarr"
    source = open_image(record.parent / "em.zarr")
    infos = tuple(ClassInfo(name=name, color=color) for name, color in CLASSES)
    halved = PyramidLevel((3, 75, 100), VoxelSize(40, 16, 8, "nanometer"))
    spec = OutputSpec(out, "fake", "zyx", (source.levels[0], halved), infos)
    sink = create_output(spec, replace=True)
    part = Box((1, 0, 0), (2, 150, 100))
    sink.write_labels(part, np.full(part.shape, 2, np.uint8))
    viewer = make_napari_viewer()
    viewer.open(record, plugin="napari-unet")
    labels = viewer.layers["em.zarr: fake (unfinished)"]
    assert labels.multiscale
    fine, coarse = labels.data
    assert np.all(np.asarray(fine[1, :, :100]) == 2)
    # The stored one is empty until the run has finished.
    assert np.all(np.asarray(coarse[1, :, :50]) == 2)
    assert not np.any(np.asarray(coarse[0]))
