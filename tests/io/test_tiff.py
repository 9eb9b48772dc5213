"""TIFF in all its dialects: values, axes, voxel sizes, what is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from napari_unet.core.axes import VoxelSize
from napari_unet.core.boxes import Box
from napari_unet.errors import AxesError, InputError
from napari_unet.io.image import Selection, open_image
from napari_unet.io.raw_file import RawFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ZYX = Selection(axes="zyx")
GRAY = {"photometric": "minisblack"}
LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "pages": {"metadata": None},
    "pages, strips": {"metadata": None, "rowsperstrip": 7},
    "strips": {"rowsperstrip": 7},
    "deflate": {"compression": "zlib"},
    "deflate strips": {"compression": "zlib", "rowsperstrip": 7, "metadata": None},
    "deflate tiles": {"compression": "zlib", "tile": (32, 16)},
    "tiles": {"tile": (32, 16)},
    "predictor": {"compression": "zlib", "predictor": True, "tile": (32, 32)},
    "big endian": {"byteorder": ">"},
    "big endian deflate": {"byteorder": ">", "compression": "zlib"},
    "BigTIFF": {"bigtiff": True},
    "BigTIFF deflate": {"bigtiff": True, "compression": "zlib", "metadata": None},
    "deflate, axes": {"compression": "zlib", "metadata": {"axes": "ZYX"}},
    "ImageJ": {"imagej": True},
    "OME": {"ome": True},
    "OME deflate": {"ome": True, "compression": "zlib", "tile": (16, 16)},
    "volume tiles": {"tile": (4, 16, 16), "compression": "zlib"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_of_every_layout(
    layout: str, tmp_path: Path, planes: np.ndarray[Any, Any], check_reads: Callable[..., None]
) -> None:
    path = tmp_path / "ein Stapel ü.tif"
    tifffile.imwrite(path, planes, **GRAY, **LAYOUTS[layout])
    source = open_image(path, ZYX)
    assert source.count_missing_chunks(Box.of_shape(source.shape)) == 0
    check_reads(source, planes[None])


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(
    "dtype", ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]
)
def test_every_real_type(
    dtype: str, compression: str | None, tmp_path: Path, check_reads: Callable[..., None]
) -> None:
    data = (np.arange(20 * 40).reshape(20, 40) % 2).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", data, compression=compression, **GRAY)
    check_reads(open_image(tmp_path / "a.tif"), data[None, None])


def test_complex_values_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 8), np.complex64))
    with pytest.raises(InputError, match="complex64"):
        open_image(tmp_path / "a.tif")


@pytest.mark.parametrize("layout", ["plain", "pages", "deflate", "tiles"])
def test_a_stack_without_axes_is_ambiguous(
    layout: str, tmp_path: Path, planes: np.ndarray[Any, Any]
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", planes, **GRAY, **LAYOUTS[layout])
    with pytest.raises(AxesError, match=r"a\.tif.*--axes zyx"):
        open_image(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "options",
    [{"imagej": True}, {"ome": True}, {}],
    ids=["ImageJ", "OME", "tifffile"],
)
def test_axes_that_the_file_says_are_taken(
    options: dict[str, Any],
    tmp_path: Path,
    planes: np.ndarray[Any, Any],
    check_reads: Callable[..., None],
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", planes, **GRAY, metadata={"axes": "ZYX"}, **options)
    check_reads(open_image(tmp_path / "a.tif"), planes[None])


@pytest.mark.parametrize("options", [{"imagej": True}, {"ome": True, "compression": "zlib"}])
def test_channels_and_time_are_chosen(
    options: dict[str, Any],
    tmp_path: Path,
    rng: np.random.Generator,
    check_reads: Callable[..., None],
) -> None:
    data = rng.integers(0, 255, (2, 3, 4, 20, 30), dtype=np.uint8)  # tzcyx
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, data, **GRAY, metadata={"axes": "TZCYX"}, **options)
    with pytest.raises(AxesError, match="--channel"):
        open_image(path)
    with pytest.raises(AxesError, match="--time"):
        open_image(path, Selection(channel="0"))
    source = open_image(path, Selection(channel="3,0,1", time=1))
    assert source.name == "a"
    check_reads(source, data[1][:, [3, 0, 1]].transpose(1, 0, 2, 3))


@pytest.mark.parametrize(
    "options",
    [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"planarconfig": "separate"}],
    ids=["plain", "deflate", "tiles", "separate"],
)
def test_colors_need_a_choice(
    options: dict[str, Any],
    tmp_path: Path,
    rng: np.random.Generator,
    check_reads: Callable[..., None],
) -> None:
    data = rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)
    separate = "planarconfig" in options
    stored = np.moveaxis(data, 2, 0) if separate else data
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", **options)
    axes = "cyx" if separate else None
    with pytest.raises(AxesError, match="3 channels"):
        open_image(tmp_path / "a.tif", Selection(axes=axes))
    source = open_image(tmp_path / "a.tif", Selection(axes=axes, channel="2,0"))
    check_reads(source, np.moveaxis(data, 2, 0)[[2, 0], None])


def test_a_stack_in_color(
    tmp_path: Path, rng: np.random.Generator, check_reads: Callable[..., None]
) -> None:
    data = rng.integers(0, 255, (4, 20, 30, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="rgb", compression="zlib")
    source = open_image(tmp_path / "a.tif", Selection(axes="zyxc", channel="1"))
    check_reads(source, data[None, ..., 1])


# ---- voxel sizes


@pytest.mark.parametrize(
    ("options", "metadata", "expected"),
    [
        (
            {"imagej": True, "resolution": (1 / 0.5, 1 / 0.25)},
            {"spacing": 3.0, "unit": "um"},
            VoxelSize(3.0, 0.25, 0.5, "micrometer"),
        ),
        (
            {"imagej": True, "resolution": (1 / 4, 1 / 4)},
            {"spacing": 40.0, "unit": "\\u00B5m"},
            VoxelSize(40.0, 4.0, 4.0, "micrometer"),
        ),
        ({"imagej": True, "resolution": (72, 72)}, {"unit": "inch"}, VoxelSize()),
        ({"imagej": True, "resolution": (2, 2)}, {"unit": "pixel"}, VoxelSize()),
        (
            {"ome": True},
            {
                "PhysicalSizeX": 4.0,
                "PhysicalSizeXUnit": "nm",
                "PhysicalSizeY": 5.0,
                "PhysicalSizeYUnit": "nm",
                "PhysicalSizeZ": 0.045,
            },
            VoxelSize(45.0, 5.0, 4.0, "nanometer"),
        ),
        (
            {"ome": True},
            {"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1, "PhysicalSizeZ": 0.3},
            VoxelSize(0.3, 0.1, 0.1, "micrometer"),
        ),
        ({"ome": True}, {"PhysicalSizeX": 0.0, "PhysicalSizeY": 0.1}, VoxelSize()),
        ({"ome": True}, {}, VoxelSize()),
        ({"resolution": (300, 300), "resolutionunit": "INCH"}, {}, VoxelSize()),
    ],
)
def test_voxel_sizes(
    options: dict[str, Any],
    metadata: dict[str, Any],
    expected: VoxelSize,
    tmp_path: Path,
    planes: np.ndarray[Any, Any],
) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", planes, **GRAY, **options, metadata={"axes": "ZYX", **metadata}
    )
    source = open_image(tmp_path / "a.tif")
    found = source.levels[0].voxel_size
    source.close()
    assert found.unit == expected.unit
    assert found.zyx == pytest.approx(expected.zyx, rel=1e-5)


def test_pyramid_levels(
    tmp_path: Path, rng: np.random.Generator, check_reads: Callable[..., None]
) -> None:
    full = rng.integers(0, 255, (128, 160), dtype=np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        sizes = {"PhysicalSizeX": 2.0, "PhysicalSizeY": 2.0}
        writer.write(full, subifds=2, tile=(32, 32), metadata={"axes": "YX", **sizes})
        for step in (2, 4):
            writer.write(full[::step, ::step], subfiletype=1, tile=(32, 32))
    source = open_image(tmp_path / "a.ome.tif")
    assert [level.shape for level in source.levels] == [(1, 128, 160), (1, 64, 80), (1, 32, 40)]
    assert [level.voxel_size.x for level in source.levels] == [2, 4, 8]
    assert [level.translation[2] for level in source.levels] == [0, 1, 3]
    check_reads(source, full[None, None])
    coarse = open_image(tmp_path / "a.ome.tif", Selection(level=1))
    assert [level.shape for level in coarse.levels] == [(1, 64, 80), (1, 32, 40)]
    assert coarse.levels[0].voxel_size == VoxelSize(1.0, 4.0, 4.0, "micrometer")
    check_reads(coarse, full[None, None, ::2, ::2])
    with pytest.raises(AxesError, match=r"--level 3.*0 to 2"):
        open_image(tmp_path / "a.ome.tif", Selection(level=3))


# ---- what is touched


def count_bytes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the length of every read."""
    counts: list[int] = []
    fill = RawFile._fill

    def counted(self: RawFile, offset: int, target: memoryview) -> None:
        counts.append(len(target))
        fill(self, offset, target)

    monkeypatch.setattr(RawFile, "_fill", counted)
    return counts


