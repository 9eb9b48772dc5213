"""Damaged, hostile and unsuitable TIFF files: an error that names the file, never wrong voxels."""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from napari_unet.core.boxes import Box
from napari_unet.errors import InputError, UNetError
from napari_unet.io.image import Selection, open_image

if TYPE_CHECKING:
    from pathlib import Path

GRAY = {"photometric": "minisblack"}
ZYX = Selection(axes="zyx")
DIALECTS: dict[str, dict[str, Any]] = {
    "OME": {"ome": True, "compression": "zlib"},
    "OME plain": {"ome": True},
    "ImageJ": {"imagej": True},
    "shaped": {"compression": "zlib"},
    "pages": {"metadata": None},
    "tiles": {"metadata": None, "compression": "zlib", "tile": (16, 16)},
}


def write_sample(path: Path, dialect: str) -> np.ndarray[Any, Any]:
    data = np.random.default_rng(1).integers(0, 60000, (6, 32, 40)).astype(np.uint16)
    options = DIALECTS[dialect]
    if "metadata" not in options:
        options = {**options, "metadata": {"axes": "ZYX"}}
    tifffile.imwrite(path, data, **GRAY, **options)
    return data


def read_all(path: Path, selection: Selection = ZYX) -> np.ndarray[Any, Any]:
    source = open_image(path, selection)
    try:
        return source.read(Box.of_shape(source.shape))[0]
    finally:
        source.close()


def reads_as(path: Path, expected: np.ndarray[Any, Any]) -> bool:
    """Return False for an error of ours that names the file; fail for wrong voxels."""
    try:
        data = read_all(path)
    except UNetError as error:
        if path.name not in str(error):
            raise
        return False
    np.testing.assert_array_equal(data, expected)
    return True


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_cut_file_is_an_error_or_still_whole(dialect: str, tmp_path: Path) -> None:
    path = tmp_path / "cut.tif"
    data = write_sample(path, dialect)
    content = path.read_bytes()
    errors = 0
    steps = [1, 2, 9, 100, *range(200, len(content), len(content) // 15)]
    for cut in steps:
        path.write_bytes(content[: len(content) - cut])
        errors += not reads_as(path, data)
    assert errors > len(steps) // 2  # the last bytes may be metadata that is not needed


@pytest.mark.parametrize("dialect", ["OME", "shaped", "tiles"])
def test_flipped_bits_are_errors_or_change_nothing(dialect: str, tmp_path: Path) -> None:
    path = tmp_path / "flip.tif"
    data = write_sample(path, dialect)
    content = path.read_bytes()
    rng = np.random.default_rng(3)
    errors = 0
    for _ in range(60):
        damaged = bytearray(content)
        damaged[rng.integers(0, len(content))] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(damaged)
        errors += not reads_as(path, data)
    assert errors > 10


@pytest.mark.parametrize(
    "content",
    [b"", b"II*\0", b"no TIFF at all", b"MM\0*\0\0\0\x08", b"\x89PNG\r\n\x1a\n" + b"\0" * 50],
)
def test_what_is_no_tiff_is_an_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.tif"):
        open_image(tmp_path / "a.tif")


def test_a_tiny_file_that_claims_a_huge_image(tmp_path: Path) -> None:
    tags = {256: 60_000, 257: 60_000, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 60_000}
    tags[279] = 2**32 - 1
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    content = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + b"\0" * 4
    (tmp_path / "a.tif").write_bytes(content)
    began = time.process_time()
    with pytest.raises(InputError, match=r"a\.tif"):
        read_all(tmp_path / "a.tif", Selection())
    assert time.process_time() - began < 1


def test_pages_in_a_circle_end(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((16, 16), np.uint8), metadata=None)
    with tifffile.TiffFile(path) as tif:
        first = tif.pages[0].offset
        count = len(tif.pages[0].tags)
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, first + 2 + 12 * count, first)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.tif"):
        open_image(path)


def test_different_images_in_one_file_are_named(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(np.zeros((20, 30), np.uint8), metadata=None)
        writer.write(np.zeros((40, 50), np.uint16), metadata=None)
    with pytest.raises(InputError) as error:
        open_image(tmp_path / "a.tif")
    assert all(text in str(error.value) for text in ["2 different", "(20, 30)", "(40, 50)"])


def test_equal_images_in_one_file_are_a_stack(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 255, (3, 20, 30), dtype=np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for plane in data:
            writer.write(plane, metadata={}, compression="zlib")
    np.testing.assert_array_equal(read_all(tmp_path / "a.tif"), data)


def test_other_files_of_an_ome_tiff_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    data = np.ones((2, 16, 16), np.uint8)
    tifffile.imwrite(tmp_path / "secret.tif", data)
    path = tmp_path / "inner" / "a.ome.tif"
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels DimensionOrder="XYZCT" ID="Pixels:0" SizeX="16" SizeY="16" SizeZ="2" SizeC="1" '
        'SizeT="1" Type="uint8"><TiffData FirstZ="0" IFD="0" PlaneCount="1"/>'
        '<TiffData FirstZ="1" IFD="0" PlaneCount="1"><UUID FileName="../secret.tif">'
        "urn:uuid:11111111-1111-1111-1111-111111111111</UUID></TiffData></Pixels></Image></OME>"
    )
    tifffile.imwrite(path, data[0], description=xml, metadata=None)
    with pytest.raises(InputError, match=r"a\.ome\.tif.*several files"):
        open_image(path)
    assert (read_all(path.parent) == data[:1]).all()


@pytest.mark.parametrize(("number", "name"), [(34926, "34926"), (5, "LZW"), (7, "JPEG")])
def test_an_unsupported_compression_names_itself_when_opened(
    number: int, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As where the package imagecodecs, which is optional, is not installed.
    class Decoders(dict[int, object]):
        def __getitem__(self, key: int) -> object:
            raise KeyError(f"{tifffile.COMPRESSION(key)!r} requires the 'imagecodecs' package")

    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((32, 32), np.uint8), compression="zlib", metadata=None)
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages[0].tags["Compression"].overwrite(number)
    monkeypatch.setattr(tifffile.TIFF, "DECOMPRESSORS", Decoders())
    with pytest.raises(InputError, match=rf"a\.tif.*{name}.*OME-Zarr"):
        open_image(path)
