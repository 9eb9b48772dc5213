"""Job files and records: what is written is read back, what is wrong is named."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from napari_unet.app.job_files import (
    JobRecord,
    read_record,
    read_settings_file,
    record_path,
    write_record,
    write_settings_file,
)
from napari_unet.core.job import SegmentJob
from napari_unet.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from pathlib import Path

JOB = SegmentJob(input="stack.tif", model="em-membranes", output="out.zarr", tile_size=512)


def make_record(output: Path) -> JobRecord:
    return JobRecord(
        state="complete",
        job=JOB,
        command=("napari-unet",),
        output=str(output),
        name="em-membranes",
        labels="x",
        classes=(("interior", "#112233"),),
        provenance={"device": "cpu"},
    )


@pytest.mark.parametrize("name", ["job.toml", "job.json", "with space/ünï.toml"])
def test_settings_are_read_back(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_settings_file(path, JOB.model_dump())
    assert SegmentJob.parse(read_settings_file(path), source="test") == JOB


def test_a_record_is_read_back_and_serves_as_a_job_file(tmp_path: Path) -> None:
    path = tmp_path / "em-membranes.unet.json"
    record = make_record(tmp_path / "out.zarr")
    write_record(path, record)
    assert read_record(path) == record
    assert SegmentJob.parse(read_settings_file(path), source="test") == JOB


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "tile = [", "not valid"),
        ("a.json", "{", "not valid"),
        ("a.json", "[1]", "no table"),
        ("a.json", "[" * 100_000, "not valid"),
        ("a.unet.json", "{}", "no job"),
        ("a.toml", "#" * (2**20 + 1), "larger than 1 MB"),
    ],
)
def test_a_bad_job_file_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_settings_file(path)


def test_a_missing_job_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_settings_file(tmp_path / "none.toml")


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"job": 1}', "[" * 100_000])
def test_a_bad_record_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.unet.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"a\.unet\.json"):
        read_record(path)


def test_records_of_two_outputs_in_one_folder_do_not_overwrite_each_other(tmp_path: Path) -> None:
    first, second = tmp_path / "a.zarr", tmp_path / "b.zarr"
    path = record_path(first, "em-membranes")
    assert path == tmp_path / "em-membranes.unet.json"
    write_record(path, make_record(first))
    assert record_path(first, "em-membranes") == path, "the same output keeps its record"
    other = record_path(second, "em-membranes")
    assert other == tmp_path / "b.em-membranes.unet.json"
    write_record(other, make_record(second))
    assert record_path(second, "em-membranes") == other
    assert json.loads(path.read_text())["output"] == str(first)


def test_a_stranger_under_the_record_s_name_is_left_alone(tmp_path: Path) -> None:
    stranger = tmp_path / "em-membranes.unet.json"
    stranger.write_text("my notes")
    assert record_path(tmp_path / "a.zarr", "em-membranes").name == "a.em-membranes.unet.json"
    assert stranger.read_text() == "my notes"


def test_a_record_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        write_record(tmp_path / "missing" / "a.unet.json", make_record(tmp_path))
