"""`napari-unet suggest`: lines for people, JSON for programs, and exit codes."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, get_type_hints

import pytest

from napari_unet.cli.main import app
from napari_unet.cli.suggest import suggest
from napari_unet.core.suggest_job import DEFAULT_RANKING, SuggestJob

if TYPE_CHECKING:
    from pathlib import Path


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        app(list(words))
    return int(ended.value.code or 0)


@pytest.fixture
def words(stack_path: str, model: str) -> list[str]:
    return ["suggest", stack_path, "--model", model, "--threads", "1", "--count", "3"]


def test_it_prints_a_line_for_each_place(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*words, "--edge", "30", "--rank-by", "entropy") == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert all(line.count(":") == 3 and line.endswith("%)") for line in lines)
    assert "18 places" in said.err
    assert "looked at 18 places" in said.err


def test_it_prints_json(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*words, "--json", "--progress", "none") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ranking"] == DEFAULT_RANKING
    assert [place["rank"] for place in found["places"]] == [1, 2, 3]
    assert set(found["places"][0]["box"]) == {"start", "stop"}


def test_it_prints_events(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    one_slice = ("--scope", "slice", "--slice", "1", "--edge", "24")
    assert call(*words, "--progress", "json", *one_slice) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = [event["event"] for event in events]
    assert names[0] == "stage_changed"
    assert names.count("place_found") == names.count("suggest_progress") == 3
    assert names[-1] == "places_ranked"
    assert {place["box"]["start"][0] for place in events[-1]["places"]} == {1}


@pytest.mark.parametrize(
    ("options", "code", "words_said"),
    [
        (("--scope", "slice"), 2, "--slice 12"),
        (("--scope", "slice", "--slice", "7"), 2, "slice 7 is not among"),
        (("--rank-by", "disagreement"), 2, "--compare-with"),
        (("--annotation", "none.zarr"), 3, "there is no stored annotation"),
        (("--progress", "loud"), 2, "auto, bar, json, none"),
    ],
)
def test_what_cannot_be_is_said(
    words: list[str],
    options: tuple[str, ...],
    code: int,
    words_said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(*words, *options) == code
    assert words_said in capsys.readouterr().err


def test_nothing_is_written(words: list[str], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert call(*words, "--progress", "none") == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_the_help_says_the_defaults() -> None:
    hints = get_type_hints(suggest, include_extras=True)
    said = {
        name: found[1]
        for name, hint in hints.items()
        if hasattr(hint, "__metadata__")
        and (found := re.search(r"\[default: (.+)\]", hint.__metadata__[0].help or ""))
    }
    job = SuggestJob(input="a.tif", model="m")
    asked = {"count", "edge", "rank_by", "windows", "seconds", "seed"}
    assert said.keys() == asked
    known = {name: getattr(job, name) for name in asked - {"rank_by"}} | {"rank_by": job.ranking}
    assert said == {
        name: f"{value:g}" if isinstance(value, float) else str(value)
        for name, value in known.items()
    }
