"""The reference pages name what the program has: no more, no less."""

from __future__ import annotations

import json
import re
import shlex
import typing
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from napari_unet.app.job_files import JobRecord
from napari_unet.app.training.run_folder import WORTHLESS_ALONE
from napari_unet.cli import exit_codes
from napari_unet.cli.main import app
from napari_unet.core.axes import AXIS_NAMES
from napari_unet.core.events import JobEvent, event_name
from napari_unet.core.export_events import ExportEvent
from napari_unet.core.export_job import EXPORT_SUFFIXES
from napari_unet.core.header import InputExpectation, ModelHeader, Provenance
from napari_unet.core.job import SegmentJob
from napari_unet.core.train_events import TrainEvent
from napari_unet.core.train_job import TrainJob
from napari_unet.training.checkpoint import BEST, LAST

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def table(page: str, heading: str) -> dict[str, str]:
    """Return first cell -> rest of the row, of the first table below a heading of a page."""
    text = "\n" + (REFERENCE / page).read_text(encoding="utf-8")
    _, found, after = text.partition(f"\n{heading}\n")
    assert found, f"{page} has no heading {heading!r}"
    rows = re.search(r"(?:^\|.*\n)+", after, flags=re.MULTILINE)
    assert rows
    cells = [line.strip("|").split("|", 1) for line in rows.group().splitlines()[2:]]
    return {first.strip(): rest for first, rest in cells}


def code_words(cells: typing.Iterable[str]) -> set[str]:
    """Return what stands between backticks."""
    return {word for cell in cells for word in re.findall(r"`([^`]+)`", cell)}


@pytest.mark.parametrize(
    ("command", "page", "heading"),
    [
        ("segment", "command-line.md", "## napari-unet segment"),
        ("train", "train.md", "## Options"),
        ("export", "export.md", "## Options"),
        ("evaluate", "evaluate.md", "## Options"),
    ],
)
def test_every_option_is_described(command: str, page: str, heading: str) -> None:
    group = get_command(app)
    context = group.make_context("napari-unet", [], resilient_parsing=True)
    found = group.get_command(context, command)  # type: ignore[attr-defined]
    options = {
        option
        for parameter in found.params
        for option in parameter.opts
        if option.startswith("--") and option != "--help"
    }
    first_words = (re.search("`([^`]+)`", cell) for cell in table(page, heading))
    assert {word.group(1) for word in first_words if word} == options


def test_every_table_of_training_settings_is_described() -> None:
    tables = {
        name for name, field in TrainJob.model_fields.items() if "Any" in str(field.annotation)
    }
    assert code_words(table("train.md", "## The settings file")) == tables


def test_every_file_of_a_run_is_described() -> None:
    described = code_words(table("train.md", "## Run folder"))
    assert described >= WORTHLESS_ALONE | {BEST, LAST}


def test_every_exit_code_is_described() -> None:
    codes = {str(v) for k, v in vars(exit_codes).items() if k.isupper() and isinstance(v, int)}
    assert set(table("command-line.md", "## Exit codes")) == codes


def test_every_field_of_a_job_is_described() -> None:
    assert code_words(table("job-file.md", "## The job file")) == set(SegmentJob.model_fields)


def test_every_field_of_a_record_is_described() -> None:
    assert code_words(table("job-file.md", "## The job record")) == set(JobRecord.model_fields)


def test_every_event_is_described_with_its_fields() -> None:
    described = table("events.md", "## Events")
    training = table("events.md", "## Events of a training")
    export = table("export.md", "## Events of an export")
    of_segmentation = typing.get_args(JobEvent)
    only_training = [e for e in typing.get_args(TrainEvent) if e not in of_segmentation]
    only_export = [e for e in typing.get_args(ExportEvent) if e not in of_segmentation]
    pages = ((of_segmentation, described), (only_training, training), (only_export, export))
    for events, rows in pages:
        check_rows(events, rows)


def check_rows(events: typing.Iterable[type], described: dict[str, str]) -> None:
    for event in events:
        name = event_name(event.__new__(event))
        row = described.pop(f"`{name}`")
        fields = set(event.__dataclass_fields__)
        assert fields <= code_words([row]), f"{name} has {fields}"
    assert described == {}


def test_every_export_format_and_its_ending_is_described() -> None:
    described = table("export.md", "## The formats")
    assert code_words(described) == set(EXPORT_SUFFIXES)
    for kind, suffixes in EXPORT_SUFFIXES.items():
        assert suffixes[0] in code_words([described[f"`{kind}`"].split("|")[0]])


def test_every_field_of_a_model_is_described() -> None:
    described = table("model-file.md", "# The model file")
    assert code_words(described) == set(ModelHeader.model_fields)
    assert set(InputExpectation.model_fields) <= code_words([described["`input`"]])
    assert set(Provenance.model_fields) <= code_words([described["`provenance`"]])


def test_the_axis_letters_are_those_of_the_program() -> None:
    assert AXIS_NAMES in code_words([table("job-file.md", "## The job file")["`axes`"]])


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a language in a page."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """Return the commands of this program in a page's console blocks."""
    # A backslash at the end of a line goes on with the next one, as in a shell.
    lines = "\n".join(blocks(page, "console")).replace("\\\n", " ").splitlines()
    return [line[2:] for line in lines if line.startswith("$ napari-unet ")]


@pytest.mark.parametrize(
    "command", sorted({command for page in PAGES for command in commands(page)})
)
def test_commands_in_the_pages_are_understood(command: str) -> None:
    # --help is answered after the command line has been understood, and before anything is done.
    result = CliRunner().invoke(app, [*shlex.split(command)[1:], "--help"])
    assert result.exit_code == 0, result.output


def test_job_files_in_the_pages_are_understood() -> None:
    import tomllib

    (text,) = blocks(REFERENCE / "job-file.md", "toml")
    assert SegmentJob.parse(tomllib.loads(text), source="job-file.md").probabilities


def test_control_lines_in_the_pages_are_understood() -> None:
    from napari_unet.cli.control_input import obey
    from napari_unet.inference.control import JobControl

    for cell in table("events.md", "## Control lines"):
        line = re.sub(r"\b([zyx])([01])\b", r"\2", cell.strip("`"))
        json.loads(line)
        obey(JobControl(), line)


def test_every_option_of_models_is_described() -> None:
    group = get_command(app)
    context = group.make_context("napari-unet", [], resilient_parsing=True)
    models = group.get_command(context, "models")  # type: ignore[attr-defined]
    options = {
        (name, option)
        for name, command in models.commands.items()
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--") and option != "--help"
    }
    text = (REFERENCE / "command-line.md").read_text(encoding="utf-8")
    section = text.partition("\n## napari-unet models\n")[2].partition("\n## ")[0]
    described = re.findall(r"^\| `(\w+)` \| `(--[\w-]+)` \|", section, flags=re.MULTILINE)
    assert set(described) == options
