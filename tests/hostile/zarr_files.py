"""zarr folders, version 2 and 3, whose metadata or chunks are damaged or lie."""

# ruff: noqa: E501 - a case is a line of a table

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from tests.hostile import bombs
from tests.hostile.case import Collector, RunsCode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

v2 = Collector("zarr 2", "image")
v3 = Collector("zarr 3", "image")
ome = Collector("OME-Zarr", "image")
EDGE = 64
VALUES = np.random.default_rng(3).integers(0, 255, (EDGE, EDGE), dtype=np.uint8)


def array3(folder: Path, **changed: Any) -> Path:
    """Write a good array of one chunk, and then change fields of its zarr.json."""
    path = folder / "hostile.zarr"
    array = zarr.create_array(path, shape=VALUES.shape, chunks=VALUES.shape, dtype="u1")
    array[:] = VALUES
    document = json.loads((path / "zarr.json").read_text()) | changed
    (path / "zarr.json").write_text(json.dumps(document))
    return path


def array2(folder: Path, chunk: bytes | None = None, **changed: Any) -> Path:
    """Write an array of version 2 with one chunk of these bytes, and these fields."""
    path = folder / "hostile.zarr"
    path.mkdir()
    fields = {"zarr_format": 2, "shape": [EDGE, EDGE], "chunks": [EDGE, EDGE], "dtype": "|u1"}
    fields |= {"compressor": None, "filters": None, "fill_value": 0, "order": "C"} | changed
    (path / ".zarray").write_text(json.dumps(fields))
    (path / "0.0").write_bytes(VALUES.tobytes() if chunk is None else chunk)
    return path


def coded(name: str, **configuration: Any) -> list[Any]:
    return [{"name": "bytes"}, {"name": name, "configuration": configuration}]


def with_chunk(folder: Path, chunk: bytes, codecs: list[Any]) -> Path:
    path = array3(folder, codecs=codecs)
    (path / "c" / "0" / "0").write_bytes(chunk)
    return path


def grid(*edges: Any) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": list(edges)}}


for _name, _changes in {
    "chunks of 2^40 x 2^40": {"chunk_grid": grid(2**40, 2**40), "shape": [2**41, 2**41]},
    "chunks of 40,000 x 40,000": {"chunk_grid": grid(40_000, 40_000), "shape": [40_000, 40_000]},
    "chunks of 0": {"chunk_grid": grid(0, 0)},
    "chunks of -1": {"chunk_grid": grid(-1, 64)},
    "chunks of words": {"chunk_grid": grid("a", 64)},
    "a shape beyond 64 bits": {"shape": [2**70, 2**70]},
    "a shape of -1": {"shape": [-1, 64]},
    "a shape of fractions": {"shape": [1.5, 64]},
    "no axes": {"shape": [], "chunk_grid": grid()},
    "1,000 axes": {"shape": [1] * 1000, "chunk_grid": grid(*[1] * 1000)},
    "an unknown codec": {"codecs": coded("no_such_codec")},
    "a codec that is the name of a module": {"codecs": coded("os.system", command="mkdir canary")},
    "no codec": {"codecs": []},
    "codecs in no order": {"codecs": [{"name": "zstd"}, {"name": "bytes"}]},
    "values of 2^31 bytes": {"data_type": {"name": "fixed_length_utf32", "configuration": {"length_bytes": 2**31}}},
    "objects": {"data_type": "string", "fill_value": "", "codecs": [{"name": "vlen-utf8"}]},
    "an unknown type": {"data_type": "uint7"},
    "an unknown version": {"zarr_format": 9},
    "an unknown grid": {"chunk_grid": {"name": "spiral", "configuration": {}}},
    "an unknown node": {"node_type": "spell"},
    "a storage transformer": {"storage_transformers": [{"name": "run", "configuration": {}}]},
    "an extension that must be understood": {"hook": {"name": "run", "must_understand": True}},
    "a fill value that is no number": {"fill_value": "0xZZ"},
    "a codec for floats that is lossy and unbounded": {"codecs": [{"name": "numcodecs.zfpy", "configuration": {"mode": 4}}]},
    "a codec that makes long texts": {"codecs": [{"name": "numcodecs.astype", "configuration": {"encode_dtype": "|u1", "decode_dtype": "|S999999"}}, {"name": "bytes"}]},
}.items():  # fmt: skip
    v3.add(_name, lambda f, c=_changes: array3(f, **c))

