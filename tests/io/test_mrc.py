"""MRC files: what mrcfile and IMOD write is read as it is meant, box by box."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import mrcfile
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.core.boxes import Box
from napari_unet.errors import AxesError, InputError
from napari_unet.io.image import Selection, open_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Check = Callable[[Any, np.ndarray[Any, Any]], None]

IMOD_STAMP = (1146047817).to_bytes(4, "little")


def write(path: Path, data: np.ndarray[Any, Any], voxel_size: Any = 0.0) -> Path:
    with mrcfile.new(path, data) as mrc:
        mrc.voxel_size = voxel_size
    return path


def patch(path: Path, at: int, data: bytes) -> None:
    with open(path, "r+b") as stream:
        stream.seek(at)
        stream.write(data)


@pytest.mark.parametrize("suffix", [".mrc", ".rec", ".st", ".map", ".MRC"])
@pytest.mark.parametrize("dtype", ["i1", "i2", "u2", "f4", "f2"])
def test_volumes_read_as_mrcfile_reads_them(
    dtype: str, suffix: str, tmp_path: Path, rng: np.random.Generator, check_reads: Check
) -> None:
    data = rng.integers(-100, 100, (4, 30, 41)).astype("i1").view("u1" if dtype == "u2" else "i1")
    path = write(tmp_path / f"a{suffix}", data.astype(dtype), (40.0, 60.0, 80.0))
    source = open_image(path)
    assert source.spatial_axes == "zyx"
    size = source.levels[0].voxel_size
    assert (size.zyx, size.unit) == ((80.0, 60.0, 40.0), "angstrom")
    check_reads(source, data.astype(dtype)[None])


@given(shape=st.lists(st.integers(1, 12), min_size=2, max_size=3), big=st.booleans())
def test_every_shape_and_byte_order(
    shape: list[int], big: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = np.arange(np.prod(shape)).reshape(shape).astype(">i2" if big else "<i2")
    path = write(tmp_path_factory.mktemp("mrc") / "a.mrc", data)
    with mrcfile.open(path) as mrc:
        assert (mrc.header.mode.dtype.byteorder == ">") == big
        expected = np.array(mrc.data)
    with closing(open_image(path)) as source:
        data = source.read(Box.of_shape(source.shape))[0]
    np.testing.assert_array_equal(data.reshape(expected.shape), expected)


def test_a_plane_is_a_plane(tmp_path: Path, check_reads: Check) -> None:
    data = np.arange(12, dtype="f4").reshape(3, 4)
    source = open_image(write(tmp_path / "a.mrc", data))
    assert source.spatial_axes == "yx"
    assert source.levels[0].voxel_size.unit is None
    check_reads(source, data[None, None])


def test_a_stack_of_volumes_needs_a_time_point(tmp_path: Path, check_reads: Check) -> None:
    data = np.arange(48, dtype="i2").reshape(2, 2, 3, 4)
    path = write(tmp_path / "a.mrc", data)
    with pytest.raises(AxesError, match="--time"):
        open_image(path)
    check_reads(open_image(path, Selection(time=1)), data[1][None])


def test_columns_that_are_not_x(tmp_path: Path, check_reads: Check) -> None:
    data = np.arange(24, dtype="i2").reshape(2, 3, 4)
    path = write(tmp_path / "a.mrc", data)
    # Columns are z, rows x and sections y.
    patch(path, 64, np.array([3, 1, 2], "<i4").tobytes())
    check_reads(open_image(path), data.transpose(2, 0, 1)[None])


@pytest.mark.parametrize(
    ("stamp", "limits", "signed"),
    [
        (IMOD_STAMP + b"\1\0\0\0", (0, 255), True),
        (IMOD_STAMP + b"\0\0\0\0", (-5, 5), False),
        (bytes(8), (-128, 127), True),
        (bytes(8), (0, 100), True),
        (bytes(8), (0, 200), False),
        (bytes(8), (0, -1), True),
    ],
)
def test_bytes_are_signed_unless_the_file_says_otherwise(
    stamp: bytes, limits: tuple[float, float], signed: bool, tmp_path: Path, check_reads: Check
) -> None:
    data = np.arange(256, dtype="u1").reshape(1, 16, 16)
    path = write(tmp_path / "a.mrc", data.view("i1"))
    patch(path, 152, stamp)
    patch(path, 76, np.array(limits, "<f4").tobytes())
    check_reads(open_image(path), (data.view("i1") if signed else data)[None])


def test_values_lie_behind_the_extended_header(tmp_path: Path, check_reads: Check) -> None:
    data = np.arange(24, dtype="i2").reshape(2, 3, 4)
    path = tmp_path / "a.mrc"
    with mrcfile.new(path, data) as mrc:
        mrc.set_extended_header(np.frombuffer(b"x" * 300, "V1"))
    check_reads(open_image(path), data[None])


def test_one_angstrom_means_unknown_as_in_imod(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mrc", np.zeros((2, 3, 4), "i1"), 1.0)
    source = open_image(path)
    assert source.levels[0].voxel_size.unit is None
    source.close()


def test_an_old_file_without_marks_is_read(tmp_path: Path, check_reads: Check) -> None:
    data = np.arange(24, dtype=">i2").reshape(2, 3, 4)
    path = write(tmp_path / "a.mrc", data)
    patch(path, 208, bytes(8))
    check_reads(open_image(path), data[None])


@pytest.mark.parametrize(
    ("at", "data", "message"),
    [
        (12, np.array([4], "<i4"), "mode 4 holds complex"),
        (12, np.array([101], "<i4"), "newstack"),
        (12, np.array([99], "<i4"), "no MRC file"),
        (0, np.array([-3], "<i4"), "no MRC file"),
        (0, np.array([2**30], "<i4"), "cut off"),
        (92, np.array([-1], "<i4"), "no MRC file"),
        (92, np.array([2**30], "<i4"), "no MRC file"),
        (88, np.array([401], "<i4"), "volumes"),
    ],
)
def test_damage_is_said(at: int, data: Any, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.mrc", np.zeros((3, 5, 4), "i2"))
    patch(path, 36, np.array([2], "<i4").tobytes())
    patch(path, at, data.tobytes())
    with pytest.raises(InputError, match=message) as error:
        open_image(path)
    assert "a.mrc" in str(error.value)


@pytest.mark.parametrize("size", [0, 500, 1024, 1200])
def test_a_cut_off_file_is_said(size: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.mrc", np.zeros((3, 10, 10), "i2"))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=r"cut off|cannot be an MRC"):
        open_image(path)


def test_a_changed_voxel_changes_the_identity(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mrc", np.zeros((3, 10, 10), "i2"))
    hashes = []
    for value in (b"\0", b"\1"):
        patch(path, 1024, value)
        with closing(open_image(path)) as source:
            hashes.append(source.identity()["sha256"])
    assert hashes[0] != hashes[1]


def test_a_closed_file_is_not_read(tmp_path: Path) -> None:
    source = open_image(write(tmp_path / "a.mrc", np.zeros((3, 10, 10), "i2")))
    source.close()
    with pytest.raises(InputError, match="closed"):
        source.read(source.sample_boxes(10)[0])


def test_what_to_install_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.mrc", np.zeros((3, 10, 10), "i2"))
    monkeypatch.setitem(__import__("sys").modules, "mrcfile.dtypes", None)
    with pytest.raises(InputError, match=r"napari-unet\[formats\]"):
        open_image(path)
