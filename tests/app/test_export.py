"""Exports re-read by independent libraries equal the result, with its voxel size."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any, get_args

import h5py
import imageio.v3 as iio
import mrcfile
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.results import CLASSES, write_result

from napari_unet.app.export import run_export
from napari_unet.core.axes import VoxelSize
from napari_unet.core.boxes import Box
from napari_unet.core.events import StageChanged, Warned
from napari_unet.core.export_events import ExportCancelled, ExportFinished, ExportProgress
from napari_unet.core.export_job import ExportFormat, ExportJob
from napari_unet.errors import ConfigError, InputError, OutputExistsError, StorageError, UNetError
from napari_unet.inference.control import JobControl
from napari_unet.io.exporters import content, tiff
from napari_unet.io.image import open_image

if TYPE_CHECKING:
    from pathlib import Path

FORMATS = get_args(ExportFormat)
SUFFIXES = {"tiff": ".tif", "ome-tiff": ".ome.tif", "mrc": ".mrc", "hdf5": ".h5", "png": ".png"}


def export(out: Path, kind: str, **options: Any) -> Path:
    """Export and return the path that the last event names."""
    *_, end = run_export(ExportJob(input=str(out), format=kind, **options))
    assert isinstance(end, ExportFinished)
    return out.parent / end.output


def reread(path: Path, kind: str) -> np.ndarray[Any, Any]:
    """Return what a library that is not ours finds in a file, channels first."""
    if kind == "hdf5":
        with h5py.File(path) as file:
            return np.asarray(file["exported_data"])
    if kind == "mrc":
        with mrcfile.open(path) as mrc:
            return np.array(mrc.data)
    if kind == "png":
        if path.is_dir():
            return np.stack([iio.imread(file) for file in sorted(path.iterdir())])
        return np.asarray(iio.imread(path))
    return np.asarray(tifffile.imread(path))


def labels_of(shape: tuple[int, ...], dtype: str) -> np.ndarray[Any, Any]:
    top = 4 if dtype == "uint8" else 40000
    return np.random.default_rng(5).integers(0, top, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint32"])
@pytest.mark.parametrize("shape", [(70, 45), (3, 40, 70), (1, 20, 30)])
@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_holds_the_labels_and_their_place(
    kind: str, shape: tuple[int, ...], dtype: str, tmp_path: Path
) -> None:
    labels = labels_of(shape, dtype)
    path = export(write_result(tmp_path / "out.zarr", labels), kind)
    is_folder = kind == "png" and len(shape) == 3
    assert path == tmp_path / f"out.tiny{'' if is_folder else SUFFIXES[kind]}"
    found = reread(path, kind)
    np.testing.assert_array_equal(found.reshape(shape), labels)
    assert found.dtype.kind in "ui", "no labels become numbers with a fraction"
    if kind == "png":
        return
    with closing(open_image(path)) as source:
        np.testing.assert_array_equal(
            source.read(Box.of_shape(source.shape))[0].reshape(shape), labels
        )
        size = source.levels[0].voxel_size
        factor = {"nanometer": 1.0, "micrometer": 1e-3, "angstrom": 10.0}[str(size.unit)]
        expected = [v * factor for v in (50.0, 8.0, 4.0)]
        keep = len(source.spatial_axes)
        assert keep == len(shape) or shape[0] == 1, "ImageJ keeps no axis of one slice"
        np.testing.assert_allclose(size.zyx[-keep:], expected[-keep:], rtol=1e-6)


@settings(max_examples=25)
@given(
    shape=st.lists(st.integers(1, 40), min_size=2, max_size=3).map(tuple),
    kind=st.sampled_from(FORMATS),
    data=st.data(),
)
def test_every_region_of_every_shape(
    shape: tuple[int, ...],
    kind: str,
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    labels = labels_of(shape, data.draw(st.sampled_from(["uint8", "uint32"])))
    start = [data.draw(st.integers(0, n - 1)) for n in shape]
    stop = [data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True)]
    text = ",".join(f"{a}:{b}" for a, b in zip(start, stop, strict=True))
    out = write_result(tmp_path_factory.mktemp("export") / "out.zarr", labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(content, "MAX_PIECE_VALUES", 100)
        patch.setattr(tiff, "TILE_EDGE", 16)
        patch.setattr(tiff, "_SPAN", 2)
        found = reread(export(out, kind, region=text), kind)
    expected = labels[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
    np.testing.assert_array_equal(found.reshape(expected.shape), expected)


def test_imagej_reads_size_unit_and_classes(tmp_path: Path) -> None:
    size = VoxelSize(0.05, 0.008, 0.004, "micrometer")
    out = write_result(tmp_path / "out.zarr", labels_of((3, 20, 30), "uint8"), voxel_size=size)
    with tifffile.TiffFile(export(out, "tiff", background="cytosol")) as tif:
        metadata = tif.imagej_metadata
        assert metadata is not None
        assert (metadata["slices"], metadata["spacing"], metadata["unit"]) == (3, 0.05, "micron")
        assert metadata["Info"] == "tiny\n1 = membrane\n2 = vesicle"
        assert tif.pages[0].resolution == pytest.approx((250, 125))
        assert not tif.is_bigtiff
        assert tif.series[0].dataoffset is not None, "ImageJ opens it as a virtual stack"


def test_a_large_tiff_is_a_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff, "MAX_CLASSIC_BYTES", 1000)
    labels = labels_of((3, 20, 30), "uint8")
    out = write_result(tmp_path / "out.zarr", labels)
    for kind in ("tiff", "ome-tiff"):
        path = export(out, kind)
        with tifffile.TiffFile(path) as tif:
            assert tif.is_bigtiff
            np.testing.assert_array_equal(tif.asarray(), labels)
        with closing(open_image(path)) as source:
            assert source.levels[0].voxel_size.zyx == pytest.approx((50.0, 8.0, 4.0))


def test_ome_tiff_says_size_and_unit(tmp_path: Path) -> None:
    out = write_result(tmp_path / "out.zarr", labels_of((3, 20, 30), "uint8"))
    with tifffile.TiffFile(export(out, "ome-tiff")) as tif:
        assert tif.ome_metadata is not None
        assert tif.series[0].kind == "ome"
        pixels = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
        assert [pixels[f"PhysicalSize{a}"] for a in "ZYX"] == [50.0, 8.0, 4.0]
        assert {pixels[f"PhysicalSize{a}Unit"] for a in "ZYX"} == {"nm"}
        assert tif.series[0].axes == "ZYX"


@pytest.mark.parametrize(("shape", "kind"), [((3, 20, 30), 1), ((20, 30), 0)])
def test_mrc_passes_its_own_validator(shape: tuple[int, ...], kind: int, tmp_path: Path) -> None:
    labels = labels_of(shape, "uint32")
    out = write_result(tmp_path / "out.zarr", labels)
    path = export(out, "mrc", region="1:3,5:20,:" if kind else "5:20,:")
    assert mrcfile.validate(path)
    with mrcfile.open(path) as mrc:
        size = mrc.voxel_size
        assert (float(size.x), float(size.y)) == (40.0, 80.0)
        assert kind == 0 or float(size.z) == 500.0
        assert int(mrc.header.ispg) == kind
        origin = mrc.header.origin
        assert (float(origin.z), float(origin.y), float(origin.x)) == (500.0 * kind, 400.0, 0.0)
        assert mrc.header.dmax == mrc.data.max()


@pytest.mark.parametrize("top", [127, 200])
def test_bytes_of_mrc_mean_the_same_signed_and_unsigned(top: int, tmp_path: Path) -> None:
    labels = np.full((2, 20, 30), top, np.uint8)
    path = export(write_result(tmp_path / "out.zarr", labels), "mrc")
    with mrcfile.open(path) as mrc:
        assert int(mrc.header.mode) == (0 if top < 128 else 6)
        np.testing.assert_array_equal(mrc.data, labels)


@pytest.mark.parametrize("shape", [(3, 20, 30), (20, 30)])
def test_hdf5_has_what_ilastik_and_fiji_look_for(shape: tuple[int, ...], tmp_path: Path) -> None:
    out = write_result(tmp_path / "out.zarr", labels_of(shape, "uint8"))
    with h5py.File(export(out, "hdf5")) as file:
        assert list(file) == ["exported_data"]
        attributes = dict(file["exported_data"].attrs)
    axes = [(a["key"], a["typeFlags"]) for a in json.loads(attributes["axistags"])["axes"]]
    assert axes == [(a, 2) for a in "zyx"[-len(shape) :]]
    np.testing.assert_allclose(attributes["element_size_um"], [0.05, 0.008, 0.004][-len(shape) :])
    names = {str(k): c.name for k, c in enumerate(CLASSES, 1)}
    assert json.loads(attributes["class_names"]) == names


def test_png_keeps_the_pixel_size_and_the_numbers_of_the_slices(tmp_path: Path) -> None:
    out = write_result(tmp_path / "out.zarr", labels_of((12, 20, 30), "uint8"))
    folder = export(out, "png", region="8:11,:,:", output=str(tmp_path / "slices"))
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["tiny_z08.png", "tiny_z09.png", "tiny_z10.png"]
    with Image.open(folder / names[0]) as image:
        across, down = image.info["dpi"]
    assert (0.0254 / across, 0.0254 / down) == pytest.approx((4e-9, 8e-9), rel=1e-6)


@pytest.mark.parametrize("kind", ["tiff", "ome-tiff", "hdf5"])
@pytest.mark.parametrize("shape", [(2, 20, 30), (20, 30)])
def test_probabilities_of_all_classes(
    kind: str, shape: tuple[int, ...], tmp_path: Path, rng: np.random.Generator
) -> None:
    values = rng.random((3, *shape), np.float32)
    out = write_result(tmp_path / "out.zarr", labels_of(shape, "uint8"), values)
    path = export(out, kind, what="probabilities")
    assert path.name == f"out.tiny.probabilities{SUFFIXES[kind]}"
    found = reread(path, kind)
    paged = kind != "hdf5" and len(shape) == 3  # TIFF: all channels of a slice, then the next
    np.testing.assert_array_equal(found.swapaxes(0, 1) if paged else found, values)


def test_one_probability_as_mrc(tmp_path: Path, rng: np.random.Generator) -> None:
    values = rng.random((3, 2, 20, 30), np.float32)
    out = write_result(tmp_path / "out.zarr", labels_of((2, 20, 30), "uint8"), values)
    with pytest.raises(ConfigError, match=r"cytosol, membrane, vesicle.*--channel"):
        export(out, "mrc", what="probabilities")
    with pytest.raises(ConfigError, match="1 = membrane"):
        export(out, "mrc", what="probabilities", channel="3")
    path = export(out, "mrc", what="probabilities", channel="1")
    np.testing.assert_array_equal(reread(path, "mrc"), values[1])


@pytest.mark.parametrize("background", ["1", "cytosol"])
def test_a_class_becomes_the_background(background: str, tmp_path: Path) -> None:
    labels = np.array([[1, 2, 3], [1, 1, 3]], np.uint8)
    out = write_result(tmp_path / "out.zarr", labels)
    found = reread(export(out, "hdf5", background=background), "hdf5")
    np.testing.assert_array_equal(found, [[0, 1, 2], [0, 0, 2]])


def test_what_was_not_computed_is_said_when_it_becomes_background(tmp_path: Path) -> None:
    out = write_result(tmp_path / "out.zarr", np.array([[0, 2, 2], [1, 0, 2]], np.uint8))
    job = ExportJob(input=str(out), format="tiff", background="2")
    warnings = [e.message for e in run_export(job) if isinstance(e, Warned)]
    assert len(warnings) == 1
    assert warnings[0].startswith("2 voxels of tiny were not computed")


@pytest.mark.parametrize(
    ("dtype", "options", "message"),
    [
        ("uint32", {"background": "1"}, "holds objects"),
        ("uint8", {"background": "4"}, "1 = cytosol, 2 = membrane"),
        ("uint8", {"background": "cell"}, "no class of tiny"),
        ("uint8", {"region": "0:9,:,:"}, "axis z"),
        ("uint8", {"name": "other"}, "has tiny"),
        ("uint8", {"what": "probabilities"}, "no probabilities"),
        ("uint8", {"output": "a.ome.tif"}, "ends in .ome.tif"),
        ("uint8", {"output": "a.mrc"}, "writes a file ending in .tif or .tiff"),
    ],
)
def test_what_makes_no_sense_is_refused(
    dtype: str, options: dict[str, str], message: str, tmp_path: Path
) -> None:
    out = write_result(tmp_path / "out.zarr", labels_of((3, 20, 30), dtype))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UNetError, match=message):
        export(out, "tiff", **options)
    assert sorted(tmp_path.iterdir()) == before


def test_the_background_of_objects_is_0_already(tmp_path: Path) -> None:
    labels = labels_of((20, 30), "uint32")
    out = write_result(tmp_path / "out.zarr", labels)
    np.testing.assert_array_equal(reread(export(out, "hdf5", background="0"), "hdf5"), labels)


def test_one_of_several_results_is_chosen_by_its_name(tmp_path: Path) -> None:
    labels = labels_of((20, 30), "uint8")
    out = write_result(tmp_path / "out.zarr", labels)
    write_result(out, labels.astype(np.uint32) * 7, name="tiny-objects")
    with pytest.raises(ConfigError, match=r"tiny, tiny-objects; choose one with --name"):
        export(out, "tiff")
    found = reread(export(out, "tiff", name="tiny-objects"), "tiff")
    np.testing.assert_array_equal(found, labels * 7)


def test_large_numbers_are_exact_in_float32_or_refused(tmp_path: Path) -> None:
    labels = np.array([[0, 70000], [2**24, 5]], np.uint32)
    out = write_result(tmp_path / "out.zarr", labels)
    events = list(run_export(ExportJob(input=str(out), format="tiff")))
    assert any(isinstance(e, Warned) and "float32" in e.message for e in events)
    np.testing.assert_array_equal(reread(tmp_path / "out.tiny.tif", "tiff"), labels)
    other = write_result(tmp_path / "b.zarr", labels + 1)
    with pytest.raises(ConfigError, match=str(2**24 + 1)):
        export(other, "tiff")
    np.testing.assert_array_equal(reread(export(other, "ome-tiff"), "ome-tiff"), labels + 1)


def test_an_incomplete_result_is_refused_or_said(tmp_path: Path) -> None:
    labels = labels_of((20, 30), "uint8")
    out = write_result(tmp_path / "out.zarr", labels, complete=False)
    with pytest.raises(InputError, match="--allow-incomplete"):
        export(out, "tiff")
    job = ExportJob(input=str(out), format="tiff", allow_incomplete=True)
    events = list(run_export(job))
    assert any(isinstance(e, Warned) and "incomplete" in e.message for e in events)
    np.testing.assert_array_equal(reread(tmp_path / "out.tiny.tif", "tiff"), labels)


@pytest.mark.parametrize("kind", FORMATS)
def test_nothing_is_overwritten_silently(kind: str, tmp_path: Path) -> None:
    first, second = labels_of((2, 20, 30), "uint8"), np.ones((2, 20, 30), np.uint8)
    path = export(write_result(tmp_path / "a.zarr", first), kind)
    out = write_result(tmp_path / "b.zarr", second)
    with pytest.raises(OutputExistsError, match="--overwrite"):
        export(out, kind, output=str(path))
    np.testing.assert_array_equal(reread(path, kind), first)
    np.testing.assert_array_equal(
        reread(export(out, kind, output=str(path), overwrite=True), kind), second
    )


@pytest.mark.parametrize("kind", FORMATS)
def test_a_stopped_export_leaves_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = write_result(tmp_path / "out.zarr", labels_of((3, 20, 30), "uint8"))
    control, events = JobControl(), []
    for event in run_export(ExportJob(input=str(out), format=kind), control):
        events.append(event)
        if isinstance(event, ExportProgress):
            control.stop()
    assert isinstance(events[-1], ExportCancelled)
    assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"]


def test_a_damaged_chunk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    out = write_result(tmp_path / "out.zarr", labels_of((2, 20, 30), "uint8"))
    chunk = out / "labels" / "tiny" / "0" / "c" / "1" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-3])
    with pytest.raises(InputError, match="c/1/0/0"):
        export(out, "tiff")
    assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"]


def test_a_file_larger_than_the_disk_is_refused_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = write_result(tmp_path / "out.zarr", labels_of((2, 20, 30), "uint8"))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1199}))
    with pytest.raises(StorageError, match="free some space"):
        export(out, "mrc")
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1200}))
    export(out, "mrc")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_disk_that_gets_full_is_an_error_and_leaves_nothing(kind: str, tmp_path: Path) -> None:
    # A real limit of the system, in the middle of the file; HDF5 must not take the process down.
    import resource

    labels = labels_of((2, 300, 300), "uint8") * 50
    out = write_result(tmp_path / "out.zarr", labels)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, before[1]))
    try:
        with pytest.raises(StorageError, match="cannot be written"):
            export(out, kind)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"]


def test_progress_ends_at_its_total(tmp_path: Path) -> None:
    values = np.zeros((3, 3, 20, 30), np.float32)
    out = write_result(tmp_path / "out.zarr", labels_of((3, 20, 30), "uint8"), values)
    for kind in ("tiff", "ome-tiff", "hdf5"):
        job = ExportJob(input=str(out), format=kind, what="probabilities")
        events = list(run_export(job))
        assert isinstance(events[0], StageChanged)
        done = [(e.done, e.total) for e in events if isinstance(e, ExportProgress)]
        assert done[-1] == (1800, 1800)
        assert done == sorted(done)


def test_the_library_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = write_result(tmp_path / "out.zarr", labels_of((20, 30), "uint8"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UNetError, match=r"needs mrcfile.*napari-unet\[formats\]"):
        export(out, "mrc")
