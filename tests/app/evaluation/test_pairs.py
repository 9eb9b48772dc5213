"""Which prediction is measured against which truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import imageio.v3 as iio
import numpy as np
import pytest

from napari_unet.app.evaluation.pairs import find_pair_lists
from napari_unet.core.evaluate_job import EvaluateJob
from napari_unet.errors import ConfigError, InputError

if TYPE_CHECKING:
    from pathlib import Path


def job(**fields: Any) -> EvaluateJob:
    fixed = {"truth_kind": "instances"}
    return EvaluateJob.parse(fixed | fields, source="test")


def folder(path: Path, *names: str) -> str:
    path.mkdir(parents=True)
    for name in names:
        iio.imwrite(path / name, np.ones((4, 4), np.uint8))
    return str(path)


def test_folders_are_paired_by_name_with_all_that_goes_with_them(tmp_path: Path) -> None:
    (found,) = find_pair_lists(
        job(
            predictions=[folder(tmp_path / "p", "b.png", "a.png")],
            truths=[folder(tmp_path / "t", "a.tif", "b.tif")],
            ignore=folder(tmp_path / "m", "a.png", "b.png", "c.png"),
        )
    )
    assert [(pair.name, pair.prediction.name, pair.truth.name) for pair in found.pairs] == [
        ("a", "a.png", "a.tif"),
        ("b", "b.png", "b.tif"),
    ]
    assert [str(pair.companions.ignore)[-7:] for pair in found.pairs] == ["m/a.png", "m/b.png"]


def test_truths_without_a_prediction_are_left_out_only_if_asked(tmp_path: Path) -> None:
    paths: dict[str, Any] = {
        "predictions": [folder(tmp_path / "p", "a.png")],
        "truths": [folder(tmp_path / "t", "a.png", "b.png", "c.png")],
    }
    with pytest.raises(InputError, match=r"t/b.png, t/c.png have no partner.*--allow-missing"):
        find_pair_lists(job(**paths))
    (found,) = find_pair_lists(job(**paths, allow_missing=True))
    assert (len(found.pairs), found.left_out) == (1, 2)


def test_a_prediction_without_a_truth_is_never_left_out(tmp_path: Path) -> None:
    paths: dict[str, Any] = {
        "predictions": [folder(tmp_path / "p", "a.png", "b.png")],
        "truths": [folder(tmp_path / "t", "a.png")],
    }
    with pytest.raises(InputError, match=r"p/b.png have no partner"):
        find_pair_lists(job(**paths, allow_missing=True))


def test_a_mask_that_is_missing_is_named(tmp_path: Path) -> None:
    given = job(
        predictions=[folder(tmp_path / "p", "a.png")],
        truths=[folder(tmp_path / "t", "a.png")],
        valid=folder(tmp_path / "v", "b.png"),
    )
    with pytest.raises(InputError, match=r"--valid: .* holds no image named a"):
        find_pair_lists(given)


def test_predictions_of_one_name_are_told_apart(tmp_path: Path) -> None:
    first = folder(tmp_path / "one" / "result", "a.png")
    second = folder(tmp_path / "two" / "result", "a.png")
    lists = find_pair_lists(
        job(predictions=[first], truths=[folder(tmp_path / "t", "a.png")], compare=[second])
    )
    assert [each.label for each in lists] == ["result", "result (2)"]


def test_predictions_are_compared_on_the_same_images(tmp_path: Path) -> None:
    given = job(
        predictions=[folder(tmp_path / "p", "a.png", "b.png")],
        truths=[folder(tmp_path / "t", "a.png", "b.png")],
        compare=[folder(tmp_path / "q", "a.png")],
        allow_missing=True,
    )
    with pytest.raises(ConfigError, match="q has predictions of 1 images, p of 2"):
        find_pair_lists(given)


def test_a_truth_is_not_its_own_prediction(tmp_path: Path) -> None:
    path = folder(tmp_path / "t", "a.png") + "/a.png"
    with pytest.raises(ConfigError, match="its own truth"):
        find_pair_lists(job(predictions=[path], truths=[path]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"predictions": ["a"], "truths": []}, "do not make pairs"),
        ({"predictions": ["a"], "truths": ["b"], "truth_kind": "classes"}, "--class-values is"),
        (
            {"predictions": ["a"], "truths": ["b"], "class_values": "0=a,1=b"},
            "is for a truth of classes",
        ),
        (
            {"predictions": ["a", "b"], "truths": ["c", "d"], "ignore": "m"},
            "--ignore needs one PREDICTION TRUTH",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        job(**fields)
