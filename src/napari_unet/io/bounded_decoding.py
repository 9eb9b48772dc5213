"""Decompression that stops at a bound: a few kilobytes may claim to be gigabytes.

The libraries decompress first and compare sizes afterwards. Here the size that a compressed piece
says of itself is read first, where it says one; else decompression stops when the bound is hit.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from typing import TYPE_CHECKING, Any

import imagecodecs

if TYPE_CHECKING:
    from collections.abc import Callable

COMPRESSIONS = frozenset({"blosc", "bz2", "gzip", "lz4", "lzf", "lzma", "zlib", "zstd"})
"""What `expand` knows."""

MAX_DICTIONARY_BYTES = 2**27
"""Memory for the dictionary of LZMA; its highest preset needs 65 MB."""

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ANY_ZLIB = 47  # wbits: the header tells zlib and gzip apart


def expand(compression: str, data: Any, limit: int) -> bytes | None:
    """Return what a compressed piece holds, or None if its own decoder may be trusted with it.

    Parameters
    ----------
    compression : str
        One of `COMPRESSIONS`.
    data : buffer
        The piece, one byte per item.
    limit : int
        Most bytes that it may hold.

    Returns
    -------
    bytes or None
        None for formats that say their size in the first bytes and whose decoder keeps to it: it is
        at most `limit`.

    Raises
    ------
    ValueError
        If it holds more, or is cut off or damaged. Other errors of the decoders pass through.
    """
    view: Any = memoryview(data).cast("B")  # imagecodecs' stubs do not know it as bytes
    if compression == "blosc":
        _check(_number(view, 4), limit)
        return None
    if compression == "lz4":
        _check(_number(view, 0), limit)
        return None
    if compression == "zstd":
        return _expand_zstd(view, limit)
    if compression == "lzf":
        return bytes(imagecodecs.lzf_decode(view, out=limit))
    return _expand_stream(_STREAMS[compression], view, limit)


def zstd_size(view: bytes | memoryview) -> int | None:
    """Return the size that the first frame of Zstandard says it has; None if it does not.

    References
    ----------
    .. [1] RFC 8878, section 3.1.1.1.
    """
    if len(view) < 6 or bytes(view[:4]) != _ZSTD_MAGIC:
        return None
    flags = view[4]
    single = bool(flags & 0x20)
    width = (1 if single else 0, 2, 4, 8)[flags >> 6]
    if not width:
        return None
    start = 5 + (not single) + (0, 1, 2, 4)[flags & 3]
    size = int.from_bytes(view[start : start + width], "little")
    return size + 256 if width == 2 else size


def _expand_zstd(view: Any, limit: int) -> bytes:
    size = zstd_size(view)
    if size is not None:
        _check(size, limit)
        try:
            return bytes(imagecodecs.zstd_decode(view, out=size))
        except imagecodecs.ZstdError:
            pass  # of several frames only the first one was counted
    return bytes(imagecodecs.zstd_decode(view, out=limit))


def _expand_stream(make: Callable[[], Any], rest: Any, limit: int) -> bytes:
    """Decompress one stream after the other; zeros behind the last are padding."""
    parts: list[bytes] = []
    room = limit + 1  # 0 would mean without bound
    while len(rest):
        stream = make()
        part = stream.decompress(rest, room)
        room -= len(part)
        if room <= 0:
            raise ValueError(f"it decompresses to more than the {limit:,} bytes that it may hold")
        if not stream.eof:
            raise ValueError("its compressed data is cut off")
        parts.append(part)
        rest = stream.unused_data.lstrip(b"\0")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _number(view: Any, start: int) -> int:
    if len(view) < start + 4:
        raise ValueError("its compressed data is cut off")
    return int.from_bytes(view[start : start + 4], "little")


def _check(size: int, limit: int) -> None:
    if size > limit:
        raise ValueError(f"it claims to decompress to {size:,} bytes, but may hold {limit:,}")


_STREAMS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(_ANY_ZLIB),
    "zlib": lambda: zlib.decompressobj(_ANY_ZLIB),
    "bz2": bz2.BZ2Decompressor,
    "lzma": lambda: lzma.LZMADecompressor(memlimit=MAX_DICTIONARY_BYTES),
}
