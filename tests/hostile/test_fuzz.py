"""Texts that hardly anyone would write, given to our own parsers: only errors of ours come out."""

from __future__ import annotations

import json
import tempfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hostile.model_files import changed, good, pack

from napari_unet.app.job_files import RECORD_SUFFIX, read_record, read_settings_file
from napari_unet.app.objecting.record import is_objects_record, read_objects_record
from napari_unet.core.boxes import Box, format_region, parse_region
from napari_unet.core.class_labels import check_class_names
from napari_unet.core.header import ModelHeader
from napari_unet.core.job import SegmentJob
from napari_unet.core.label_kinds import parse_class_values
from napari_unet.core.train_job import TrainJob
from napari_unet.errors import UNetError
from napari_unet.io.ledger import read_ledger
from napari_unet.io.ome_metadata import parse_multiscale
from napari_unet.io.selection import Selection, plan_layout
from napari_unet.model.file import parse_model_bytes
from napari_unet.model.strict_json import parse_strict_json

FEW = settings(max_examples=60)
MANY = settings(max_examples=200)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(
        ["y", "x", "space", "scale", "done", "failed", "0", "../a", "\ud800", "1" * 5000]
    )
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["line", "block", "type", "path", "name", "axes", "datasets", "scale"])
            | st.text(max_size=6),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def mutated(value: Any, data: st.DataObject) -> Any:
    """Return a JSON value of which one part, anywhere, is another one or gone."""
    if isinstance(value, dict) and value and data.draw(st.integers(0, 9)):
        key = data.draw(st.sampled_from(sorted(value)))
        kind = data.draw(st.sampled_from(["inner", "inner", "drop", "rename"]))
        rest = {k: v for k, v in value.items() if k != key}
        if kind == "drop":
            return rest
        if kind == "rename":
            return rest | {data.draw(st.text(max_size=5)): value[key]}
        return value | {key: mutated(value[key], data)}
    if isinstance(value, list) and value and data.draw(st.integers(0, 9)):
        place = data.draw(st.integers(0, len(value) - 1))
        return [*value[:place], mutated(value[place], data), *value[place + 1 :]]
    return data.draw(JSON)


def written(content: bytes | str, name: str, folder: str) -> Path:
    path = Path(folder) / name
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    path.write_bytes(data)
    return path


# ---------------------------------------------------------------- regions, class values, axes


PARTS = st.lists(
    st.sampled_from(
        ["0", "5", ":", ",", "-", " ", "1_0", "٣", "9" * 5000, "1e3", "z", "\ud800", "="]
    )
    | st.text(max_size=3),
    max_size=12,
).map("".join)


@MANY
@given(PARTS, st.lists(st.integers(0, 2**40), min_size=1, max_size=4))
def test_regions(text: str, shape: list[int]) -> None:
    axes = "tzyx"[-len(shape) :]
    with suppress(UNetError):
        box = parse_region(text, shape, axes)
        assert Box.of_shape(shape).contains(box)
        assert parse_region(format_region(box), shape, axes) == box


@MANY
@given(PARTS)
def test_class_values(text: str) -> None:
    with suppress(UNetError):
        assert parse_class_values(text).class_names


@MANY
@given(
    st.lists(st.integers(-5, 2**70), max_size=7),
    st.none() | st.text("tczyxTCZYX1\ud800", max_size=6),
    st.none() | PARTS,
    st.none() | st.integers(),
)
def test_axes_channels_and_times(
    shape: list[int], axes: str | None, channel: str | None, time: int | None
) -> None:
    with suppress(UNetError):
        layout = plan_layout(shape, None, Selection(axes, channel, 0, time), name="a")
        assert min(layout.spatial_shape) > 0


@MANY
@given(st.lists(st.text(max_size=70), max_size=5))
def test_class_names(names: list[str]) -> None:
    with suppress(UNetError):
        assert check_class_names(names) == tuple(names)


# ---------------------------------------------------------------- job files and records


JOB = {"input": "a.tif", "model": "em-membranes", "output": "b.zarr", "region": "0:2,:,:"}
RECORD = {
    "schema_version": 1,
    "state": "complete",
    "job": JOB,
    "command": ["napari-unet"],
    "output": "b.zarr",
    "name": "em",
    "labels": "b.zarr/labels/em/0",
    "classes": [["a", "#000000"]],
    "provenance": {},
}


@MANY
@given(st.data())
def test_jobs(data: st.DataObject) -> None:
    values = mutated(JOB, data)
    if isinstance(values, dict):
        for kind in (SegmentJob, TrainJob):
            with suppress(UNetError):
                kind.parse(values, source="a")


