"""From classes and probabilities on disk to objects on disk: what is found, stored, and refused."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet  # type: ignore[import-untyped]  # has no types
import pytest
import yaozarrs
import zarr
from scipy.ndimage import binary_fill_holes
from skimage.measure import label, regionprops_table
from skimage.segmentation import clear_border
from tests.segmentations import SIZE, smooth_chances, write_segmentation

from napari_unet.app import objects as module
from napari_unet.app.objecting import result, search
from napari_unet.app.objecting.record import read_objects_record
from napari_unet.app.objects import run_objects
from napari_unet.app.segment import run_job
from napari_unet.core.boxes import Box
from napari_unet.core.events import AlreadyDone, StageChanged, Warned
from napari_unet.core.job import SegmentJob
from napari_unet.core.object_method import ObjectDefaults
from napari_unet.core.objects_events import (
    ObjectsCancelled,
    ObjectsEvent,
    ObjectsFound,
    ObjectsProgress,
    ObjectsStarted,
)
from napari_unet.core.objects_job import ObjectsJob
from napari_unet.core.watershed_options import LinkOptions, WatershedOptions
from napari_unet.errors import ConfigError, InputError, OutputExistsError, StorageError, UNetError
from napari_unet.inference.control import JobControl
from napari_unet.labels.interior_instances import interior_instances
from napari_unet.labels.linking import link_slices
from napari_unet.labels.watershed import watershed_objects

if TYPE_CHECKING:
    import numpy.typing as npt

EM = ("interior", "membrane")
CELLS = ("background", "border", "interior")
THREE = ("background", "nucleus", "vesicle")
SHAPE = (4, 40, 50)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.zarr"


def run(out: Path, **options: Any) -> list[ObjectsEvent]:
    return list(run_objects(ObjectsJob(output=str(out), **options)))


def found_in(out: Path, **options: Any) -> npt.NDArray[Any]:
    """Return the objects that a job stores."""
    last = run(out, **options)[-1]
    assert isinstance(last, ObjectsFound)
    return np.asarray(zarr.open_array(last.labels, mode="r")[:])


def renumbered(objects: npt.NDArray[Any]) -> npt.NDArray[np.uint32]:
    """Return objects numbered in the order of their first voxels, by a plain dictionary."""
    numbers: dict[int, int] = {0: 0}
    flat = [numbers.setdefault(int(value), len(numbers)) for value in objects.ravel()]
    return np.array(flat, np.uint32).reshape(objects.shape)


# ---- what is found


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    ("dimension", "connectivity"), [("2d", 1), ("2d", 2), ("3d", 1), ("3d", 3)]
)
def test_components_are_those_of_the_whole_image(
    out: Path, dimension: str, connectivity: int, workers: int
) -> None:
    classes = write_segmentation(out, smooth_chances(0, SHAPE, 3), THREE)
    found = found_in(
        out, dimension=dimension, connectivity=connectivity, block_size=16, workers=workers
    )
    wanted = np.where(classes == 1, 0, classes)
    if dimension == "3d":
        expected = label(wanted, connectivity=connectivity)  # type: ignore[no-untyped-call]  # scikit-image
    else:
        planes, used = [], 0
        for plane in wanted:
            labels = label(plane, connectivity=connectivity)  # type: ignore[no-untyped-call]  # scikit-image
            planes.append(np.where(labels, labels + used, 0))
            used += int(labels.max())
        expected = np.stack(planes)
    assert found.dtype == np.uint32
    assert found.max() > 10
    np.testing.assert_array_equal(found, renumbered(expected))


@pytest.mark.parametrize("workers", [1, 2])
def test_slices_are_flooded_whole(out: Path, workers: int) -> None:
    chances = smooth_chances(1, SHAPE, 2)
    write_segmentation(out, chances, EM)
    options = WatershedOptions(threshold=0.4, merge=0.5, sigma=0.0)
    found = found_in(
        out,
        dimension="2d",
        block_size=16,
        workers=workers,
        watershed={"threshold": 0.4, "merge": 0.5, "sigma": 0.0},
    )
    used, planes = 0, []
    for plane in chances[1]:
        planes.append(watershed_objects(plane, options) + np.uint32(used))
        used += int(planes[-1].max()) - used
    np.testing.assert_array_equal(found, renumbered(np.stack(planes)))


def test_linked_slices_are_joined_where_they_overlap(out: Path) -> None:
    chances = smooth_chances(2, SHAPE, 2, width=4.0)
    write_segmentation(out, chances, EM)
    plain = found_in(out, dimension="2d", name="plain")
    found = found_in(out, link={"threshold": 0.2})
    groups = list(range(int(plain.max()) + 1))
    for lower, upper in itertools.pairwise(plain):
        for a, b in link_slices(lower, upper, LinkOptions(threshold=0.2)).tolist():
            groups = [groups[a] if g == groups[b] else g for g in groups]
    np.testing.assert_array_equal(found, renumbered(np.array(groups)[plain]))
    assert 1 < found.max() < plain.max()


def test_a_volume_depends_on_its_grid_and_not_on_workers(out: Path) -> None:
    write_segmentation(out, smooth_chances(3, (6, 48, 48), 2, width=3.0), EM)
    one = found_in(out, dimension="3d", block_size=16)
    np.testing.assert_array_equal(
        found_in(out, dimension="3d", block_size=16, workers=3, name="b"), one
    )
    with pytest.raises(OutputExistsError, match=r"grid: .*16, 16.* -> .*32, 32"):
        run(out, dimension="3d", block_size=32)


def test_objects_of_a_volume_are_merged_across_blocks(out: Path) -> None:
    chances = np.full((2, 4, 40, 40), 0.05, np.float32)
    chances[1, :, :, 19:21] = 0.9
    chances[0] = 1 - chances[1]
    write_segmentation(out, chances, EM)
    found = found_in(out, dimension="3d", block_size=16)
    assert set(np.unique(found[..., :19])) == {1}
    assert set(np.unique(found[..., 21:])) == {2}


def test_interiors_grow_into_their_border(out: Path) -> None:
    chances = smooth_chances(4, SHAPE, 3)
    write_segmentation(out, chances, CELLS)
    found = found_in(out, dimension="2d")
    np.testing.assert_array_equal(found, renumbered(interior_instances(chances[1], chances[2])))
    small = found_in(out, dimension="2d", min_size="1", name="small")
    assert small.max() > found.max(), "the specks that are left out by default"


def test_without_probabilities_it_says_what_is_lost(out: Path) -> None:
    write_segmentation(out, smooth_chances(5, SHAPE, 2, width=4.0), EM, probable=False)
    events = run(out, dimension="2d")
    assert any(isinstance(e, Warned) and "--probabilities" in e.message for e in events)
    last = events[-1]
    assert isinstance(last, ObjectsFound)
    assert last.objects > 4
    assert "mean_probability" not in pyarrow.parquet.read_table(last.tables[1]).column_names


def test_what_the_model_says_of_objects_is_followed(out: Path) -> None:
    said = ObjectDefaults(method="components", classes=("membrane",), dimension="2d")
    classes = write_segmentation(
        out, smooth_chances(6, SHAPE, 2), EM, attributes={"objects": said.model_dump(mode="json")}
    )
    found = found_in(out)
    np.testing.assert_array_equal(found > 0, classes == 2)


def test_background_as_a_boundary_is_no_part_of_objects(out: Path) -> None:
    classes = write_segmentation(out, smooth_chances(7, SHAPE, 2, 4.0), ("background", "nucleus"))
    found = found_in(out, method="watershed", boundary="background", watershed={"merge": 0})
    np.testing.assert_array_equal(found > 0, classes == 2)
    parts = found_in(out, method="components", dimension="2d", name="parts")
    assert found.max() > 3
    assert parts.max() > 3


# ---- cleaning


@pytest.mark.parametrize("dimension", ["2d", "3d"])
def test_holes_are_filled_and_small_and_cut_objects_left_out(out: Path, dimension: str) -> None:
    chances = smooth_chances(8, (5, 45, 45), 2)
    chances[:, 1:4, 20:27, 20:27] = np.array([0.1, 0.9], np.float32).reshape(2, 1, 1, 1)
    chances[:, 2, 23, 23] = (0.9, 0.1)
    classes = write_segmentation(out, chances, ("background", "cell"))
    options = {"dimension": dimension, "block_size": 16}
    plain = found_in(out, **options)
    filled = found_in(out, **options, fill_holes=True, name="filled")
    cell = classes == 2
    if dimension == "2d":
        expected = np.stack([binary_fill_holes(plane) for plane in cell])
        cleared = np.stack([clear_border(plane) for plane in plain])  # type: ignore[no-untyped-call]  # scikit-image
    else:
        expected = binary_fill_holes(cell)
        cleared = clear_border(plain)  # type: ignore[no-untyped-call]  # scikit-image
    # Between an object and another inside it there is no hole.
    inner = [np.unique(filled[plain == k]).tolist() for k in range(1, int(plain.max()) + 1)]
    assert all(len(numbers) == 1 for numbers in inner)
    assert filled.astype(bool)[cell].all()
    assert not filled.astype(bool)[~expected].any()
    assert (filled > 0).sum() > cell.sum()
    sizes = np.bincount(plain.ravel())
    large = np.isin(plain, np.flatnonzero(sizes >= 40))
    kept = found_in(out, **options, min_size="40", name="kept")
    np.testing.assert_array_equal(kept, renumbered(np.where(large, plain, 0)))
    clear = found_in(out, **options, clear_border=True, name="clear")
    np.testing.assert_array_equal(clear, renumbered(cleared))


def test_an_object_in_a_hole_stays_an_object(out: Path) -> None:
    ring = np.zeros((1, 20, 20), bool)
    ring[0, 2:18, 2:18] = True
    ring[0, 4:16, 4:16] = False
    hole = np.zeros_like(ring)
    hole[0, 6:9, 6:9] = True
    cells = np.where(ring | hole, 0.9, 0.1).astype(np.float32)
    cells[0, 17, 17] = 0.1
    cells[0, 7, 7] = 0.1
    write_segmentation(out, np.stack([1 - cells, cells]), ("background", "cell"))
    found = found_in(out, fill_holes=True)
    assert found.max() == 2
    assert found[0, 7, 7] == found[0, 6, 6] == 2
    assert found[0, 10, 10] == 0


@pytest.mark.parametrize(
    ("size", "dimension", "smallest"),
    [("7", "3d", 7), ("7 voxels", "2d", 7), ("160 nm2", "2d", 10), ("0.0000064um3", "3d", 10)],
)
def test_sizes_have_units(out: Path, size: str, dimension: str, smallest: int) -> None:
    write_segmentation(out, smooth_chances(9, SHAPE, 2, 1.0), ("background", "cell"))
    found = found_in(out, min_size=size, dimension=dimension)
    plain = found_in(out, dimension=dimension, name="plain")
    counts = np.bincount(plain.ravel())[1:]
    assert (counts < smallest).any()
    assert sorted(np.bincount(found.ravel())[1:]) == sorted(counts[counts >= smallest])


# ---- what is stored


@pytest.mark.parametrize("version", ["0.5", "0.4"])
@pytest.mark.parametrize("axes", ["zyx", "yx"])
def test_the_result_is_a_label_image_with_a_table(out: Path, axes: str, version: str) -> None:
    shape = SHAPE if axes == "zyx" else (1, *SHAPE[1:])
    chances = smooth_chances(10, shape, 3)
    classes = write_segmentation(out, chances, THREE, axes=axes, version=version)
    events = run(out)
    last = events[-1]
    assert isinstance(last, ObjectsFound)
    assert last.name == "net-objects"
    group = out / "labels" / "net-objects"
    yaozarrs.validate_zarr_store(str(group))
    found = np.asarray(zarr.open_array(group / "0", mode="r")[:]).reshape(shape)
    table = pyarrow.parquet.read_table(last.tables[1])
    rows = {name: table.column(name).to_numpy() for name in table.column_names}
    own = np.take_along_axis(chances, classes[np.newaxis].astype(np.intp) - 1, axis=0)[0]
    expected = regionprops_table(  # type: ignore[no-untyped-call]  # scikit-image
        found, own, properties=("label", "area", "centroid", "bbox", "intensity_mean")
    )
    np.testing.assert_array_equal(rows["id"], expected["label"])
    np.testing.assert_array_equal(rows["voxels"], expected["area"])
    np.testing.assert_allclose(rows["mean_probability"], expected["intensity_mean"], atol=1e-6)
    np.testing.assert_allclose(
        rows["centroid_y_nanometer"], 8.0 + 4.0 * expected["centroid-1"], rtol=1e-12
    )
    np.testing.assert_array_equal(rows["stop_x"], expected["bbox-5"])
    measure = "volume_nanometer3" if axes == "zyx" else "area_nanometer2"
    voxel = SIZE.y * SIZE.x * (SIZE.z if axes == "zyx" else 1)
    np.testing.assert_allclose(rows[measure], rows["voxels"] * voxel)
    assert ("start_z" in rows) == (axes == "zyx")
    first = [np.flatnonzero(found.ravel() == k)[0] for k in rows["id"]]
    np.testing.assert_array_equal(rows["class"], classes.ravel()[first])
    assert set(rows["class_name"]) == {"nucleus", "vesicle"}
    with Path(last.tables[0]).open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [
        {k: type(v)(line[k]) for k, v in row.items()}
        for line, row in zip(lines, table.to_pylist(), strict=True)
    ] == table.to_pylist()


def test_nothing_in_the_output_is_foreign_to_zarr(out: Path) -> None:
    write_segmentation(out, smooth_chances(11, SHAPE, 2), EM)
    run(out)
    assert {name for name, _ in zarr.open_group(out, mode="r").groups()} >= {"labels", "tables"}
    assert sorted(p.name for p in (out / "labels").iterdir()) == [
        "net",
        "net-objects",
        "zarr.json",
    ]


def test_the_events_tell_the_story_in_order(out: Path) -> None:
    write_segmentation(out, smooth_chances(12, SHAPE, 2), EM)
    events = run(out)
    stages = [event.stage for event in events if isinstance(event, StageChanged)]
    assert list(dict.fromkeys(stages)) == [
        "opening",
        "searching",
        "joining",
        "numbering",
        "pyramid",
        "finishing",
    ]
    (started,) = (event for event in events if isinstance(event, ObjectsStarted))
    assert (started.method, started.dimension, started.blocks) == ("watershed", "linked", 4)
    assert all(e.done <= e.total for e in events if isinstance(e, ObjectsProgress))
    last = events[-1]
    assert isinstance(last, ObjectsFound)
    record = read_objects_record(Path(last.record))
    assert (record.state, record.objects) == ("complete", last.objects)
    assert record.tables == last.tables


def test_a_region_is_all_that_is_worked_on(out: Path) -> None:
    chances = smooth_chances(13, SHAPE, 3)
    region = Box((1, 7, 9), (4, 35, 46))
    classes = write_segmentation(out, chances, THREE, region=region)
    whole = found_in(out, workers=2)
    inside = np.zeros(SHAPE, bool)
    inside[region.slices] = True
    np.testing.assert_array_equal(whole > 0, (classes > 1) & inside)
    part = found_in(out, region="2:3,10:30,20:40", name="part")
    assert not part[[0, 1, 3]].any()
    wanted = np.where(classes == 1, 0, classes)[2:3, 10:30, 20:40]
    expected = label(wanted, connectivity=1)  # type: ignore[no-untyped-call]  # scikit-image
    np.testing.assert_array_equal(part[2:3, 10:30, 20:40], renumbered(expected))
    with pytest.raises(ConfigError, match="not inside what was segmented"):
        run(out, region="0:2,:,:", name="outside")


def test_no_objects_are_a_result_too(out: Path) -> None:
    chances = np.stack([np.ones(SHAPE), np.zeros(SHAPE)]).astype(np.float32)
    write_segmentation(out, chances, ("background", "cell"))
    last = run(out, fill_holes=True, clear_border=True)[-1]
    assert isinstance(last, ObjectsFound)
    assert last.objects == 0
    assert not zarr.open_array(last.labels, mode="r")[:].any()  # type: ignore[union-attr]
    assert len(Path(last.tables[0]).read_text().splitlines()) == 1


# ---- done before, stopped, failed


def test_the_same_job_again_does_nothing_and_other_options_are_refused(out: Path) -> None:
    write_segmentation(out, smooth_chances(14, SHAPE, 2), EM)
    before = found_in(out)
    assert isinstance(run(out)[-1], AlreadyDone)
    assert isinstance(run(out, workers=2)[-1], AlreadyDone)
    with pytest.raises(OutputExistsError, match=r"watershed merge: .* -> 0\.1.*--overwrite"):
        run(out, watershed={"merge": 0.1})
    np.testing.assert_array_equal(
        zarr.open_array(out / "labels/net-objects/0", mode="r")[:], before
    )
    after = found_in(out, watershed={"merge": 0.0}, overwrite=True)
    assert after.max() > before.max()


def test_a_segmentation_is_never_replaced_by_objects(out: Path) -> None:
    write_segmentation(out, smooth_chances(15, SHAPE, 2), EM, name="a")
    write_segmentation(out, smooth_chances(15, SHAPE, 2), EM, name="b")
    with pytest.raises(OutputExistsError, match="holds classes"):
        run(out, source="a", name="b", overwrite=True)
    with pytest.raises(ConfigError, match="cannot have its name"):
        run(out, source="a", name="a", overwrite=True)


def test_objects_are_never_replaced_by_a_segmentation(
    out: Path, stack_path: str, model: str
) -> None:
    write_segmentation(out, smooth_chances(15, SHAPE, 2), EM)
    run(out)
    job = {"input": stack_path, "model": model, "output": str(out), "name": "net-objects"}
    with pytest.raises(OutputExistsError, match="holds objects under the name"):
        list(run_job(SegmentJob.parse(job | {"overwrite": True}, source="test")))


def test_there_is_room_for_more_objects_than_32_bits_count(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_segmentation(out, smooth_chances(22, SHAPE, 3), THREE)
    options = {"fill_holes": True, "block_size": 16}
    few = found_in(out, **options)
    for part in (search, result, module):
        monkeypatch.setattr(part, "object_type", lambda _: np.dtype(np.uint64))
    many = found_in(out, **options, name="many")
    assert many.dtype == np.uint64
    np.testing.assert_array_equal(many, few)


@pytest.mark.parametrize("stage", ["searching", "joining", "numbering"])
def test_a_stopped_job_leaves_no_scratch_and_starts_again(out: Path, stage: str) -> None:
    write_segmentation(out, smooth_chances(16, SHAPE, 2), EM)
    control, now = JobControl(), ""
    events = []
    for event in run_objects(ObjectsJob(output=str(out)), control):
        events.append(event)
        if isinstance(event, StageChanged):
            now = event.stage
        if isinstance(event, ObjectsProgress) and now == stage:
            control.stop()
    assert events[-1] == ObjectsCancelled(str(out), "net-objects", stage)
    assert not list(out.glob("labels/.*"))
    again = run(out)
    assert isinstance(again[-1], ObjectsFound)
    warned = any(isinstance(e, Warned) and "did not finish" in e.message for e in again)
    assert warned == (stage == "numbering"), "before that, nothing of the result was there"


def test_scratch_of_a_killed_run_is_said_and_deleted(out: Path) -> None:
    write_segmentation(out, smooth_chances(17, SHAPE, 2), EM)
    left = out / "labels" / ".net-objects.scratch" / "found"
    left.mkdir(parents=True)
    (left / "c").write_bytes(b"torn")
    events = run(out)
    assert any(isinstance(e, Warned) and "did not finish" in e.message for e in events)
    assert not left.exists()


def test_an_error_leaves_no_scratch_and_no_complete_result(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_segmentation(out, smooth_chances(18, SHAPE, 2), EM)

    def full(*_: object) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(module, "write_table", full)
    with pytest.raises(StorageError, match="full"):
        run(out)
    assert not list(out.glob("labels/.*"))
    group = zarr.open_group(out / "labels" / "net-objects", mode="r")
    assert group.attrs["napari_unet"]["state"] == "incomplete"  # type: ignore[index,call-overload]
    monkeypatch.undo()
    assert isinstance(run(out)[-1], ObjectsFound)


def test_the_stream_may_be_closed(out: Path) -> None:
    write_segmentation(out, smooth_chances(19, SHAPE, 2), EM)
    events = run_objects(ObjectsJob(output=str(out), workers=2))
    while not isinstance(next(events), ObjectsProgress):
        pass
    events.close()
    assert not list(out.glob("labels/.*"))


# ---- what cannot be


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"source": "no"}, ConfigError, "no label image 'no' of classes; there are: net"),
        ({"classes": "axon"}, ConfigError, "no class 'axon'.*interior, membrane"),
        ({"boundary": "border"}, ConfigError, "no class 'border'"),
        ({"method": "interior", "dimension": "3d"}, ConfigError, "--dimension linked"),
        ({"method": "components", "boundary": "membrane"}, ConfigError, "--boundary is for"),
        ({"method": "components", "watershed": {"h": 1}}, ConfigError, "do not fit the method"),
        ({"connectivity": 2}, ConfigError, "for the method components, not for watershed"),
        ({"dimension": "2d", "link": {"threshold": 0.5}}, ConfigError, "use linked"),
        ({"watershed": {"hight": 1}}, ConfigError, "there is no setting hight"),
        ({"watershed": {"merge": 2}}, ConfigError, "merge"),
        ({"min_size": "5 parsec"}, ConfigError, "'parsec' is not a unit of length"),
        ({"min_size": "5 nm2"}, ConfigError, "is not a volume; write it as 5nm3"),
        ({"region": "0:9,:,:"}, UNetError, "does not lie in axis z"),
    ],
)
def test_what_does_not_fit_is_said_with_the_remedy(
    out: Path, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    write_segmentation(out, smooth_chances(20, SHAPE, 2), EM)
    with pytest.raises(error, match=words):
        run(out, **options)
    assert sorted(p.name for p in (out / "labels").iterdir()) == ["net", "zarr.json"]


def test_outputs_that_cannot_be_used_are_said(out: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no output of napari-unet"):
        run(tmp_path / "none.zarr")
    chances = smooth_chances(21, (1, 20, 20), 2)
    write_segmentation(out, chances, EM, state="incomplete", axes="yx")
    with pytest.raises(InputError, match="is incomplete"):
        run(out)
    write_segmentation(out, chances, EM, name="plane", axes="yx")
    with pytest.raises(ConfigError, match="2 label images of classes; choose one with --from"):
        run(out)
    with pytest.raises(ConfigError, match="is a plane"):
        run(out, source="plane", dimension="linked")
    three = tmp_path / "three.zarr"
    write_segmentation(three, smooth_chances(21, (1, 20, 20), 3), ("a", "b", "c"))
    with pytest.raises(ConfigError, match="name it with --boundary, one of a, b, c"):
        run(three, method="watershed")
