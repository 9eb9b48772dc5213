"""Arrays in memory and in `.npy` files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
import zarr

from napari_unet.core.axes import VoxelSize
from napari_unet.core.boxes import Box
from napari_unet.errors import AxesError, InputError
from napari_unet.io.image import Selection, open_image, wrap_array

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ZYX = Selection(axes="zyx")
REAL_TYPES = [
    "?", "u1", "i1", "<u2", ">u2", "<i2", ">i2", "<u4", ">u4", "<i4", ">i4", "<u8", ">u8", "<i8",
    ">i8", "<f2", ">f2", "<f4", ">f4", "<f8", ">f8",
]  # fmt: skip


@pytest.mark.parametrize("dtype", REAL_TYPES)
def test_every_real_type_keeps_its_values(
    dtype: str, tmp_path: Path, check_reads: Callable[..., None], rng: np.random.Generator
) -> None:
    data = rng.integers(0, 2 if dtype == "?" else 100, (3, 7, 5)).astype(dtype)
    check_reads(wrap_array(data, ZYX), data[None])
    np.save(tmp_path / "a.npy", data)
    check_reads(open_image(tmp_path / "a.npy", ZYX), data[None])


def test_64_bit_values_are_not_rounded() -> None:
    data = np.array([[2**64 - 1, 2**63 + 1]], np.uint64)
    np.testing.assert_array_equal(wrap_array(data).read(Box((0, 0, 0), (1, 1, 2)))[0, 0], data)


@pytest.mark.parametrize(
    "data",
    [
        np.zeros((4, 4), np.complex64),
        np.full((4, 4), None),
        np.full((4, 4), "text"),
        np.zeros((4, 4), "M8[s]"),
        np.zeros((4, 4), [("a", "u1")]),
        np.zeros((4, 4), np.longdouble),
    ],
    ids=["complex", "object", "str", "datetime", "record", "longdouble"],
)
def test_other_types_are_refused(data: np.ndarray[Any, Any]) -> None:
    with pytest.raises(InputError, match=r"values of type .* convert"):
        wrap_array(data, name="cells")


@pytest.mark.parametrize("thing", [3, "text", None, [[1, 2], [3, 4]]])
def test_what_is_no_array_is_refused(thing: object) -> None:
    with pytest.raises(InputError, match="not an array"):
        wrap_array(thing)


def test_the_callers_array_is_neither_changed_nor_shared() -> None:
    data = np.arange(20).reshape(4, 5)
    read = wrap_array(data).read(Box((0, 0, 0), (1, 4, 5)))
    read[:] = -1
    assert data.min() == 0


def test_dask_computes_only_what_the_box_needs(check_reads: Callable[..., None]) -> None:
    seen = []

    def block(block_info: Any = None) -> np.ndarray[Any, Any]:
        place = block_info[None]["chunk-location"]
        seen.append(place)
        return np.full((1, 8, 8), place[0] * 100 + place[1] * 10 + place[2])

    array = da.map_blocks(block, chunks=((1,) * 4, (8, 8), (8, 8)), dtype=np.int64)
    source = wrap_array(array, ZYX)
    seen.clear()
    data = source.read(Box((2, 6, 9), (3, 10, 12)))
    assert sorted(set(seen)) == [(2, 0, 1), (2, 1, 1)]
    assert set(np.unique(data)) == {201, 211}


def test_a_failing_array_is_an_input_error() -> None:
    def fail(_: Any) -> np.ndarray[Any, Any]:
        raise ZeroDivisionError("bad block")

    array = da.map_blocks(fail, da.zeros((4, 4)), dtype=float, meta=np.empty((0, 0)))
    source = wrap_array(array, name="lazy")
    with pytest.raises(InputError, match=r"lazy.*bad block"):
        source.read(Box((0, 0, 0), (1, 2, 2)))


def test_an_array_that_breaks_its_promise_is_an_input_error() -> None:
    array = da.map_blocks(lambda b: b.astype(np.float32), da.zeros((4, 4)), dtype=np.float64)
    with pytest.raises(InputError, match="promise"):
        wrap_array(array).read(Box((0, 0, 0), (1, 2, 2)))


def test_the_axes_of_a_labelled_array_are_taken(check_reads: Callable[..., None]) -> None:
    class Labelled(np.ndarray):  # type: ignore[type-arg]
        dims = ("Z", "y", "x")

    data = np.arange(60).reshape(3, 4, 5)
    check_reads(wrap_array(data.view(Labelled)), data[None])


def test_zarr_arrays_are_read_as_zarr(tmp_path: Path, check_reads: Callable[..., None]) -> None:
    data = np.arange(3 * 20 * 30).reshape(3, 20, 30)
    stored = zarr.create_array(tmp_path / "a.zarr", data=data, chunks=(1, 8, 8))
    source = wrap_array(stored, ZYX, name="x", voxel_size=VoxelSize(3, 2, 1, "nanometer"))
    assert source.identity()["path"] == str(tmp_path / "a.zarr")
    assert source.levels[0].voxel_size == VoxelSize(3, 2, 1, "nanometer")
    check_reads(source, data[None])
    memory = zarr.create_array({}, data=data, chunks=(1, 8, 8))
    assert wrap_array(memory, ZYX).identity()["path"] is None
    assert wrap_array(memory, ZYX).count_missing_chunks(Box.of_shape((3, 20, 30))) == 0
    check_reads(wrap_array(memory, ZYX), data[None])


def test_placement_is_carried() -> None:
    source = wrap_array(
        np.zeros((4, 4)), voxel_size=VoxelSize(1, 2, 3, "micrometer"), translation=(4, 5, 6)
    )
    assert source.levels[0].translation == (4, 5, 6)
    assert source.levels[0].voxel_size.zyx == (1, 2, 3)


def test_npy_in_fortran_order(
    tmp_path: Path, planes: np.ndarray[Any, Any], check_reads: Callable[..., None]
) -> None:
    np.save(tmp_path / "f.npy", np.asfortranarray(planes))
    check_reads(open_image(tmp_path / "f.npy", ZYX), planes[None])


def test_npy_without_axes_is_ambiguous(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 4, 5)))
    with pytest.raises(AxesError, match="--axes zyx"):
        open_image(tmp_path / "a.npy")


@pytest.mark.parametrize("keep", [0, 5, 20, 130, 200])
def test_a_cut_npy_is_an_input_error(tmp_path: Path, keep: int) -> None:
    np.save(tmp_path / "a.npy", np.zeros((30, 40)))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[:keep])
    with pytest.raises(InputError, match=r"a\.npy"):
        open_image(tmp_path / "a.npy")


def test_an_npy_with_pickled_objects_is_refused_unread(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[{"x": 1}]]), allow_pickle=True)
    with pytest.raises(InputError, match="type object"):
        open_image(tmp_path / "a.npy")


def test_a_file_that_shrinks_while_open_is_an_error_not_a_crash(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((300, 400)))
    source = open_image(tmp_path / "a.npy")
    with open(tmp_path / "a.npy", "r+b") as stream:
        stream.truncate(10_000)
    with pytest.raises(InputError, match="cut off"):
        source.read(Box((0, 200, 0), (1, 300, 400)))
    source.close()


def test_reading_a_closed_image_is_an_error() -> None:
    source = wrap_array(np.zeros((4, 4)), name="cells")
    source.close()
    with pytest.raises(InputError, match="cells: the image was closed"):
        source.read(Box((0, 0, 0), (1, 1, 1)))


def test_identity_tells_content_apart() -> None:
    data = np.zeros((40, 50), np.uint8)
    first = wrap_array(data).identity()
    assert wrap_array(data.copy()).identity() == first
    data[20, 25] = 1
    assert wrap_array(data).identity()["sha256"] != first["sha256"]


def test_missing_paths_and_strange_files_are_input_errors(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    (tmp_path / "empty folder").mkdir()
    (tmp_path / "gone.zarr").mkdir()
    for name, words in {
        "not here.tif": "no such file",
        "notes.txt": r"'\.txt' cannot be read",
        "notes.txt/inner.tif": "no such file",
        "empty folder": "no zarr and no PNG",
        "gone.zarr": "no zarr metadata",
        "x" * 300 + ".tif": "cannot be reached",
    }.items():
        with pytest.raises(InputError, match=words):
            open_image(tmp_path / name)


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tif")
    with pytest.raises(InputError, match="neither a file nor a folder"):
        open_image(tmp_path / "pipe.tif")
