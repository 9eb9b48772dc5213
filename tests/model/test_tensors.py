"""Tensors that do not belong to the header, cannot be computed with, or are damaged by chance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_unet.errors import ModelFileError
from napari_unet.model.weights import load_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    TakeApart = Callable[[], Any]
    Change = Callable[[Any], object]


def set_architecture(**values: Any) -> Change:
    return lambda parts: parts.header["architecture"].update(values)


def only_load(message: Callable[..., str], content: bytes) -> str:
    """Refused by the loader alone: the header is fine, it is the tensors that are not."""
    return message(content, readers=(load_model,))


def test_the_architecture_must_be_that_of_the_tensors(
    refused: Callable[..., str], take_apart: TakeApart
) -> None:
    changes: list[tuple[Change, str]] = [
        (set_architecture(depth=2), "it lacks"),
        (set_architecture(depth=6, base_channels=256), "it lacks"),
        (set_architecture(base_channels=256), "has the shape"),
        (set_architecture(norm=None), "it lacks"),
        (set_architecture(residual="shared"), "it lacks"),
    ]
    for change, problem in changes:
        parts = take_apart()
        change(parts)
        assert problem in only_load(refused, parts.assemble())


def test_a_tensor_too_few_or_too_many_is_named(
    refused: Callable[..., str], take_apart: TakeApart
) -> None:
    parts = take_apart()
    parts.table["backdoor"] = parts.table.pop("head.bias")
    assert "it lacks 1 tensors, the first is 'head.bias'" in only_load(refused, parts.assemble())
    parts = take_apart()
    stop = len(parts.tensors)
    parts.table["backdoor"] = {"dtype": "F16", "shape": [2], "data_offsets": [stop, stop + 4]}
    parts.tensors += bytes(4)
    assert "1 tensors too many, the first is 'backdoor'" in only_load(refused, parts.assemble())


def test_another_shape_of_the_same_size_is_named(
    refused: Callable[..., str], take_apart: TakeApart
) -> None:
    parts = take_apart()
    entry = parts.first("down.1.second.weight")
    assert entry["shape"] == [4, 4, 3, 3]
    entry["shape"] = [3, 3, 4, 4]
    assert "has the shape (3, 3, 4, 4), not (4, 4, 3, 3)" in only_load(refused, parts.assemble())


def test_another_type_of_the_same_size_is_named(
    refused: Callable[..., str], take_apart: TakeApart
) -> None:
    parts = take_apart()
    parts.first("head.weight")["dtype"] = "BF16"
    assert "has the type BF16, not F16 or F32" in only_load(refused, parts.assemble())
    parts = take_apart()
    parts.first("head.weight").update(dtype="I64", shape=[1])
    assert "'head.weight' has the shape" in only_load(refused, parts.assemble())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("kind", "dtype"), [("head.weight", "<f2"), ("norms.0.weight", "<f4"), ("running_var", "<f4")]
)
def test_numbers_must_be_finite(
    refused: Callable[..., str], take_apart: TakeApart, kind: str, dtype: str, value: float
) -> None:
    parts = take_apart()
    np.frombuffer(parts.values(kind), dtype)[0] = value
    message = only_load(refused, parts.assemble())
    assert f"{kind}' has 1 values" in message
    assert "NaN or infinite" in message


def test_a_variance_must_not_be_negative(
    refused: Callable[..., str], take_apart: TakeApart
) -> None:
    parts = take_apart()
    np.frombuffer(parts.values("running_var"), "<f4")[0] = -0.5
    assert "negative values" in only_load(refused, parts.assemble())


def test_folding_must_not_overflow(refused: Callable[..., str], take_apart: TakeApart) -> None:
    parts = take_apart()
    np.frombuffer(parts.values("running_var"), "<f4")[:] = 0
    np.frombuffer(parts.values("norms.0.weight"), "<f4")[:] = 3e38
    assert "NaN or infinite" in only_load(refused, parts.assemble())


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Return the bytes with a few random changes, half of them in the header."""
    out = bytearray(data)
    header = 8 + int.from_bytes(data[:8], "little")
    for _ in range(int(rng.integers(1, 3))):
        # The last change may have shortened it.
        half = min(header, len(out) - 1)
        place = int(rng.integers(0, half) if rng.random() < 0.5 else rng.integers(half, len(out)))
        match int(rng.integers(0, 8)):
            case 0 | 6 | 7:
                out[place] ^= 1 << int(rng.integers(0, 8))
            case 1:
                out[place] = int(rng.integers(0, 256))
            case 2:
                del out[place : place + int(rng.integers(1, 20))]
            case 3:
                out[place:place] = rng.bytes(int(rng.integers(1, 20)))
            case 4:
                # A digit for a digit keeps the JSON legal and changes a size, offset or option.
                digits = [k for k in range(min(header, len(out))) if 48 <= out[k] < 58]
                out[digits[int(rng.integers(len(digits)))]] = 48 + int(rng.integers(0, 10))
            case _:
                del out[max(place, 1) :]
    return bytes(out)


@pytest.mark.parametrize("seed", range(3))
def test_random_damage_gives_a_refusal_or_a_model(good: bytes, tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    path = tmp_path / "damaged.safetensors"
    refusals = models = 0
    for _ in range(100):
        path.write_bytes(mutate(good, rng))
        try:
            loaded = load_model(path)
        except ModelFileError:
            refusals += 1
            continue
        models += 1
        edge = loaded.net.architecture.geometry().axes[-1].input_size(2)
        with torch.no_grad():
            assert loaded.net(torch.zeros(1, 1, edge, edge)).shape[1] == 2
    assert refusals > 20
    assert models > 5
