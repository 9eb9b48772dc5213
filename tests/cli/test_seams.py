"""`napari-unet seams`: a sentence for people, numbers for programs, an exit code for scripts."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.docs.test_reference import code_words, table
from typer.main import get_command

from napari_unet.app import seam_check
from napari_unet.cli.main import app
from napari_unet.core.job import SegmentJob

if TYPE_CHECKING:
    from napari_unet.app.seam_check import SeamReport

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "seams.md"


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        app(list(words))
    return int(ended.value.code or 0)


@pytest.fixture
def words(stack_path: str, model: str) -> list[str]:
    return ["seams", stack_path, "--model", model, "--threads", "1", "--tile-size", "32"]


def test_it_says_that_tiles_agree(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    assert call(*words, "--region", "1:2,:,:") == 0
    said = capsys.readouterr().out
    assert "tiles agree" in said
    assert "90 x 70 pixels from z 1, y 0, x 0" in said
    assert "9, of 32 x 32 pixels" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_its_numbers_are_those_of_the_page(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*words, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["holds"]
    assert report["tiles"] == 9
    assert code_words(table("seams.md", "## What it says")) == set(report)


def test_seams_are_an_exit_code(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    check = seam_check.check_seams

    def worse(job: SegmentJob) -> SeamReport:
        return replace(check(job), largest_difference=0.5, differing_pixels=12)

    monkeypatch.setattr(seam_check, "check_seams", worse)
    assert call(*words) == 3
    said = capsys.readouterr().out
    assert "TILES DO NOT AGREE" in said
    assert "at most 0.5 of a probability" in said
    assert call(*words, "--json") == 3
    assert json.loads(capsys.readouterr().out)["holds"] is False


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--region", "0:1"], 2, "region"),
        (["--axes", "q"], 2, "axes"),
        (["--rescale", "much"], 2, "auto, off, or a factor"),
        (["--device", "abacus"], 2, "cuda:1"),
    ],
)
def test_mistakes_are_named(
    words: list[str],
    options: list[str],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(*words, *options) == code
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_every_option_is_described_and_is_one_of_segment() -> None:
    group = get_command(app)
    context = group.make_context("napari-unet", [], resilient_parsing=True)
    found = {
        name: {
            option
            for item in group.get_command(context, name).params  # type: ignore[attr-defined]
            for option in item.opts
            if option.startswith("--") and option != "--help"
        }
        for name in ("seams", "segment")
    }
    assert {cell.strip("`") for cell in table("seams.md", "## Options")} == found["seams"]
    assert found["seams"] - {"--json"} <= found["segment"]
    fields = {option[2:].replace("-", "_") for option in found["seams"] - {"--json"}}
    assert fields <= set(SegmentJob.model_fields)


def test_the_page_names_the_size_of_the_part() -> None:
    text = PAGE.read_text(encoding="utf-8")
    numbers = set(re.findall(r"\d+", text))
    assert {str(seam_check.PART_EDGES[0]), str(seam_check.SMALL_TILE)} <= numbers
