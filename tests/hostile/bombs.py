"""Compressed data that is small and claims, or becomes, a gigabyte."""

from __future__ import annotations

import bz2
import functools
import lzma
import struct
import zlib

GIGABYTE = 2**30
_BLOCK = 2**17


@functools.cache
def zstd(size: int = GIGABYTE, *, says_size: bool = True) -> bytes:
    """Return a frame of run-length blocks: four bytes become 128 kB (RFC 8878, 3.1.1.2)."""
    head = b"\x28\xb5\x2f\xfd"
    head += b"\xe0" + struct.pack("<Q", size) if says_size else b"\x00\x58"
    count = size // _BLOCK
    blocks = [(_BLOCK << 3 | 1 << 1 | (k == count - 1)) for k in range(count)]
    return head + b"".join(b.to_bytes(3, "little") + b"\0" for b in blocks)


@functools.cache
def deflate(size: int = GIGABYTE // 4, wbits: int = zlib.MAX_WBITS) -> bytes:
    """Return zeros as a zlib stream; `wbits` 31 makes it gzip."""
    stream = zlib.compressobj(9, zlib.DEFLATED, wbits)
    piece = bytes(2**20)
    return b"".join(stream.compress(piece) for _ in range(size >> 20)) + stream.flush()


@functools.cache
def bzip2(size: int = GIGABYTE // 4) -> bytes:
    """Return zeros as a bzip2 stream."""
    stream = bz2.BZ2Compressor()
    piece = bytes(2**20)
    return b"".join(stream.compress(piece) for _ in range(size >> 20)) + stream.flush()


@functools.cache
def xz(size: int = GIGABYTE // 4) -> bytes:
    """Return zeros as an xz stream."""
    stream = lzma.LZMACompressor(preset=0)
    piece = bytes(2**20)
    return b"".join(stream.compress(piece) for _ in range(size >> 20)) + stream.flush()


def blosc(size: int = GIGABYTE) -> bytes:
    """Return a header of Blosc 1 that claims a size, and nothing else of use."""
    return struct.pack("<BBBBIII", 2, 1, 0x02, 1, size, size, 64) + bytes(48)


def lz4(size: int = GIGABYTE) -> bytes:
    """Return what numcodecs writes for LZ4: the size first."""
    return struct.pack("<I", size) + b"\x1f\x00\x01\x00" + b"\xff" * 64
