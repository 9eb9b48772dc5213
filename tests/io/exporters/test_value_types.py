"""Types that hold every value exactly, or a clear refusal."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.core.export_job import ExportFormat
from napari_unet.errors import ConfigError, InputError
from napari_unet.io.exporters.value_types import choose_type, depends_on_values

FORMATS = get_args(ExportFormat)
READABLE = {
    "tiff": {"uint8", "uint16", "float32"},
    "ome-tiff": {"uint8", "uint16", "uint32", "float32"},
    "mrc": {"int8", "uint16", "float32"},
    "hdf5": {"uint8", "uint16", "uint32", "uint64", "float32"},
    "png": {"uint8", "uint16"},
}
"""What the programs named in the docs read: ImageJ, Bio-Formats, IMOD, ilastik, any viewer."""


@given(
    kind=st.sampled_from(FORMATS),
    dtype=st.sampled_from(["uint8", "uint16", "uint32", "uint64"]),
    bits=st.integers(0, 64),
    off=st.integers(-1, 1),
)
def test_a_chosen_type_changes_no_value(
    kind: ExportFormat, dtype: str, bits: int, off: int
) -> None:
    maximum = min(max(0, 2**bits + off), int(np.iinfo(dtype).max))
    limit = {"tiff": 2**24, "mrc": 2**24, "ome-tiff": 2**32 - 1, "png": 65535, "hdf5": 2**64 - 1}
    if maximum > limit[kind]:
        with pytest.raises(ConfigError, match=str(maximum)):
            choose_type(kind, np.dtype(dtype), maximum)
        return
    chosen = choose_type(kind, np.dtype(dtype), maximum)
    assert str(chosen) in READABLE[kind]
    for value in {maximum, max(0, maximum - 1), maximum // 2}:
        assert int(np.array([value], dtype).astype(chosen)[0]) == value
        if depends_on_values(kind, np.dtype(dtype)) is False:
            assert chosen == np.dtype(dtype)


@pytest.mark.parametrize(
    ("kind", "dtype", "maximum", "expected"),
    [
        ("tiff", "uint32", 5, "uint16"),
        ("tiff", "uint32", 65536, "float32"),
        ("tiff", "uint32", 2**24, "float32"),
        ("mrc", "uint8", 127, "int8"),
        ("mrc", "uint8", 128, "uint16"),
        ("mrc", "uint32", 70000, "float32"),
        ("ome-tiff", "uint64", 70000, "uint32"),
        ("hdf5", "uint64", 2**63, "uint64"),
        ("png", "uint64", 65535, "uint16"),
        ("mrc", "float16", 0, "float32"),
        ("hdf5", "float32", 0, "float32"),
    ],
)
def test_types_are_those_of_the_table(
    kind: ExportFormat, dtype: str, maximum: int, expected: str
) -> None:
    assert choose_type(kind, np.dtype(dtype), maximum) == np.dtype(expected)


@pytest.mark.parametrize(
    ("kind", "maximum", "remedy"),
    [
        ("tiff", 2**24 + 1, "--format hdf5 or ome-tiff"),
        ("mrc", 2**40, "--format hdf5, or a smaller"),
        ("ome-tiff", 2**32, "--format hdf5, or a smaller"),
        ("png", 65536, "--format hdf5 or ome-tiff"),
    ],
)
def test_what_does_not_fit_is_refused(kind: ExportFormat, maximum: int, remedy: str) -> None:
    with pytest.raises(ConfigError, match=remedy) as error:
        choose_type(kind, np.dtype("uint64"), maximum)
    assert str(maximum) in str(error.value)


@pytest.mark.parametrize("dtype", ["int32", "bool"])
def test_what_is_no_label_is_refused(dtype: str) -> None:
    with pytest.raises(InputError, match="neither labels nor probabilities"):
        choose_type("hdf5", np.dtype(dtype), 1)
