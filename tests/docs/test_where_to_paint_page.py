"""The page on where to paint holds the tables that its script makes of its log."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from napari_unet.core.suggest_job import DEFAULT_RANKING

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "explanation" / "where-to-paint.md").read_text(encoding="utf-8")
FIRST, FRESH = range(20), range(20, 50)
LOG = ROOT / "benchmarks" / "logs" / "paint_next.jsonl"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = ROOT / "benchmarks" / "paint_next.py"
    # It takes the strokes of another one.
    monkeypatch.syspath_prepend(str(path.parent))
    spec = importlib.util.spec_from_file_location("paint_next", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, "paint_next", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("rule", "seeds", "arms"),
    [("random", FIRST, 5), ("corrects", FIRST, 5), ("corrects", FRESH, 3)],
)
def test_the_tables_are_those_of_the_log(
    script: ModuleType, rule: str, seeds: range, arms: int, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row for row in script.read_log(LOG) if row["seed"] in seeds]
    script.table(rows, rule, "mean_f1")
    said = capsys.readouterr().out.splitlines()
    assert f"{len(seeds)} seeds" in said[1]
    printed = [line for line in said if line.startswith("|")]
    assert len(printed) == 2 + arms
    assert "\n".join(printed) in PAGE


def test_the_default_is_the_one_that_the_page_argues_for() -> None:
    assert f"So `{DEFAULT_RANKING}` is the default" in PAGE
