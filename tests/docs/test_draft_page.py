"""The page on draft names what the program has: no more, no less."""

from __future__ import annotations

import json
import re
import typing

from tests.docs.test_reference import check_rows, code_words, table
from typer.main import get_command

from napari_unet.app.drafting import kept_tiles, stroke_cells
from napari_unet.app.drafting.control import DraftControl
from napari_unet.cli.draft import obey_draft
from napari_unet.cli.main import app
from napari_unet.core.draft_events import DraftEvent
from napari_unet.core.draft_job import KEPT_MEGABYTES, DraftJob
from napari_unet.core.events import JobEvent

PAGE = "draft.md"


def test_every_option_is_described() -> None:
    group = get_command(app)
    context = group.make_context("napari-unet", [], resilient_parsing=True)
    command = group.get_command(context, "draft")  # type: ignore[attr-defined]
    options = {
        option
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--") and option != "--help"
    }
    assert {key.strip("`") for key in table(PAGE, "## Options")} == options


def test_every_field_of_a_job_is_described() -> None:
    described = table(PAGE, "## The job")
    assert code_words(described) == set(DraftJob.model_fields)
    assert str(KEPT_MEGABYTES) in described["`kept_megabytes`"]


def test_every_event_is_described_with_its_fields() -> None:
    common = typing.get_args(JobEvent)
    own = [event for event in typing.get_args(DraftEvent) if event not in common]
    check_rows(own, table(PAGE, "## Events of a draft"))


def test_control_lines_are_understood() -> None:
    lines = table(PAGE, "## Control lines")
    for cell in lines:
        line = re.sub(r"\b([zyx])([01])\b", r"\2", cell.strip("`"))
        json.loads(line)
        obey_draft(DraftControl(), line)
    assert len(lines) == 7


def test_the_bounds_are_those_of_the_program() -> None:
    from tests.docs.test_reference import REFERENCE

    text = " ".join((REFERENCE / PAGE).read_text(encoding="utf-8").split())
    assert f"{stroke_cells.MAX_STROKE_BYTES // 2**20} MB of features of strokes" in text
    edge = kept_tiles.CELL_EDGE
    assert f"at most {stroke_cells.MAX_CELLS} cells of {edge} x {edge} pixels" in text
    assert f"fitted to at most {stroke_cells.MAX_ROWS} pixels" in text
