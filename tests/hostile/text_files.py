"""Job files, records, ledgers and stored annotations that are damaged or lie."""

from __future__ import annotations

import json
import os
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from tests.hostile import bombs
from tests.hostile.case import Collector

from napari_unet.core.boxes import Box
from napari_unet.core.classes import ClassInfo
from napari_unet.io.annotation_store import create_annotation_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

job = Collector("job file", "job")
record = Collector("job record", "record")
ledger = Collector("ledger", "ledger")
strokes = Collector("annotation", "annotation")


def write(folder: Path, name: str, content: str | bytes) -> Path:
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    (folder / name).write_bytes(data)
    return folder / name


TEXTS: dict[str, str | bytes] = {
    "nothing": b"",
    "nested 100,000 deep": "[" * 100_000,
    "nested 100,000 deep in objects": '{"a":' * 100_000,
    "a number of 100,000 digits": '{"tile": ' + "9" * 100_000 + "}",
    "a list": "[]",
    "no UTF-8": b"\xff\xfe\x00",
    "2 MB": '{"a": "' + "a" * 2**21 + '"}',
    "50,000 unknown names": json.dumps({f"n{k}": k for k in range(50_000)}),
    "a value of 900,000 letters": json.dumps({"tile": "a" * 900_000}),
    "NaN": '{"tile": NaN}',
    "half a letter": '{"input": "\\ud800", "model": "\\ud800", "output": "a", "tile": "\\ud800"}',
    "a program": "import os\nos.mkdir('canary')\n",
}
for _name, _text in TEXTS.items():
    job.add(f"{_name}, as JSON", lambda f, t=_text: write(f, "hostile.json", t))
    record.add(_name, lambda f, t=_text: write(f, "hostile.unet.json", t))
    ledger.add(_name, lambda f, t=_text: write(f, "hostile.unet.ledger", t))

for _name, _text in {
    "nested 100,000 deep, as TOML": "a = " + "[" * 100_000,
    "a dotted name of 100,000 parts": ".".join(["a"] * 100_000) + " = 1",
    "a number of 100,000 digits, as TOML": "a = " + "9" * 100_000,
    "a date that is none": "a = 9999-99-99",
    "YAML that makes an object": "!!python/object/apply:os.mkdir [canary]\n",
    "an unknown name, as TOML": "hook = 'run'\n",
}.items():
    job.add(_name, lambda f, t=_text: write(f, "hostile.toml", t))

for _collector, _file in (
    (job, "hostile.json"),
    (record, "hostile.unet.json"),
    (ledger, "hostile.unet.ledger"),
):

    def _endless(folder: Path, name: str = _file) -> Path:
        (folder / name).symlink_to("/dev/zero")
        return folder / name

    def _pipe(folder: Path, name: str = _file) -> Path:
        os.mkfifo(folder / name)
        return folder / name

    _collector.add("a device without end", _endless)
    _collector.add("a pipe", _pipe)


def line(values: Any) -> bytes:
    """Return a line of a ledger whose sum is right."""
    text = json.dumps(values).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


HEADER = {"line": "header", "schema": 1, "fingerprint": {}, "settled": {}}
for _name, _values in {
    "a header from the future": {**HEADER, "schema": 10**9},
    "a header without fingerprint": {"line": "header", "schema": 1},
    "a header that is another line": {"line": "done", "block": [0]},
}.items():
    ledger.add(_name, lambda f, v=_values: write(f, "hostile.unet.ledger", line(v)))
for _name, _values in {
    "a block that is a number": {"line": "done", "block": 7, "labels": 1},
    "a block without index": {"line": "done"},
    "a block in a block": {"line": "done", "block": [[[]]], "labels": 1},
    "a block of words": {"line": "failed", "block": ["a"], "cause": "b"},
    "a failure without cause": {"line": "failed", "block": [0, 0, 0]},
    "a kind of line that is a list": {"line": ["done"]},
}.items():
    ledger.add(
        _name,
        lambda f, v=_values: write(f, "hostile.unet.ledger", line(HEADER) + line(v)),
        legal=_name == "a kind of line that is a list",
    )
ledger.add("a line of 100 MB", lambda f: write(f, "hostile.unet.ledger", b"0" * 100_000_000))
ledger.add(
    "100 MB behind the header",
    lambda f: write(f, "hostile.unet.ledger", line(HEADER) + b"0" * 100_000_000),
    legal=True,
)


def store(folder: Path, change: Callable[[dict[str, Any]], Any] | None = None) -> Path:
    """Write a small annotation, its zarr.json changed."""
    path = folder / "hostile.zarr"
    made = create_annotation_store(
        path, (4, 64, 64), [ClassInfo(name="a", color="#000000")], block_shape=(4, 64, 64)
    )
    made.write(Box((0, 0, 0), (1, 8, 8)), np.ones((1, 8, 8), np.uint8))
    if change is not None:
        document = json.loads((path / "zarr.json").read_text())
        change(document)
        (path / "zarr.json").write_text(json.dumps(document))
    return path


def grid(edges: list[int]) -> Callable[[dict[str, Any]], Any]:
    return lambda d: d["chunk_grid"]["configuration"].update(chunk_shape=edges)


for _name, _change in {
    "another version": lambda d: d["attributes"]["napari_unet"].update(annotation_version=10**9),
    "no classes": lambda d: d["attributes"]["napari_unet"].update(classes=[]),
    "10,000 classes": lambda d: d["attributes"]["napari_unet"].update(
        classes=[{"name": f"n{k}", "color": "#000000"} for k in range(10_000)]
    ),
    "classes that are numbers": lambda d: d["attributes"]["napari_unet"].update(classes=[7] * 9000),
    "no attributes": lambda d: d.update(attributes={}),
    "chunks of 1 GB": grid([1024, 1024, 1024]),
    "chunks of 0": grid([0, 0, 0]),
    "labels of another type": lambda d: d.update(data_type="float64"),
    "four axes": lambda d: d.update(shape=[1, 4, 64, 64], dimension_names=None),
    "an unknown codec": lambda d: d["codecs"].append({"name": "no_such_codec"}),
    "a shape beyond 64 bits": lambda d: d.update(shape=[2**70, 2**70, 2**70]),
}.items():
    strokes.add(_name, lambda f, c=_change: store(f, c))


@strokes("a bomb in a chunk")
def _(folder: Path) -> Path:
    path = store(folder, lambda d: d.update(codecs=d["codecs"][:2]))
    (path / "c" / "0" / "0" / "0").write_bytes(bombs.zstd())
    return path


@strokes("half a chunk")
def _(folder: Path) -> Path:
    path = store(folder)
    chunk = path / "c" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:10])
    return path


@strokes("labels that are no class")
def _(folder: Path) -> Path:
    path = store(folder)
    zarr.open_array(path, mode="r+")[0, 0, 0] = 77
    return path


@strokes("chunks whose names are numbers of 200 digits", legal=True)
def _(folder: Path) -> Path:
    path = store(folder)
    far = path / "c" / ("9" * 200) / "0"
    far.mkdir(parents=True)
    (far / "0").write_bytes(b"x")
    return path


@strokes("a device without end as zarr.json")
def _(folder: Path) -> Path:
    path = store(folder)
    (path / "zarr.json").unlink()
    (path / "zarr.json").symlink_to("/dev/zero")
    return path


CASES = [*job.cases, *record.cases, *ledger.cases, *strokes.cases]
