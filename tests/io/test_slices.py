"""Single planes in PNG and JPEG, and folders of them."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from napari_unet.core.boxes import Box
from napari_unet.errors import AxesError, InputError
from napari_unet.io.image import Selection, open_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_png_values(
    dtype: str, tmp_path: Path, rng: np.random.Generator, check_reads: Callable[..., None]
) -> None:
    data = rng.integers(0, np.iinfo(dtype).max, (31, 47)).astype(dtype)
    iio.imwrite(tmp_path / "eine Ebene.PNG", data, extension=".png")
    source = open_image(tmp_path / "eine Ebene.PNG")
    assert (source.name, source.spatial_axes) == ("eine Ebene", "yx")
    check_reads(source, data[None, None])


def test_one_bit_png(tmp_path: Path, check_reads: Callable[..., None]) -> None:
    data = np.eye(20, dtype=bool)
    iio.imwrite(tmp_path / "a.png", data)
    check_reads(open_image(tmp_path / "a.png"), data[None, None])


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colors_need_a_choice(
    channels: int, tmp_path: Path, rng: np.random.Generator, check_reads: Callable[..., None]
) -> None:
    data = rng.integers(0, 255, (31, 47, channels), dtype=np.uint8)
    iio.imwrite(tmp_path / "a.png", data)
    with pytest.raises(AxesError, match=f"{channels} channels.*--channel"):
        open_image(tmp_path / "a.png")
    source = open_image(tmp_path / "a.png", Selection(channel="1,0"))
    check_reads(source, np.moveaxis(data, 2, 0)[[1, 0], None])


def test_jpeg_is_what_its_decoder_says(tmp_path: Path, check_reads: Callable[..., None]) -> None:
    data = np.tile(np.arange(64, dtype=np.uint8), (40, 1))
    iio.imwrite(tmp_path / "a.jpg", data)
    check_reads(open_image(tmp_path / "a.jpg"), iio.imread(tmp_path / "a.jpg")[None, None])


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0"))


@pytest.mark.parametrize(
    "content", [b"", b"text", png_header(60_000, 60_000), png_header(10_000, 12_000)]
)
def test_damaged_and_hostile_planes(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.png"):
        open_image(tmp_path / "a.png").read(Box((0, 0, 0), (1, 1, 1)))


def test_a_large_plane_is_opened_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_header(10_000, 12_000))
    assert open_image(tmp_path / "a.png").shape == (1, 12_000, 10_000)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", "zlib.tif"])
def test_slices_are_stacked_by_the_numbers_in_their_names(
    suffix: str, tmp_path: Path, rng: np.random.Generator, check_reads: Callable[..., None]
) -> None:
    data = rng.integers(0, 60_000, (12, 31, 47)).astype(np.uint16)
    folder = tmp_path / "eine Serie"
    folder.mkdir()
    for number, plane in enumerate(data):
        file = folder / f"slice_{number}{'_' * (suffix == 'zlib.tif')}{suffix}"
        if suffix == ".png":
            iio.imwrite(file, plane)
        else:
            tifffile.imwrite(file, plane, compression="zlib" if "zlib" in suffix else None)
    (folder / ".hidden.png").write_bytes(b"junk")
    (folder / "notes.txt").write_bytes(b"junk")
    source = open_image(folder)
    assert (source.name, source.spatial_axes) == ("eine Serie", "zyx")
    check_reads(source, data[None])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_slices_in_color(
    suffix: str, tmp_path: Path, rng: np.random.Generator, check_reads: Callable[..., None]
) -> None:
    data = rng.integers(0, 255, (3, 20, 30, 3), dtype=np.uint8)
    for number, plane in enumerate(data):
        if suffix == ".png":
            iio.imwrite(tmp_path / f"{number}.png", plane)
        else:
            tifffile.imwrite(tmp_path / f"{number}.tif", plane, photometric="rgb")
    check_reads(open_image(tmp_path, Selection(channel="1")), data[None, ..., 1])


def write_planes(folder: Path, planes: list[np.ndarray[Any, Any]]) -> None:
    for number, plane in enumerate(planes):
        iio.imwrite(folder / f"s{number}.png", plane)


def test_the_odd_slice_is_named(tmp_path: Path) -> None:
    planes = [np.zeros((20, 30), np.uint8)] * 4
    write_planes(tmp_path, [*planes, np.zeros((20, 31), np.uint8)])
    with pytest.raises(InputError, match=r"s4\.png.*\(20, 31\).*s0\.png.*\(20, 30\)"):
        open_image(tmp_path)
    write_planes(tmp_path, [*planes, np.zeros((20, 30), np.uint16)])
    with pytest.raises(InputError, match=r"s4\.png.*uint16.*s0\.png.*uint8"):
        open_image(tmp_path)


def test_a_damaged_slice_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    write_planes(tmp_path, [np.full((20, 30), k, np.uint8) for k in range(3)])
    content = (tmp_path / "s1.png").read_bytes()
    (tmp_path / "s1.png").write_bytes(content[:-30])
    source = open_image(tmp_path)
    with pytest.raises(InputError, match=r"s1\.png"):
        source.read(Box((0, 0, 0), (3, 20, 30)))
    assert (source.read(Box((2, 0, 0), (3, 20, 30))) == 2).all()


def test_a_slice_that_changed_or_went_is_named(tmp_path: Path) -> None:
    write_planes(tmp_path, [np.zeros((20, 30), np.uint8)] * 3)
    tifffile.imwrite(tmp_path / "s3.tif", np.zeros((20, 30), np.uint8))
    source = open_image(tmp_path)
    iio.imwrite(tmp_path / "s1.png", np.zeros((10, 10), np.uint8))
    (tmp_path / "s2.png").unlink()
    tifffile.imwrite(tmp_path / "s3.tif", np.zeros((20, 31), np.uint8))
    for z in (1, 2, 3):
        with pytest.raises(InputError, match=rf"s{z}\."):
            source.read(Box((z, 0, 0), (z + 1, 5, 5)))


def test_a_slice_that_is_a_stack_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 20, 30), np.uint8), photometric="minisblack")
    with pytest.raises(InputError, match=r"a\.tif.*single plane"):
        open_image(tmp_path)
