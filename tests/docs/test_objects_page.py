"""The page on objects names what the program has, with its defaults: no more, no less."""

from __future__ import annotations

import re
import typing

import pytest
from tests.docs.test_reference import REFERENCE, blocks, check_rows, code_words, table
from typer.main import get_command

from napari_unet.app.objecting.record import ObjectsRecord
from napari_unet.cli.main import app
from napari_unet.core.axes import VoxelSize
from napari_unet.core.events import JobEvent
from napari_unet.core.object_method import (
    BACKGROUND_NAMES,
    BOUNDARY_NAMES,
    Dimension,
    ObjectDefaults,
    ObjectMethod,
)
from napari_unet.core.objects_events import ObjectsEvent
from napari_unet.core.objects_job import ObjectsJob
from napari_unet.core.watershed_options import LinkOptions, WatershedOptions
from napari_unet.labels.object_table import ObjectMeasures, TableRules, object_table

PAGE = "objects.md"
OPTIONS = table(PAGE, "## Options")


def test_every_option_is_described() -> None:
    group = get_command(app)
    context = group.make_context("napari-unet", [], resilient_parsing=True)
    command = group.get_command(context, "objects")  # type: ignore[attr-defined]
    options = {
        option
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
        if option.startswith("--") and option != "--help"
    }
    assert code_words(OPTIONS) == options


@pytest.mark.parametrize(
    ("prefix", "settings"), [("watershed", WatershedOptions), ("link", LinkOptions)]
)
def test_the_options_of_a_table_are_its_fields_with_their_defaults(
    prefix: str, settings: type[WatershedOptions] | type[LinkOptions]
) -> None:
    own = settings()
    for field in settings.model_fields:
        (cell,) = (key for key in OPTIONS if f"`--{prefix}-{field}`" in key)
        shown = OPTIONS[cell].strip().rstrip("|").split("|")[-1].strip(" `")
        value = getattr(own, field)
        told = {True: "on", False: "off"}[value] if isinstance(value, bool) else f"{value}"
        assert shown == told.removesuffix(".0"), field
    described = {key for key in code_words(OPTIONS) if key.startswith(f"--{prefix}-")}
    assert described == {f"--{prefix}-{field}" for field in settings.model_fields}


def test_methods_and_dimensions_are_described() -> None:
    assert code_words(table(PAGE, "## Methods")) == set(typing.get_args(ObjectMethod))
    text = (REFERENCE / PAGE).read_text(encoding="utf-8")
    heading = text.partition("\n## Dimensions\n")[2].strip().splitlines()[0]
    assert code_words([heading]) == set(typing.get_args(Dimension))
    sentence = text.partition("The background is a class named ")[2].partition(". With")[0]
    assert code_words([sentence]) == BACKGROUND_NAMES | BOUNDARY_NAMES


def test_every_field_of_job_and_record_is_described() -> None:
    section = "## The job file and the record"
    assert code_words(table(PAGE, section)) == set(ObjectsJob.model_fields)
    text = (REFERENCE / PAGE).read_text(encoding="utf-8")
    after = text.partition("opens it with the objects, their table and the image.")[2]
    rows = re.findall(r"^\| (`[^|]*) \|", after.partition("\n## ")[0], flags=re.MULTILINE)
    assert code_words(rows) == set(ObjectsRecord.model_fields)


def test_the_job_file_on_the_page_is_understood() -> None:
    import tomllib

    (text,) = blocks(REFERENCE / PAGE, "toml")
    assert ObjectsJob.parse(tomllib.loads(text), source=PAGE).watershed == {"merge": 0.4}


def test_every_event_is_described_with_its_fields() -> None:
    common = typing.get_args(JobEvent)
    own = [event for event in typing.get_args(ObjectsEvent) if event not in common]
    check_rows(own, table(PAGE, "## Events of an object job"))


@pytest.mark.parametrize("flat", [True, False])
def test_every_column_of_the_table_is_described(flat: bool) -> None:
    described = code_words(table(PAGE, "## The table"))
    rules = TableRules(VoxelSize(1, 1, 1, "UNIT"), flat=flat)
    columns = set(object_table(ObjectMeasures(0, probable=True), rules).column_names)
    other = "volume_UNIT3" if flat else "area_UNIT2"
    assert described == columns | {other}


def test_the_model_file_page_names_the_fields_of_objects() -> None:
    row = table("model-file.md", "# The model file")["`objects`"]
    assert set(ObjectDefaults.model_fields) <= code_words([row])