def test_plain_data_is_read_voxel_by_voxel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((10, 500, 600), np.uint16), **GRAY)
    source = open_image(tmp_path / "a.tif", ZYX)
    counts = count_bytes(monkeypatch)
    source.read(Box((3, 100, 200), (4, 150, 240)))
    source.close()
    assert sum(counts) == 50 * 40 * 2


def test_only_the_tiles_of_the_box_are_read_and_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    data = rng.integers(0, 255, (4, 128, 128), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", data, tile=(32, 32), compression="zlib", **GRAY)
    source = open_image(tmp_path / "a.tif", ZYX)
    counts = count_bytes(monkeypatch)
    for _ in range(2):
        source.read(Box((1, 33, 65), (2, 63, 97)))
    source.close()
    assert len(counts) == 2


def test_tiles_without_data_are_counted_and_read_as_zero(tmp_path: Path) -> None:
    data = np.ones((64, 64), np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, data, tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as tif:
        page = tif.pages[0]
        counts = list(page.databytecounts)
        counts[5] = 0
        page.tags["TileByteCounts"].overwrite(counts)
    source = open_image(path)
    assert source.count_missing_chunks(Box.of_shape(source.shape)) == 1
    assert source.count_missing_chunks(Box((0, 0, 0), (1, 16, 64))) == 0
    expected = data.copy()
    expected[16:32, 16:32] = 0
    np.testing.assert_array_equal(source.read(Box.of_shape(source.shape))[0, 0], expected)
    source.close()


def test_a_huge_strip_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_unet.io.damage.MAX_DECODED_BYTES", 10_000)
    data = np.zeros((200, 300), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", data, compression="zlib", rowsperstrip=200)
    with pytest.raises(InputError, match="smaller chunks"):
        open_image(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", data, rowsperstrip=200)
    open_image(tmp_path / "b.tif").close()  # uncompressed strips are read in parts


def test_identity_sees_changed_voxels(tmp_path: Path, planes: np.ndarray[Any, Any]) -> None:
    hashes = set()
    for change in (0, 0, 1):
        planes[2, 30, 40] += change
        tifffile.imwrite(tmp_path / "a.tif", planes, **GRAY)
        source = open_image(tmp_path / "a.tif", ZYX)
        hashes.add(source.identity()["sha256"])
        source.close()
    assert len(hashes) == 2


def test_pages_share_the_decoder_of_tifffile(tmp_path: Path) -> None:
    # The segment arithmetic must agree with tifffile's own for odd sizes and few rows.
    rng = np.random.default_rng(0)
    for shape, options in {
        (1, 1): {"rowsperstrip": 1},
        (1, 300): {"tile": (16, 16)},
        (300, 1): {"rowsperstrip": 11},
        (33, 47): {"tile": (16, 32)},
    }.items():
        data = rng.integers(0, 255, shape, dtype=np.uint8)
        tifffile.imwrite(tmp_path / "a.tif", data, compression="zlib", **options)
        source = open_image(tmp_path / "a.tif")
        np.testing.assert_array_equal(source.read(Box.of_shape(source.shape))[0, 0], data)
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), data)
        source.close()


@pytest.mark.parametrize("compression", ["lzw", "zstd", "packbits", "deflate"])
def test_what_microscopes_compress_with_is_read(
    tmp_path: Path, rng: np.random.Generator, compression: str
) -> None:
    image = rng.integers(0, 60000, (3, 90, 80), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", image, compression=compression, photometric="minisblack")
    source = open_image(tmp_path / "a.tif", Selection(axes="zyx"))
    np.testing.assert_array_equal(source.read(Box.of_shape(image.shape))[0], image)
    source.close()
