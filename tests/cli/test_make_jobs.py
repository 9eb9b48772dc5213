"""From the command line to jobs: every option arrives, every mistake is named."""

from __future__ import annotations

import pytest

from napari_unet.app.job_files import command_line
from napari_unet.cli.main import app
from napari_unet.cli.segment import make_jobs
from napari_unet.core.job import SegmentJob
from napari_unet.errors import ConfigError

NEEDED = {"model": "em-membranes", "output": "out.zarr"}


def test_one_input_writes_to_output_itself() -> None:
    (job,) = make_jobs(NEEDED, ["a b.tif"])
    assert (job.input, job.output) == ("a b.tif", "out.zarr")


def test_several_inputs_write_one_zarr_each_into_a_folder() -> None:
    jobs = make_jobs(NEEDED | {"output": "results"}, ["x/a.ome.tif", "x/b.zarr"])
    assert [job.output for job in jobs] == ["results/a.zarr", "results/b.zarr"]


def test_inputs_that_would_overwrite_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match="both be written"):
        make_jobs(NEEDED | {"output": "results"}, ["x/a.tif", "y/a.tif"])


def test_an_input_on_the_command_line_wins_over_the_job_file() -> None:
    (job,) = make_jobs(NEEDED | {"input": "old.tif"}, ["new.tif"])
    assert job.input == "new.tif"


@pytest.mark.parametrize(
    ("values", "inputs", "message"),
    [
        ({"output": "o"}, ["a.tif"], "--model"),
        ({"model": "m"}, ["a.tif"], "--output"),
        (NEEDED, [], "INPUT"),
        (NEEDED | {"tile_sise": 512}, ["a.tif"], "tile_sise"),
        (NEEDED | {"tile_size": 0}, ["a.tif"], "tile_size"),
        (NEEDED | {"device": "gpu"}, ["a.tif"], "device"),
        (NEEDED | {"precision": "fp8"}, ["a.tif"], "precision"),
        (NEEDED | {"name": "../up"}, ["a.tif"], "name"),
        (NEEDED | {"channel": "red"}, ["a.tif"], "channel"),
        (NEEDED | {"output": "x/out.TIF"}, ["a.tif"], "name it x/out.zarr"),
    ],
)
def test_a_mistake_is_named(values: dict[str, object], inputs: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_jobs(dict(values), inputs)


EXAMPLES: dict[str, object] = {
    "name": "mine",
    "region": "0:1,0:16,0:16",
    "axes": "zyx",
    "channel": "0,2",
    "level": 1,
    "time": 3,
    "tile_size": 384,
    "batch_size": 2,
    "block_size": 768,
    "device": "cpu",
    "threads": 1,
    "precision": "bf16",
    "tf32": True,
    "average": "d4",
    "rescale": 0.5,
    "require_complete": True,
    "shard": "2/3",
    "workers": 2,
    "scheduler": "tls://node7:8786",
    "tls_ca": "ca.pem",
    "tls_cert": "own.pem",
    "tls_key": "own.key",
    "insecure_cluster": True,
    "cluster": "slurm",
    "jobs": 4,
    "normalization": "128.0,30.0",
    "probabilities": True,
    "probability_type": "float16",
    "output_kind": "instances",
    "shards": True,
    "overwrite": True,
    "ome_version": "0.4",
}


TOGETHER: tuple[set[str], ...] = (
    {"cluster", "jobs"},
    {"scheduler", "tls_ca", "tls_cert", "tls_key"},
)
"""Options that have no meaning without each other."""


def test_the_examples_cover_every_option() -> None:
    assert EXAMPLES.keys() | {"input", "model", "output"} == SegmentJob.model_fields.keys()


@pytest.mark.parametrize("field", EXAMPLES)
def test_the_recorded_command_line_gives_the_same_job(
    field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = next((together for together in TOGETHER if field in together), {field})
    given = {name: EXAMPLES[name] for name in fields}
    job = SegmentJob(input="in put.zarr", model="m", output="o.zarr", **given)
    seen: list[SegmentJob] = []

    def record(jobs: list[SegmentJob], *_: object) -> int:
        seen.extend(jobs)
        return 0

    monkeypatch.setattr("napari_unet.cli.segment._run_all", record)
    words = command_line(job)
    assert words[:2] == ("napari-unet", "segment")
    with pytest.raises(SystemExit) as ended:
        app(list(words[1:]))
    assert ended.value.code == 0
    assert seen == [job]
