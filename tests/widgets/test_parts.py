"""The parts of the panel that need no window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from napari.components import ViewerModel
from napari.layers import Image

from napari_unet.core.boxes import Box
from napari_unet.errors import ConfigError, StorageError, TilingError
from napari_unet.io.image import open_image, wrap_array
from napari_unet.io.selection import Selection
from napari_unet.widgets import _output, _spool
from napari_unet.widgets._layers import find_input, output_stem
from napari_unet.widgets._lazy_image import LazyImage
from napari_unet.widgets._output import OutputPlace, output_path
from napari_unet.widgets._progress import ProgressMeter
from napari_unet.widgets._spool import SpoolRequest, require_space, spool
from napari_unet.widgets._view import current_slice, visible_part

if TYPE_CHECKING:
    from pathlib import Path


def test_progress_in_words() -> None:
    meter = ProgressMeter(10_000_000, now=100.0)
    meter.update(0, now=101.0)
    assert meter.text() == "0 of 10 M pixels"
    meter.update(2_500_000, now=105.0)
    assert meter.text() == "2.5 M of 10 M pixels, 500 k/s, 15 s left"
    assert meter.share == 0.25


@pytest.mark.parametrize(
    "key",
    [3, -1, np.int64(2), (1, 2), (slice(1, 3), 4), (..., 5), (0, slice(2, 17, 3), slice(None, -4)),
     (slice(None), slice(4, 4)), (slice(-3, None), 7, slice(1, 9))],
)  # fmt: skip
def test_a_lazy_image_is_indexed_as_an_array(key: Any, rng: np.random.Generator) -> None:
    data = rng.integers(0, 2**16, (5, 40, 50), dtype=np.uint16)
    lazy = LazyImage(wrap_array(data, Selection(axes="zyx")))
    assert (lazy.shape, lazy.ndim, lazy.dtype, len(lazy)) == (data.shape, 3, data.dtype, 5)
    np.testing.assert_array_equal(np.asarray(lazy[key]), data[key])


def test_cutting_a_lazy_image_twice_reads_once(rng: np.random.Generator) -> None:
    data = rng.integers(0, 256, (50, 40, 50), dtype=np.uint8)
    source = wrap_array(data, Selection(axes="zyx"))
    read: list[Box] = []

    class Spy:
        def __getattr__(self, name: str) -> Any:
            return getattr(source, name)

        def read(self, box: Box) -> Any:
            read.append(box)
            return source.read(box)

    part = LazyImage(Spy())[:, 10:20, 5:30]
    assert not read
    np.testing.assert_array_equal(part[7], data[7, 10:20, 5:30])
    assert read == [Box((7, 10, 5), (8, 20, 30))]


@pytest.mark.parametrize("shape", [(7, 30, 40), (900, 700)])
def test_a_spooled_copy_is_an_image_that_the_engine_reads(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, shape: Any
) -> None:
    monkeypatch.setattr(_spool, "SLAB_BYTES", 5000)
    data = rng.normal(size=(1, *shape)).astype(">f4")
    scale = (50.0, 8.0, 4.0)[-len(shape) :]
    request = SpoolRequest(data, shape, tmp_path / "my layer.zarr", scale, "nanometer")
    shares = list(spool(request))
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(shares) > 1
    source = open_image(request.path)
    np.testing.assert_array_equal(
        source.read(Box.of_shape(source.shape))[0].reshape(shape), data[0]
    )
    assert source.levels[0].voxel_size.zyx[-len(shape) :] == scale
    assert source.levels[0].voxel_size.unit == "nanometer"
    assert source.spatial_axes == "zyx"[-len(shape) :]


def test_a_copy_that_does_not_fit_is_refused_before_it_begins(tmp_path: Path) -> None:
    import dask.array as da

    huge = da.zeros((10**6, 10**5, 10**4), dtype=np.uint8)
    request = SpoolRequest(huge, huge.shape, tmp_path / "a" / "huge.zarr", (1, 1, 1), None)
    with pytest.raises(StorageError, match=r"needs .* TB, .*TMPDIR"):
        require_space(request)
    assert not request.path.parent.exists()


def test_outputs_never_collide_with_the_image(tmp_path: Path) -> None:
    image = tmp_path / "em.zarr" / "raw" / "0"
    place = OutputPlace.NEXT_TO_IMAGE
    assert output_path(place, image, output_stem(image), None) == tmp_path / "em.unet.zarr"
    tiff = tmp_path / "stack 1.ome.tif"
    assert output_path(place, tiff, output_stem(tiff), None) == tmp_path / "stack_1.unet.zarr"
    folder = tmp_path / "results"
    assert output_path(OutputPlace.FOLDER, None, "a/b: c", folder) == folder / "a_b_c.unet.zarr"
    with pytest.raises(ConfigError, match="choose a folder"):
        output_path(place, None, "layer", None)


def test_temporary_folders_are_deleted_unless_kept(temporary_root: Path) -> None:
    folders = _output.TemporaryFolders()
    gone, kept = folders.make(), folders.make()
    assert gone.parent == temporary_root
    folders.keep(kept)
    folders.delete_all()
    assert list(temporary_root.iterdir()) == [kept]


def test_layers_are_read_from_where_they_come_from(tmp_path: Path, stack: Any) -> None:
    group = zarr.create_group(tmp_path / "plain.zarr")
    array = group.create_array("raw/0", shape=stack.shape, dtype="uint8", chunks=(1, 64, 64))
    array[:] = stack
    found = find_input(Image(zarr.open_array(tmp_path / "plain.zarr" / "raw" / "0", mode="r")))
    assert found is not None
    read = open_image(found.path, Selection(found.axes, level=found.level))
    np.testing.assert_array_equal(read.read(Box.of_shape(read.shape))[0], stack)
    # Coarser levels of a pyramid are images of their own.
    request = SpoolRequest(stack, stack.shape, tmp_path / "ome.zarr", (3, 2, 2), "micrometer")
    list(spool(request))
    found = find_input(Image(zarr.open_array(request.path / "0", mode="r")))
    assert found is not None
    assert (found.path, found.level, found.axes) == (str(request.path), 0, None)
    assert find_input(Image(stack)) is None
    assert (
        find_input(Image(stack[:, ::-1], metadata={"napari-unet": {"input": found.path}})) is None
    )


def test_slices_are_those_that_napari_shows() -> None:
    viewer = ViewerModel()
    data = np.arange(6)[:, None, None] * np.ones((6, 20, 30))
    layer = viewer.add_image(data, scale=(10, 2, 2), translate=(-7, 0, 0))
    viewer.add_image(np.zeros((30, 20, 30)), scale=(3, 2, 2))
    for z in np.linspace(-7, 40, 23):
        viewer.dims.set_point(0, z)
        shown = int(layer._slice.image.view[0, 0])
        assert current_slice(viewer, layer) == Box((shown, 0, 0), (shown + 1, 20, 30))
    viewer.dims.set_point(0, 80)
    with pytest.raises(TilingError, match="move them onto the layer"):
        current_slice(viewer, layer)
    viewer.dims.ndisplay = 3
    with pytest.raises(TilingError, match="switch to 2D"):
        visible_part(viewer, layer)
