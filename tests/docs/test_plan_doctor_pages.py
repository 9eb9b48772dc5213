"""The pages of `plan` and `doctor` name what these commands have: no more, no less."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import zarr
from typer.main import get_command

from napari_unet.app.doctor import examine
from napari_unet.app.foresee import foresee
from napari_unet.app.foreseeing.begun import Begun
from napari_unet.app.foreseeing.storage import Storage
from napari_unet.app.foreseeing.timing import MeasuredTile
from napari_unet.cli.main import app
from napari_unet.cli.plan import NOT_OF_A_PLAN
from napari_unet.core.job import SegmentJob

if TYPE_CHECKING:
    from click import Command

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"


def first_cells(page: str, heading: str) -> list[str]:
    """Return the first cells of the table below a heading of a page."""
    text = (REFERENCE / page).read_text(encoding="utf-8").partition(f"\n{heading}\n")[2]
    rows = re.search(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert rows
    return [line.split("|")[1].strip() for line in rows.group().splitlines()[2:]]


def code_words(text: str) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", text))


def command(name: str) -> Command:
    group = get_command(app)
    context = group.make_context("napari-unet", [], resilient_parsing=True)
    found: Command = group.get_command(context, name)  # type: ignore[attr-defined]
    return found


def options(name: str) -> set[str]:
    found = command(name).params
    every = {word for item in found for word in [*item.opts, *item.secondary_opts]}
    return {word for word in every if word.startswith("--")} - {"--help"}


def test_plan_has_the_options_of_segment_and_those_of_its_page() -> None:
    described = code_words(" ".join(first_cells("plan.md", "## Options")))
    left_out = {f"--{name.replace('_', '-')}" for name in NOT_OF_A_PLAN} - {"--workers"}
    assert options("plan") == (options("segment") - left_out) | described
    assert described.isdisjoint(options("segment") - {"--workers"})


def test_every_field_of_the_json_of_plan_is_described(tmp_path: Path) -> None:
    zarr.create_array(
        tmp_path / "a.zarr", shape=(64, 64), dtype=np.uint8, dimension_names=("y", "x")
    )
    job = {"input": str(tmp_path / "a.zarr"), "output": str(tmp_path / "out.zarr")}
    foresight = foresee(SegmentJob(**job, model="em-membranes", threads=1))
    found = foresight.to_json()
    nested = {field.name for kind in (Begun, MeasuredTile, Storage) for field in fields(kind)}
    names = found.keys() | found["hours"][0].keys() | nested | {"slurm"}
    described = code_words((REFERENCE / "plan.md").read_text(encoding="utf-8"))
    assert names <= described


def test_doctor_has_the_options_of_its_page() -> None:
    assert options("doctor") == code_words(" ".join(first_cells("doctor.md", "## Options")))


def test_every_finding_of_doctor_is_described(tmp_path: Path) -> None:
    described = first_cells("doctor.md", "## The findings")
    assert [f"`{finding.name}`" for finding in examine(tmp_path)] == described


@pytest.mark.parametrize("name", ["plan", "doctor"])
def test_help_has_a_line_for_every_option(name: str) -> None:
    for item in command(name).params:
        assert getattr(item, "help", None), item.name