@MANY
@given(st.data())
def test_job_files_and_records(data: st.DataObject) -> None:
    text = json.dumps(mutated(RECORD, data))
    if data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(text)))
        text = text[:place] + data.draw(st.text(max_size=5)) + text[place + 1 :]
    with tempfile.TemporaryDirectory() as folder:
        path = written(text, "a" + RECORD_SUFFIX, folder)
        is_objects_record(path)
        for read in (read_record, read_objects_record, read_settings_file):
            with suppress(UNetError):
                read(path)


@MANY
@given(
    st.lists(
        st.sampled_from(["a", ".", "=", "[", "]", "{", "}", "\n", '"', "'''", "1", "-", "e", "nan"])
        | st.sampled_from(["2020-01-01", "99:99:99", "\\u", "\\ud800", "0x", "#", ",", "\x00"]),
        max_size=30,
    ).map("".join)
)
def test_toml(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder, suppress(UNetError):
        assert isinstance(read_settings_file(written(text, "a.toml", folder)), dict)


# ---------------------------------------------------------------- ledgers


HEADER = {"line": "header", "schema": 1, "fingerprint": {}, "settled": {}}
LINES = [
    {"line": "run", "host": "a", "pid": 1, "started": ""},
    {"line": "done", "block": [0, 0, 1], "labels": 7, "probabilities": None, "nonfinite": 0},
    {"line": "failed", "block": [0, 0, 1], "cause": "b"},
]


def line(values: Any) -> bytes:
    text = json.dumps(values).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


@MANY
@given(st.data())
def test_ledgers(data: st.DataObject) -> None:
    """Also lines whose sum is right, as a disk would never make them."""
    lines = [HEADER, *data.draw(st.lists(st.sampled_from(LINES), max_size=4))]
    place = data.draw(st.integers(0, len(lines) - 1))
    lines[place] = mutated(lines[place], data)
    content = b"".join(map(line, lines))
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(content) - 1))
        content = content[:at] + data.draw(st.binary(max_size=4)) + content[at + 1 :]
    with tempfile.TemporaryDirectory() as folder, suppress(UNetError):
        found = read_ledger(written(content, "a.unet.ledger", folder))
        assert found is not None
        assert found.good_bytes <= len(content)
        assert all(type(n) is int for block in found.done for n in block)


# ---------------------------------------------------------------- OME metadata


SCALE = {"type": "scale", "scale": [1.0, 0.5]}
MULTISCALE = {
    "version": "0.4",
    "multiscales": [
        {
            "axes": [{"name": "y", "type": "space", "unit": "nanometer"}, {"name": "x"}],
            "datasets": [{"path": "0", "coordinateTransformations": [SCALE]}, {"path": "1"}],
            "coordinateTransformations": [{"type": "translation", "translation": [1, 2]}],
        }
    ],
}


@MANY
@given(st.data())
def test_ome_metadata(data: st.DataObject) -> None:
    attributes = mutated(MULTISCALE, data)
    if not isinstance(attributes, dict):
        return
    with suppress(UNetError):
        found = parse_multiscale(json.loads(json.dumps(attributes)), "a.zarr")
        if found is not None:
            for dataset in found.datasets:
                found.voxel_size(dataset)
                found.translation(dataset)


# ---------------------------------------------------------------- model files


@FEW
@given(st.data())
def test_model_headers(data: st.DataObject) -> None:
    def change(table: dict[str, Any], header: dict[str, Any]) -> None:
        new = mutated(header, data)
        header.clear()
        header.update(new if isinstance(new, dict) else {"a": new})

    with suppress(UNetError):
        found = parse_model_bytes(changed(change), source="a.safetensors")
        assert ModelHeader.parse(found.header.summary(), source="a") == found.header


@FEW
@given(st.data())
def test_tensor_tables(data: st.DataObject) -> None:
    content = good()
    length = int.from_bytes(content[:8], "little")
    table = mutated(json.loads(content[8 : 8 + length]), data)
    text = json.dumps(table).encode()
    with suppress(UNetError):
        found = parse_model_bytes(pack(text, content[8 + length :]), source="a.safetensors")
        assert sum(t.offsets[1] - t.offsets[0] for t in found.tensors.values()) < len(content)


@FEW
@given(st.integers(0, 10**9), st.binary(min_size=1, max_size=8))
def test_model_bytes(place: int, patch: bytes) -> None:
    content = bytearray(good())
    at = place % (len(content) // 2)
    content[at : at + len(patch)] = patch
    with suppress(UNetError):
        parse_model_bytes(bytes(content), source="a.safetensors")


@MANY
@given(JSON | st.text(max_size=30))
def test_strict_json(value: Any) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    with suppress(ValueError):
        assert isinstance(parse_strict_json(text), dict)
