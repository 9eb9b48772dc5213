"""What a TIFF may claim before tifffile acts on it: planes, XML, images inside strips and tiles.

tifffile makes a list with a place for every plane that OME or Micro-Manager metadata claim, and the
decoders of JPEG and its relatives make whatever image the compressed data claim, however small the
tile. A file of a kilobyte could so take all memory. Claims are therefore read here first.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from xml.parsers import expat

from napari_unet.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tifffile import TiffFile

    from napari_unet.core.boxes import Shape

MAX_PLANES = 2**20
"""Planes of one file; a recording of a day at ten planes a second has less."""

MAX_XML_CHARACTERS = 2**25
"""Length of OME-XML; a plane takes about 300 characters."""

MAX_LISTED_PLANES = 1000
"""Entries of OME-XML whose plane is looked at for its size."""

_REMEDY = "convert it to OME-Zarr with a program that reads it"
_SLACK = 4  # tiles at the end of an image may be coded in full, and colors subsampled
_JPEG = (6, 7, 33007, 34892)
_JPEG2000 = (33003, 33004, 33005, 34712)
_UNBOUNDED = {22610: "JPEG XR", 34934: "JPEG XR", 34887: "LERC", 50002: "JPEG XL", 52546: "JPEG XL"}


def check_claims(tif: TiffFile, path: Path) -> None:
    """Refuse metadata that claim absurdly many planes, or could make tifffile open other files.

    Raises
    ------
    InputError
        Naming the claim.
    """
    if tif.is_ndtiff:
        raise InputError(
            f"{path}: it is one of several files of an NDTiff, and others are not opened; {_REMEDY}"
        )
    if tif.is_ome:
        _check_ome(tif, path)
    if tif.is_micromanager:
        _check_micromanager(tif, path)


def check_embedded(compression: int, data: bytes, edges: Shape, what: str) -> None:
    """Refuse a strip or tile whose compressed image claims to be larger than its place.

    Parameters
    ----------
    compression : int
        Value of the TIFF tag.
    data : bytes
        The compressed strip or tile.
    edges : tuple of int
        Its place in normal axes: separate sample, depth, length, width, contiguous sample.
    what : str
        The strip or tile, for messages.

    Raises
    ------
    InputError
        Naming its size.
    """
    if compression in _UNBOUNDED:
        raise InputError(
            f"{what} is compressed as {_UNBOUNDED[compression]}, which is not read because its "
            f"memory cannot be bounded; {_REMEDY}"
        )
    read = _READERS.get(compression)
    if read is None:
        return
    claimed = read(data)
    if claimed is not None and claimed > _SLACK * math.prod(edges) + 2**16:
        raise InputError(
            f"{what} of {math.prod(edges):,} values holds an image of {claimed:,}; the file is "
            "damaged"
        )


def _check_ome(tif: TiffFile, path: Path) -> None:
    text = tif.ome_metadata or ""
    if len(text) > MAX_XML_CHARACTERS:
        raise InputError(
            f"{path}: its OME-XML has {len(text):,} characters, at most {MAX_XML_CHARACTERS:,} are "
            f"read; {_REMEDY}"
        )
    claims = _OmeClaims(path)
    parser = expat.ParserCreate(namespace_separator="}")
    parser.StartElementHandler = claims.enter
    parser.StartDoctypeDeclHandler = claims.refuse_doctype
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise InputError(f"{path}: its OME-XML is damaged: {error}; {_REMEDY}") from error
    claims.compare(tif)


class _OmeClaims:
    """Collects what OME-XML claims about planes, element by element."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._plane = 0
        self._listed: set[int] = {0}

    def enter(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Check one element."""
        name = tag.rpartition("}")[2]
        if name.endswith("Pixels"):
            sizes = {k: self._count(attributes, k, 1) for k in map("Size{}".format, "XYZCT")}
            self._plane = max(self._plane, sizes.pop("SizeX") * sizes.pop("SizeY"))
            self._limit(math.prod(sizes.values()), "planes")
        elif name.endswith("TiffData"):
            for key in attributes:
                self._limit(self._count(attributes, key, 0), key)
            if len(self._listed) < MAX_LISTED_PLANES:
                self._listed.add(self._count(attributes, "IFD", 0))
        elif name.rpartition("Along")[1]:
            start, stop, step = (
                float(attributes.get(key, default))
                for key, default in (("Start", 0), ("End", 0), ("Step", 1))
            )
            self._limit(abs(stop - start) / step if step else math.inf, name)

    def refuse_doctype(self, *_: Any) -> None:
        """Refuse definitions of entities: OME-XML has none, and they can explode."""
        raise InputError(f"{self._path}: its OME-XML defines a document type; {_REMEDY}")

    def compare(self, tif: TiffFile) -> None:
        """Refuse planes that are much larger than the pages that hold them."""
        pages = tif.pages
        for number in self._listed:
            if number < len(pages):
                held: Any = pages[number]
                if self._plane > _SLACK * max(1, held.imagewidth * held.imagelength):
                    raise InputError(
                        f"{self._path}: its OME-XML claims planes of {self._plane:,} pixels, but "
                        f"page {number} has {held.imagewidth} x {held.imagelength}; {_REMEDY}"
                    )

    def _count(self, attributes: Mapping[str, str], key: str, default: int) -> int:
        try:
            number = int(attributes.get(key, default))
        except ValueError:
            number = default  # UUIDs and the like; tifffile complains where it matters
        if number < 0:
            raise InputError(f"{self._path}: its OME-XML says {key}={number}; {_REMEDY}")
        return number

    def _limit(self, number: float, what: str) -> None:
        if not number <= MAX_PLANES:
            raise InputError(
                f"{self._path}: its OME-XML claims {number:,} for {what}, more than the "
                f"{MAX_PLANES:,} that are allowed; {_REMEDY}"
            )


def _check_micromanager(tif: TiffFile, path: Path) -> None:
    metadata: Mapping[str, Any] = tif.micromanager_metadata or {}
    summary, index = metadata.get("Summary"), metadata.get("IndexMap")
    if not isinstance(summary, dict) or index is None or not len(index):
        return
    claimed = 1
    for column, key in enumerate(("Channels", "Slices", "Frames", "Positions")):
        said = summary.get(key, 1)
        number = int(said) if isinstance(said, int | float) else 1
        claimed *= max(1, number, int(index[:, column].max()) + 1)
    if claimed > MAX_PLANES:
        raise InputError(
            f"{path}: its Micro-Manager metadata claim {claimed:,} planes, more than the "
            f"{MAX_PLANES:,} that are allowed; {_REMEDY}"
        )


def _jpeg_values(data: bytes) -> int | None:
    """Return how many values a JPEG stream makes: rows, columns and components of its frame."""
    at = 2
    while at + 10 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            rows, columns = _big(data, at + 5, 2), _big(data, at + 7, 2)
            return rows * columns * data[at + 9]
        # Fill bytes and markers without a length.
        alone = marker in (0x01, 0xFF) or 0xD0 <= marker <= 0xD9
        at += 1 if marker == 0xFF else 2 if alone else 2 + max(2, _big(data, at + 2, 2))
    return None


def _jpeg2000_values(data: bytes) -> int | None:
    start = data.find(b"\xff\x4f\xff\x51", 0, 2**16)
    if start < 0:
        return None
    width = _big(data, start + 8, 4) - _big(data, start + 16, 4)
    height = _big(data, start + 12, 4) - _big(data, start + 20, 4)
    return max(0, width) * max(0, height) * _big(data, start + 40, 2)


def _png_values(data: bytes) -> int | None:
    return _big(data, 16, 4) * _big(data, 20, 4)


def _webp_values(data: bytes) -> int | None:
    kind = data[12:16]
    if kind == b"VP8X":
        edges = (_little(data, 24, 3) + 1, _little(data, 27, 3) + 1)
    elif kind == b"VP8L":
        bits = _little(data, 21, 4)
        edges = ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    else:
        edges = (_little(data, 26, 2) & 0x3FFF, _little(data, 28, 2) & 0x3FFF)
    return math.prod(edges) * 3


def _big(data: bytes, start: int, width: int) -> int:
    return int.from_bytes(data[start : start + width], "big")


def _little(data: bytes, start: int, width: int) -> int:
    return int.from_bytes(data[start : start + width], "little")


_READERS: dict[int, Callable[[bytes], int | None]] = {
    **dict.fromkeys(_JPEG, _jpeg_values),
    **dict.fromkeys(_JPEG2000, _jpeg2000_values),
    34933: _png_values,
    50001: _webp_values,
}
