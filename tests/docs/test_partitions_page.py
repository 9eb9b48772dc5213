"""The page of the partition scores holds the table that its script makes, from what was printed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "metrics-partitions.md"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "isbi_reference", ROOT / "benchmarks" / "isbi_reference.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def rows(script: ModuleType) -> list[list[str]]:
    table = PAGE.read_text(encoding="utf-8").partition(script.BEGIN)[2].partition(script.END)[0]
    lines = table.strip().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_printed_value_is_in_the_table_and_met(
    script: ModuleType, rows: list[list[str]]
) -> None:
    shown = {(name, value): float(theirs) for name, value, _, theirs, _ in rows}
    printed = script.expected()
    assert len(printed) == 6
    assert {len(values) for values in printed.values()} == {len(script.PRINTED)}
    assert shown == {
        (name, value): number for name, some in printed.items() for value, number in some.items()
    }
    assert all(ours == theirs and gap == "0" for _, _, ours, theirs, gap in rows)


def test_the_table_is_what_the_script_makes(script: ModuleType, rows: list[list[str]]) -> None:
    ours = script.measured("shift1px")
    for name, value, shown, *_ in rows:
        if name == "shift1px":
            assert float(shown) == pytest.approx(ours[value], abs=1e-10)
