"""Headers that are damaged or hostile: refused by what is wrong with them."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from napari_unet.errors import ModelFileError
from napari_unet.model.file import parse_model_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    TakeApart = Callable[[], Any]
    Change = Callable[[Any], object]

BUDGET_S = 1.0


def pack(header: bytes, tensors: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + tensors


def nested(depth: int) -> Change:
    def change(parts: Any) -> None:
        value: Any = 0
        for _ in range(depth):
            value = [value]
        parts.header["provenance"]["scores"] = value

    return change


def set_header(**values: Any) -> Change:
    return lambda parts: parts.header.update(values)


def set_architecture(**values: Any) -> Change:
    return lambda parts: parts.header["architecture"].update(values)


def set_entry(kind: str, **values: Any) -> Change:
    return lambda parts: parts.first(kind).update(values)


def set_metadata(**values: Any) -> Change:
    return lambda parts: parts.table["__metadata__"].update(values)


HEADERS: list[tuple[str, Change, str]] = [
    ("no metadata", lambda p: p.table.pop("__metadata__"), "without 'napari_unet' metadata"),
    ("metadata of others", lambda p: p.table.update(__metadata__={"format": "pt"}), "without"),
    ("metadata no object", lambda p: p.table.update(__metadata__=3), "without"),
    ("unknown metadata", set_metadata(code="import os"), "'code'"),
    ("metadata no text", set_metadata(format=5), "must be texts"),
    ("schema version 2", set_header(schema_version=2), "schema version is 2"),
    ("schema version true", set_header(schema_version=True), "schema version is True"),
    ("schema version missing", lambda p: p.header.pop("schema_version"), "version is None"),
    ("unknown field", set_header(on_load="os.system"), "on_load"),
    ("bad name", set_header(name="../../etc/passwd"), "name"),
    ("long text", set_header(description="x" * 30_000), "description"),
    ("two names for three", set_architecture(num_classes=3), "2 classes are named"),
    ("context for one input", lambda p: p.header["input"].update(context=1), "sees 3 slices"),
    ("much context", lambda p: p.header["input"].update(context=9), "input.context"),
    ("deep net", set_architecture(depth=60), "architecture.depth"),
    ("wide net", set_architecture(base_channels=10**9), "architecture.base_channels"),
    ("wide net in digits", set_architecture(base_channels=10**4000), "architecture.base_channels"),
    ("unknown norm", set_architecture(norm="os.system"), "architecture.norm"),
    ("unknown layer", set_architecture(layer="torch.nn.Linear"), "architecture.layer"),
    ("nested header", nested(500), "nested deeper than 16"),
    ("very nested header", nested(900), "nested deeper than 16"),
    ("bad color", lambda p: p.header["classes"][0].update(color="red"), "classes.0.color"),
    ("half a surrogate", set_header(description="\ud800"), "surrogates not allowed"),
    ("surrogate as a name", set_header(**{"\ud800": 1}), "surrogates not allowed"),
    ("infinite score", set_header(provenance={"scores": {"f": float("inf")}}), "Infinity"),
    ("overflowing score", set_header(provenance={"scores": {"f": 10**400}}), "provenance"),
    ("integers", set_entry("head.weight", dtype="I32"), "has the type 'I32'"),
    ("complex numbers", set_entry("head.weight", dtype="C64"), "has the type 'C64'"),
    ("a dtype that is a list", set_entry("head.weight", dtype=["F16"]), "has the type ['F16']"),
    ("wider than stored", set_entry("head.weight", dtype="F32"), "takes"),
    ("no dtype", lambda p: p.first("head.weight").pop("dtype"), "is described by"),
    ("one key more", set_entry("head.weight", stride=[0]), "is described by"),
    ("an entry of numbers", lambda p: p.table.update({"head.weight": [1]}), "is described by"),
    ("negative edge", set_entry("head.weight", shape=[-2, -2, 1, 1]), "has the shape"),
    ("empty tensor", set_entry("head.weight", shape=[0], data_offsets=[0, 0]), "has the shape"),
    ("hidden 2^62", set_entry("head.weight", shape=[2**62, 0]), "has the shape"),
    ("overflowing size", set_entry("head.weight", shape=[2**32] * 8), "takes"),
    ("edge of 4000 digits", set_entry("head.weight", shape=[10**4000]), "has the shape"),
    ("fractions", set_entry("head.weight", shape=[2.0, 2.0, 1.0, 1.0]), "has the shape"),
    ("booleans", set_entry("head.weight", shape=[True] * 4), "has the shape"),
    ("many dimensions", set_entry("head.weight", shape=[1] * 5000), "has the shape"),
    ("negative offset", set_entry("head.weight", data_offsets=[-8, 0]), "its offsets are"),
    ("one offset", set_entry("head.weight", data_offsets=[0]), "has the offsets"),
    ("offsets in text", set_entry("head.weight", data_offsets="08"), "has the offsets"),
    ("two names for one", lambda p: p.table.update(a=p.first("head.weight")), "starts at byte"),
    ("overlap", set_entry("head.bias", data_offsets=[0, 4]), "starts at byte"),
    ("beyond the end", set_entry("head.bias", data_offsets=[10**30, 10**30 + 4]), "starts at"),
]


@pytest.mark.parametrize(
    ("change", "problem"),
    [pytest.param(change, problem, id=name) for name, change, problem in HEADERS],
)
def test_a_bad_header_is_named(
    refused: Callable[..., str], take_apart: TakeApart, change: Change, problem: str
) -> None:
    parts = take_apart()
    assert parse_model_bytes(parts.assemble(), source="good").header.name == "tiny"
    change(parts)
    assert problem in refused(parts.assemble())


def test_a_file_from_before_context_has_none(take_apart: TakeApart) -> None:
    parts = take_apart()
    del parts.header["input"]["context"]
    header = parse_model_bytes(parts.assemble(), source="old").header
    assert header.input.context == 0
    assert header.geometry() == header.architecture.geometry()


def test_a_repeated_name_is_refused(refused: Callable[..., str], take_apart: TakeApart) -> None:
    parts = take_apart()
    entry = json.dumps(parts.table["head.bias"])
    text = json.dumps(parts.table)[:-1] + f', "head.bias": {entry}}}'
    assert json.loads(text) == parts.table, "the same to a reader that takes the last one"
    assert "'head.bias' occurs twice" in refused(pack(text.encode(), bytes(parts.tensors)))
    inner = json.dumps(parts.header)[:-1] + ', "name": "other"}'
    parts.table["__metadata__"]["napari_unet"] = inner
    content = pack(json.dumps(parts.table).encode(), bytes(parts.tensors))
    assert "'name' occurs twice" in refused(content)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 2**20,
        '{"a":' * 170_000,
        "{" * 2**20,
        '"' * (2**20 - 1),
        '"' + '\\"' * 500_000,
        "[{}" + ",{}" * 300_000 + "]",
        '{"a":' + "9" * 1_000_000 + "}",
        '{"' + "a" * 70_000 + '":{}}',
        "NaN",
        '{"__metadata__":NaN}',
        "\ufeff{}",
    ],
    ids=lambda text: text[:8],
)
def test_json_of_the_worst_shape_costs_little(refused: Callable[..., str], text: str) -> None:
    content = pack(text.encode()[: 2**20])
    # Tracing allocations slows 300,000 small objects tenfold; the budgets are held one by one.
    start = time.process_time()
    with pytest.raises(ModelFileError, match="JSON"):
        parse_model_bytes(content, source="worst")
    assert time.process_time() - start < BUDGET_S


def test_300_000_tensors_are_not_looked_at(refused: Callable[..., str]) -> None:
    entry = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    many = "{" + ",".join(f'"{k}":{entry}' for k in range(300_000)) + "}"
    assert "more than the 1,048,576 allowed" in refused(pack(many.encode()))
    some = "{" + ",".join(f'"{k}":{entry}' for k in range(15_000)) + "}"
    with pytest.raises(ModelFileError, match="holds 15,000 tensors; at most 4,096 may be"):
        parse_model_bytes(pack(some.encode()), source="many")


def test_a_billion_numbers_are_too_many(refused: Callable[..., str], tmp_path: Path) -> None:
    count = 1_000_000_001
    table = {"a": {"dtype": "F16", "shape": [count], "data_offsets": [0, 2 * count]}}
    path = tmp_path / "many.safetensors"
    path.write_bytes(pack(json.dumps(table).encode()))
    os.truncate(path, path.stat().st_size + 2 * count)
    assert "1,000,000,001 numbers" in refused(path)
