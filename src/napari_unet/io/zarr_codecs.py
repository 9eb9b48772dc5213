"""Reading zarr chunks that nobody vouches for: known codecs only, and never more than a chunk.

zarr decodes what a stored object holds before it compares sizes: 32 kB of Zstandard can become a
gigabyte. Its version 2 takes any codec of numcodecs, and one of those unpickles. So arrays are read
through `guarded`: codecs that are not known to be harmless are refused when the array is opened,
and decompression stops at the size that the array's own metadata give for a chunk.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import ShardingCodec
from zarr.codecs._v2 import V2Codec
from zarr.core.codec_pipeline import BatchedCodecPipeline

from napari_unet.errors import InputError
from napari_unet.io.bounded_decoding import COMPRESSIONS, expand
from napari_unet.io.damage import MAX_DECODED_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zarr.abc.codec import Codec
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer

SLACK_BYTES = 2**20
"""What a compressed piece may hold beside its values: checksums, the index of a shard."""

MAX_INNER_CHUNKS = 2**20
"""Chunks in one shard; their index, of 16 bytes each, is read as a whole."""

_CHECKSUMS = frozenset({"adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3"})
_REORDERING = frozenset({"bytes", "endian", "sharding_indexed", "shuffle", "transpose"})
_NUMBERS = frozenset(
    {"astype", "bitround", "delta", "fixedscaleoffset", "packbits", "quantize"}
)  # they may change the size of a value, which is at most 8 bytes
_KNOWN = COMPRESSIONS | _CHECKSUMS | _REORDERING | _NUMBERS
_TYPE_OPTIONS = ("dtype", "astype", "encode_dtype", "decode_dtype")
_LARGEST_VALUE = 8


def guarded(array: zarr.Array[Any], what: str) -> zarr.Array[Any]:
    """Return the same array, for reading, whose chunks cannot decode to more than they should.

    Parameters
    ----------
    array : zarr.Array
        The array; it is left as it is.
    what : str
        Its path or name, for messages.

    Raises
    ------
    InputError
        If it uses a codec that is not known to be harmless, or shards of absurdly many chunks.
    """
    metadata: Any = array.metadata
    inner = math.prod(array.shards or (0,)) // max(1, math.prod(array.chunks))
    if inner > MAX_INNER_CHUNKS:
        raise InputError(
            f"{what}: a shard {array.shards} of chunks {array.chunks} holds {inner:,} chunks, more "
            f"than the {MAX_INNER_CHUNKS:,} that are allowed; store the image in larger chunks"
        )
    if metadata.zarr_format == 3:
        codecs = _guarded_codecs(metadata.codecs, what)
    else:
        codecs = [_guarded_v2(metadata, array, what)]
    original = array._async_array
    copy: Any = type(original)(
        metadata=metadata, store_path=original.store_path, config=array.config
    )
    # Only how chunks are decoded is replaced; the metadata, part of the image's identity, stay.
    object.__setattr__(copy, "codec_pipeline", BatchedCodecPipeline.from_codecs(codecs))
    return zarr.Array(copy)


@dataclass(frozen=True)
class _Bounded(BytesBytesCodec):
    """A codec of version 3 that stops at the size of its chunk."""

    inner: BytesBytesCodec
    compression: str

    is_fixed_size = False

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        size = math.prod(chunk_spec.shape) * chunk_spec.dtype.to_native_dtype().itemsize
        data = await asyncio.to_thread(
            expand, self.compression, chunk_bytes.as_numpy_array(), size + SLACK_BYTES
        )
        if data is None:
            return await self.inner._decode_single(chunk_bytes, chunk_spec)
        return chunk_spec.prototype.buffer.from_bytes(data)

    async def _encode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer | None:
        return await self.inner._encode_single(chunk_bytes, chunk_spec)

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        return self.inner.compute_encoded_size(input_byte_length, chunk_spec)

    def to_dict(self) -> dict[str, Any]:
        return self.inner.to_dict()


@dataclass(frozen=True)
class _BoundedV2:
    """A codec of version 2 that stops at the size of its chunk; only ever asked to decode."""

    inner: Any
    compression: str
    limit: int

    def decode(self, data: Any, out: Any = None) -> Any:
        expanded = expand(self.compression, data, self.limit)
        return self.inner.decode(data, out) if expanded is None else expanded


def _guarded_codecs(codecs: Iterable[Codec], what: str) -> list[Codec]:
    return [_guarded_codec(codec, what) for codec in codecs]


def _guarded_codec(codec: Codec, what: str) -> Codec:
    if isinstance(codec, ShardingCodec):
        return ShardingCodec(
            chunk_shape=codec.chunk_shape,
            codecs=_guarded_codecs(codec.codecs, what),
            index_codecs=_guarded_codecs(codec.index_codecs, what),
            index_location=codec.index_location,
        )
    described: Any = codec.to_dict()
    name = str(described["name"]).removeprefix("numcodecs.")
    _check_codec(name, described.get("configuration") or {}, what)
    if name in COMPRESSIONS and isinstance(codec, BytesBytesCodec):
        return _Bounded(codec, name)
    return codec


def _guarded_v2(metadata: Any, array: zarr.Array[Any], what: str) -> V2Codec:
    codecs = [*(metadata.filters or ()), *([metadata.compressor] if metadata.compressor else ())]
    names = []
    for codec in codecs:
        config = codec.get_config()
        names.append(str(config["id"]))
        _check_codec(names[-1], config, what)
    limit = math.prod(array.chunks) * array.dtype.itemsize
    if not _NUMBERS.isdisjoint(names):
        limit = min(_LARGEST_VALUE * limit, MAX_DECODED_BYTES)
    bounded: list[Any] = [
        _BoundedV2(codec, name, limit + SLACK_BYTES) if name in COMPRESSIONS else codec
        for codec, name in zip(codecs, names, strict=True)
    ]
    compressor = bounded.pop() if metadata.compressor else None
    return V2Codec(filters=tuple(bounded) or None, compressor=compressor)


def _check_codec(name: str, config: Any, what: str) -> None:
    if name not in _KNOWN or name == "lzf":
        raise InputError(
            f"{what}: its chunks are encoded with {name!r}, which is not read because it could run "
            "code or take any amount of memory; write the array again with zstd, blosc or gzip"
        )
    if name == "lzma" and config.get("format", 1) not in (0, 1, 2):
        raise InputError(
            f"{what}: its chunks are raw LZMA, whose memory cannot be bounded; write the array "
            "again with zstd, blosc or gzip"
        )
    for option in _TYPE_OPTIONS:
        if config.get(option) is not None and np.dtype(config[option]).kind not in "buif":
            raise InputError(
                f"{what}: the codec {name!r} makes values of type {config[option]!r}, which are no "
                "real numbers; write the array again with zstd, blosc or gzip"
            )
