"""What a job gives comes on top of what its kind of training does."""

from __future__ import annotations

from typing import Any

import pytest

from napari_unet.app.training.defaults import (
    FINE_TUNE,
    FROM_NOTHING,
    budget_of,
    defaults_of,
    loop_settings,
    network_settings,
    sampler_settings,
)
from napari_unet.core.train_job import TrainJob
from napari_unet.errors import ConfigError


def job(**fields: Any) -> TrainJob:
    fixed = {"images": ("a",), "labels": ("b",), "label_kind": "annotation", "output": "new"}
    return TrainJob.parse(fixed | fields, source="test")


def test_the_two_kinds_have_their_own_table_and_budget() -> None:
    assert defaults_of(job()) is FROM_NOTHING
    assert defaults_of(job(parent="x")) is FINE_TUNE
    assert (budget_of(job()), budget_of(job(parent="x"))) == (600, 60)
    assert (budget_of(job(minutes=2)), budget_of(job(steps=5))) == (120, None)


def test_both_tables_are_legal() -> None:
    for each in (job(steps=1), job(parent="x", steps=1)):
        all_settings(each)
    assert network_settings(job(), 3, 4).in_channels == 3


def test_statistics_of_a_parent_are_never_changed() -> None:
    assert loop_settings(job(parent="x"), 1.0, ()).freeze_norm_from == 0
    assert loop_settings(job(), 1.0, ()).freeze_norm_from > 0


def test_a_parent_counts_as_far_as_strokes_lie_on_its_mistakes() -> None:
    weights = [
        loop_settings(job(parent="x"), 1.0, (), contradicted=share).retention_weight
        for share in (0, 0.1, 0.2, 0.3, 1)
    ]
    assert weights == pytest.approx([FINE_TUNE.retention * each for each in (0, 0, 0.5, 1, 1)])
    assert FINE_TUNE.retention > 0
    off = job(parent="x", loop={"retention_weight": 0.0})
    assert loop_settings(off, 1.0, (), contradicted=1).retention_weight == 0
    assert loop_settings(job(), 1.0, (), contradicted=1).retention_weight == 0


def test_with_a_new_class_patience_begins_later() -> None:
    fine_tune = job(parent="x", loop={"patience": 3})
    assert loop_settings(fine_tune, 1.0, ()).patience_from == 0
    assert loop_settings(fine_tune, 1.0, (), is_new=True).patience_from == 0.5


def test_what_the_job_gives_wins_inside_tables_too() -> None:
    given = job(
        loop={"peak_rate": 7.0, "class_weights": (3.0,)},
        sampler={"geometric": {"free_share": 0.0}, "output_edge": 44},
        network={"depth": 2},
        steps=100,
        seed=9,
        precision="bf16",
    )
    loop = loop_settings(given, None, (1.0, 1.0))
    assert (loop.peak_rate, loop.class_weights, loop.steps) == (7.0, (3.0,), 100)
    assert (loop.seed, loop.precision, loop.validate_every, loop.warmup_steps) == (9, "bf16", 10, 5)
    sampler = sampler_settings(given, 100)
    assert (sampler.output_edge, sampler.geometric.free_share) == (44, 0.0)
    assert sampler.geometric.scale_sigma == FROM_NOTHING.sampler["geometric"]["scale_sigma"]
    assert network_settings(given, 1, 2).depth == 2


def all_settings(given: TrainJob) -> None:
    network_settings(given, 1, 2)
    loop_settings(given, 1.0, ())
    sampler_settings(given, 10)


@pytest.mark.parametrize(
    ("field", "name", "text"),
    [
        ("loop", "seconds", "comes from --minutes"),
        ("loop", "seed", "comes from --seed"),
        ("network", "num_classes", "comes from the images and --classes"),
        ("sampler", "edge", "there is no setting edge; there are .*output_edge"),
    ],
)
def test_what_belongs_elsewhere_or_does_not_exist_is_refused(
    field: str, name: str, text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        all_settings(job(**{field: {name: 3}}))