for _name, _compression, _bomb in (
    ("Zstandard", coded("zstd", level=0, checksum=False), lambda: bombs.zstd()),
    ("Zstandard that hides its size", coded("zstd", level=0, checksum=False), lambda: bombs.zstd(says_size=False)),
    ("gzip", coded("gzip", level=5), lambda: bombs.deflate(wbits=31)),
    ("Blosc", coded("blosc", cname="lz4", clevel=5, shuffle="noshuffle", typesize=1, blocksize=0), lambda: bombs.blosc()),
    ("zlib", coded("numcodecs.zlib", level=1), lambda: bombs.deflate()),
    ("bzip2", coded("numcodecs.bz2", level=1), lambda: bombs.bzip2()),
    ("LZMA", coded("numcodecs.lzma"), lambda: bombs.xz()),
    ("LZ4", coded("numcodecs.lz4"), lambda: bombs.lz4()),
    ("gzip in gzip", [*coded("gzip", level=5), coded("gzip", level=5)[1]], lambda: zlib.compress(bombs.deflate(wbits=31), wbits=31)),
):  # fmt: skip
    v3.add(f"a bomb of {_name}", lambda f, c=_compression, b=_bomb: with_chunk(f, b(), c))

for _codec, _bomb in (
    ({"id": "zstd", "level": 1}, lambda: bombs.zstd()),
    ({"id": "zlib", "level": 1}, lambda: bombs.deflate()),
    ({"id": "gzip", "level": 1}, lambda: bombs.deflate(wbits=31)),
    ({"id": "bz2", "level": 1}, lambda: bombs.bzip2()),
    ({"id": "lzma"}, lambda: bombs.xz()),
    ({"id": "lz4"}, lambda: bombs.lz4()),
    ({"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 0}, lambda: bombs.blosc()),
):
    v2.add(f"a bomb of {_codec['id']}", lambda f, c=_codec, b=_bomb: array2(f, b(), compressor=c))

for _place in ("compressor", "filters"):
    for _id in ("pickle", "msgpack2", "json2", "vlen-utf8", "categorize", "no_such_codec"):

        def _make(folder: Path, place: str = _place, name: str = _id) -> Path:
            codec = {"id": name} | ({"labels": ["a"], "dtype": "O"} if name == "categorize" else {})
            bomb = pickle.dumps(RunsCode(folder))
            return array2(folder, bomb, **{place: [codec] if place == "filters" else codec})

        v2.add(f"{_id} as {_place}", _make)

for _name, _changes in {
    "a filter that makes long texts": {"filters": [{"id": "astype", "encode_dtype": "|u1", "decode_dtype": "|S9999999"}]},
    "objects": {"dtype": "|O", "filters": [{"id": "pickle"}]},
    "objects without codec": {"dtype": "|O"},
    "values of 2^31 - 1 bytes": {"dtype": f"|S{2**31 - 1}", "fill_value": ""},
    "records": {"dtype": [["a", "<u2"], ["b", "<u2"]]},
    "chunks of 0": {"chunks": [0, 0]},
    "chunks of 2^40": {"chunks": [2**40, 2**40], "shape": [2**41, 2**41]},
    "a type that is code": {"dtype": "__import__('os').mkdir('canary')"},
    "no shape": {"shape": None},
    "raw LZMA with a dictionary of 4 GB": {"compressor": {"id": "lzma", "format": 3, "filters": [{"id": 33, "dict_size": 2**32 - 1}]}},
}.items():  # fmt: skip
    v2.add(_name, lambda f, c=_changes: array2(f, **c))
v2.add("half a chunk", lambda f: array2(f, VALUES.tobytes()[:1000]))


@v2("a chunk of 4 GB where 4 kB should be")
def _(folder: Path) -> Path:
    path = array2(folder)
    os.truncate(path / "0.0", 2**32)
    return path


def text(folder: Path, content: str, name: str = "zarr.json") -> Path:
    path = folder / "hostile.zarr"
    path.mkdir()
    (path / name).write_text(content)
    return path


for _name, _content in {
    "zarr.json that is empty": "",
    "zarr.json that is cut off": '{"zarr_format": 3, "node_type": "arr',
    "zarr.json nested 100,000 deep": "[" * 100_000,
    "zarr.json nested 100,000 deep in its attributes": '{"zarr_format": 3, "node_type": "group", "attributes": {"a": ' + "[" * 100_000 + "]" * 100_000 + "}}",
    "zarr.json that is a list": "[]",
    "zarr.json that is no text": "\x00\x01\x02",
    "a number of 100,000 digits in zarr.json": '{"zarr_format": ' + "9" * 100_000 + "}",
    "zarr.json of 64 MB": '{"zarr_format": 3, "node_type": "group", "attributes": {"a": [' + "{}," * (2**26 // 3) + "{}]}}",
    "zarr.json of 1 MB of empty lists": '{"zarr_format": 3, "node_type": "group", "attributes": {"a": [' + "[]," * 345_000 + "[]]}}",
}.items():  # fmt: skip
    v3.add(_name, lambda f, c=_content: text(f, c))


def sharded(folder: Path, inner: tuple[int, int], index_at: str = "end", **changed: Any) -> Path:
    path = folder / "hostile.zarr"
    array = zarr.create_array(
        path, shape=VALUES.shape, shards=VALUES.shape, chunks=(32, 32), dtype="u1"
    )
    array[:] = VALUES
    document = json.loads((path / "zarr.json").read_text()) | changed
    settings = document["codecs"][0]["configuration"]
    settings |= {"chunk_shape": list(inner), "index_location": index_at}
    (path / "zarr.json").write_text(json.dumps(document))
    return path


@v3("shards of 2^40 chunks")
def _(folder: Path) -> Path:
    return sharded(folder, (1, 1), shape=[2**21, 2**21], chunk_grid=grid(2**20, 2**20))


@v3("shards of 2^30 chunks, their index first")
def _(folder: Path) -> Path:
    return sharded(folder, (1, 1), "start", shape=[2**16, 2**16], chunk_grid=grid(2**15, 2**15))


@v3("shards of chunks of 0")
def _(folder: Path) -> Path:
    return sharded(folder, (0, 0))


@v3("a shard whose index points behind its end")
def _(folder: Path) -> Path:
    path = sharded(folder, (32, 32))
    import google_crc32c

    index = struct.pack("<8Q", *(2**62, 2**62) * 4)
    index += struct.pack("<I", google_crc32c.value(index))
    (path / "c" / "0" / "0").write_bytes(bytes(100) + index)
    return path


@v3("a shard that is shorter than its index")
def _(folder: Path) -> Path:
    path = sharded(folder, (32, 32))
    (path / "c" / "0" / "0").write_bytes(bytes(10))
    return path


@v3("a chunk that is a pipe")
def _(folder: Path) -> Path:
    path = array3(folder)
    (path / "c" / "0" / "0").unlink()
    os.mkfifo(path / "c" / "0" / "0")
    return path


@v3("zarr.json that is a device without end")
def _(folder: Path) -> Path:
    path = array3(folder)
    (path / "zarr.json").unlink()
    (path / "zarr.json").symlink_to("/dev/zero")
    return path


@v3("a chunk that is a link to a file outside, followed as any link", legal=True)
def _(folder: Path) -> Path:
    path = array3(folder)
    shutil.move(path / "c" / "0" / "0", folder / "elsewhere")
    (path / "c" / "0" / "0").symlink_to(folder / "elsewhere")
    return path


@v3("a folder of chunks that is a link to itself")
def _(folder: Path) -> Path:
    path = array3(folder)
    shutil.rmtree(path / "c")
    (path / "c").symlink_to(path / "c")
    return path


def image(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Write an OME-Zarr image of one level, its multiscale metadata changed."""
    path = folder / "hostile.zarr"
    group = zarr.create_group(path)
    group.create_array("0", shape=VALUES.shape, chunks=VALUES.shape, dtype="u1")[:] = VALUES
    scale = {"type": "scale", "scale": [1.0, 1.0]}
    multiscale: dict[str, Any] = {
        "axes": [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}],
        "datasets": [{"path": "0", "coordinateTransformations": [scale]}],
    }
    change(multiscale)
    document = json.loads((path / "zarr.json").read_text())
    document["attributes"]["ome"] = {"version": "0.5", "multiscales": [multiscale]}
    (path / "zarr.json").write_text(json.dumps(document))
    return path


def dataset(path: str) -> Callable[[dict[str, Any]], None]:
    return lambda m: m["datasets"][0].update(path=path)


def transformed(*transforms: Any) -> Callable[[dict[str, Any]], None]:
    return lambda m: m["datasets"][0].update(coordinateTransformations=list(transforms))


def nested(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"type": "identity"}
    for _ in range(depth):
        inner = {"type": "sequence", "transformations": [inner]}
    return inner


for _name, _change in {
    "a level in ../secret.zarr": dataset("../secret.zarr"),
    "a level in /": dataset("/etc"),
    "a level in 0/../../..": dataset("0/../../../.."),
    "a level without name": dataset(""),
    "a level whose name has 100,000 letters": dataset("a" * 100_000),
    "a level whose name has a zero byte": dataset("0\0"),
    "a level whose name is a URL": dataset("http://127.0.0.1:9/0"),
    "100,000 levels": lambda m: m.update(datasets=m["datasets"] * 100_000),
    "no level": lambda m: m.update(datasets=[]),
    "voxels of size 0": transformed({"type": "scale", "scale": [0, 0]}),
    "voxels of size 10^400": transformed({"type": "scale", "scale": [10**400, 1]}),
    "voxels of negative size": transformed({"type": "scale", "scale": [-1, 1]}),
    "a scale of a million axes": transformed({"type": "scale", "scale": [1] * 10**6}),
    "transformations nested 200 deep": transformed(nested(200)),
    "transformations that need a file": transformed({"type": "affine", "path": "../matrix"}),
    "axes without names": lambda m: m.update(axes=[{}, {}]),
    "axes that are one": lambda m: m.update(axes=m["axes"][:1] * 2),
    "axes that are a number": lambda m: m.update(axes=7),
}.items():
    legal = _name in {"transformations nested 200 deep"}
    ome.add(_name, lambda f, c=_change: image(f, c), legal=legal)
CASES = [*v2.cases, *v3.cases, *ome.cases]
