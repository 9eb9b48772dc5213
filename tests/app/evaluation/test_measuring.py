"""What is measured block by block is what other programs measure on the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import adapted_rand_error, variation_of_information
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    f1_score,
    jaccard_score,
    roc_auc_score,
)
from tests.app.evaluation.conftest import blobs

from napari_unet.app.evaluation.measuring import MeasuringRules, measure
from napari_unet.app.evaluation.opened import OpenedPair
from napari_unet.app.evaluation.scores import families_of
from napari_unet.app.evaluation.tolerance import Tolerance
from napari_unet.core.axes import VoxelSize
from napari_unet.core.boxes import Box
from napari_unet.metrics.boundary import boundaries_of, boundary_score
from napari_unet.metrics.objects import AP_THRESHOLDS, object_score

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt
    from tests.app.evaluation.conftest import Measure

    from napari_unet.app.evaluation.tally import Measured

NAMES = ("background", "cell", "membrane")


def values(found: Any) -> dict[str, float | None]:
    return {score.key: score.interval.value for score in found.run.scores}


def pair_of(
    true: npt.NDArray[Any], predicted: npt.NDArray[Any], counted: npt.NDArray[np.bool_], kind: str
) -> OpenedPair:
    from contextlib import ExitStack

    def reader(array: npt.NDArray[Any]) -> Callable[[Box], npt.NDArray[Any]]:
        return lambda box: array[box.slices].copy()

    readers = {f"true_{kind}": reader(true), f"predicted_{kind}": reader(predicted)}
    return OpenedPair(
        "pair",
        true.shape,
        Box.of_shape(true.shape),
        VoxelSize(),
        NAMES if kind == "classes" else (),
        readers,
        reader(counted),
        (),
        ExitStack(),
    )


def measured(pair: OpenedPair, edge: int, units: int = 1) -> Measured:
    rules = MeasuringRules(Tolerance(2.0), None, edge, units)
    *_, last = measure(pair, rules)
    assert not isinstance(last, float)
    return last


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), edge=st.integers(8, 40), units=st.integers(1, 7))
def test_blocks_add_up_to_the_whole(seed: int, edge: int, units: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 4)), int(rng.integers(5, 30)), int(rng.integers(5, 30)))
    true, predicted = blobs(rng, shape, 6), blobs(rng, shape, 6)
    counted = rng.random(shape) < 0.9
    whole = measured(pair_of(true, predicted, counted, "objects"), 1000)
    parts = measured(pair_of(true, predicted, counted, "objects"), edge, units)
    assert parts.objects == whole.objects
    assert (parts.slices, parts.volume) == (whole.slices, whole.volume)
    assert parts.boundary == whole.boundary
    assert (parts.counted, parts.units["boundary"].sum()) == (
        counted.sum(),
        whole.units["boundary"].sum(),
    )
    # Every object is counted in one part, so the parts add up to the whole too.
    np.testing.assert_allclose(
        parts.units["objects"].sum(axis=0), whole.units["objects"].sum(axis=0)
    )


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), edge=st.integers(6, 40))
def test_blocks_of_classes_add_up_to_the_whole(seed: int, edge: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (2, 17, 23)
    true, predicted = rng.integers(0, 4, (2, *shape), dtype=np.uint8)
    counted = rng.random(shape) < 0.9
    whole = measured(pair_of(true, predicted, counted, "classes"), 1000)
    parts = measured(pair_of(true, predicted, counted, "classes"), edge, 5)
    assert parts.classes == whole.classes
    assert parts.boundary == whole.boundary
    used = counted & (true > 0)
    assert parts.classes is not None
    expected = confusion_matrix(true[used], predicted[used], labels=[1, 2, 3])
    np.testing.assert_array_equal(parts.classes.counts[:, :3], expected)
    assert parts.unpredicted == (used & (predicted == 0)).sum()


def test_classes_and_probabilities_equal_scikit_learn(
    measure: Measure, write: Callable[..., Path], tmp_path: Path, rng: np.random.Generator
) -> None:
    true = (rng.random((40, 50)) < 0.3).astype(np.uint8)
    probability = np.clip(rng.normal(0.3 + 0.4 * true, 0.2), 0, 1).astype(np.float16)
    np.save(tmp_path / "probability.npy", probability)
    found = values(
        measure(
            tmp_path / "probability.npy",
            write("truth", true),
            truth_kind="classes",
            class_values="0=background,1=vessel",
            prediction_kind="probabilities",
            positive="vessel",
        )
    )
    predicted = probability > 0.5
    flat = true.ravel()
    assert found["classes.f1.vessel"] == pytest.approx(f1_score(flat, predicted.ravel()), abs=5e-3)
    expected = jaccard_score(flat, predicted.ravel())
    assert found["classes.iou.vessel"] == pytest.approx(expected, abs=5e-3)
    wide = probability.ravel().astype(np.float64)
    auc, area = roc_auc_score(flat, wide), average_precision_score(flat, wide)
    assert found["probabilities.auc.vessel"] == pytest.approx(auc, abs=1e-4)
    assert found["probabilities.average_precision.vessel"] == pytest.approx(area, abs=1e-3)


def test_partitions_equal_scikit_image(
    measure: Measure, write: Callable[..., Path], rng: np.random.Generator
) -> None:
    true, predicted = blobs(rng, (3, 40, 40), 9), blobs(rng, (3, 40, 40), 9)
    found = values(
        measure(write("p", predicted), write("t", true), truth_kind="instances", block_size=16)
    )
    error, _, _ = adapted_rand_error(true, predicted, ignore_labels=(0,))
    assert found["volume.adapted_rand_error"] == pytest.approx(error)
    counted = true > 0
    split, merge = variation_of_information(true[counted], predicted[counted])
    assert found["volume.voi_split"] == pytest.approx(split)
    assert found["volume.voi_merge"] == pytest.approx(merge)
    slices = [
        adapted_rand_error(t, p, ignore_labels=(0,))[0]
        for t, p in zip(true, predicted, strict=True)
        if t.any()
    ]
    assert found["slices.adapted_rand_error"] == pytest.approx(np.mean(slices))


def test_means_over_images_and_pooled_scores_are_told_apart(
    measure: Measure, write: Callable[..., Path], tmp_path: Path, rng: np.random.Generator
) -> None:
    scores = []
    for k in range(3):
        true, predicted = blobs(rng, (30, 30), 3 + 3 * k), blobs(rng, (30, 30), 4)
        predicted[:15] = true[:15]
        write(f"t/{k}", true)
        write(f"p/{k}", predicted)
        scores.append(object_score(predicted, true, thresholds=AP_THRESHOLDS))
    found = values(measure(tmp_path / "p", tmp_path / "t", truth_kind="instances"))
    assert found["objects_mean.f1.0.5"] == pytest.approx(np.mean([s.f1() for s in scores]))
    pooled = scores[0] + scores[1] + scores[2]
    assert found["objects.f1.0.5"] == pytest.approx(pooled.f1())
    assert found["objects.mean_ap"] == pytest.approx(pooled.mean_average_precision)
    assert found["objects.seg"] == pytest.approx(pooled.seg)


def test_what_is_ignored_counts_nowhere(
    measure: Measure, write: Callable[..., Path], rng: np.random.Generator
) -> None:
    true = blobs(rng, (30, 40), 8)
    predicted = true.copy()
    predicted[:, :10] = blobs(rng, (30, 10), 5)
    mask = np.zeros(true.shape, np.uint8)
    mask[:, :10] = 7
    paths = (write("p", predicted), write("t", true))
    for masked in ({"ignore": write("m", mask)}, {"valid": write("v", 7 - mask)}):
        fields = {key: str(path) for key, path in masked.items()}
        found = values(measure(*paths, truth_kind="instances", **fields))
        assert found["objects.f1.0.5"] == 1
        assert found["classes.accuracy"] == 1
        assert found["slices.voi"] == 0
    assert values(measure(*paths, truth_kind="instances"))["objects.f1.0.5"] != 1


def test_a_region_counts_alone(
    measure: Measure, write: Callable[..., Path], rng: np.random.Generator
) -> None:
    true, predicted = blobs(rng, (4, 30, 30), 9), blobs(rng, (4, 30, 30), 9)
    cut = (slice(1, 3), slice(4, 25), slice(0, 17))
    whole = measure(
        write("p", predicted), write("t", true), truth_kind="instances", region="1:3,4:25,0:17"
    )
    part = measure(write("q", predicted[cut]), write("u", true[cut]), truth_kind="instances")
    ours, theirs = values(whole), values(part)
    del ours["boundary.f1"], ours["boundary.precision"], ours["boundary.recall"]
    assert ours == pytest.approx({key: theirs[key] for key in ours})


def test_boundaries_take_a_tolerance_in_physical_units(
    measure: Measure, tmp_path: Path, rng: np.random.Generator
) -> None:
    import tifffile

    true, predicted = blobs(rng, (40, 40), 6), blobs(rng, (40, 40), 6)
    for name, labels in (("p", predicted), ("t", true)):
        tifffile.imwrite(
            tmp_path / f"{name}.ome.tif",
            labels,
            metadata={
                "axes": "YX",
                "PhysicalSizeX": 0.01,
                "PhysicalSizeXUnit": "µm",
                "PhysicalSizeY": 0.02,
                "PhysicalSizeYUnit": "µm",
            },
        )
    paths = (tmp_path / "p.ome.tif", tmp_path / "t.ome.tif")
    found = measure(*paths, truth_kind="instances", tolerance="35 nm", block_size=16)
    expected = boundary_score(
        boundaries_of(predicted), boundaries_of(true), tolerance=35, spacing=(20, 10)
    )
    assert found.run.measured[0].boundary == expected


def test_components_become_objects_only_where_asked(
    measure: Measure, write: Callable[..., Path]
) -> None:
    true = np.zeros((9, 20), np.uint8)
    true[2:7, 2:8] = true[2:7, 11:18] = 1
    predicted = true + 1
    predicted[4, 8:11] = 2  # joins both
    found = measure(
        write("p", predicted),
        write("t", true),
        truth_kind="classes",
        class_values="0=other,1=cell",
        prediction_values="1=other,2=cell",
        components=["cell"],
    )
    objects = found.run.objects
    assert (objects.true, objects.predicted, objects.merged) == (2, 1, 1)
    assert "objects of the prediction are the connected parts of cell, 3d" in found.notes


@pytest.mark.parametrize("family", ["classes", "objects"])
def test_intervals_of_one_image_come_from_its_blocks(
    family: str, measure: Measure, write: Callable[..., Path], rng: np.random.Generator
) -> None:
    true = blobs(rng, (120, 120), 60)
    predicted = true.copy()
    predicted[rng.random(true.shape) < 0.2] = 0
    found = measure(write("p", predicted), write("t", true), truth_kind="instances", block_size=20)
    scores = [s for s in found.run.scores if s.family == family and s.metric == "f1"]
    assert scores
    for score in scores:
        each = score.interval
        assert each.low is not None
        assert each.high is not None
        assert each.low <= each.value <= each.high
    assert found.units == "blocks"


def test_families_of_one_pair_need_no_bootstrap(rng: np.random.Generator) -> None:
    true = rng.integers(1, 3, (1, 20, 20), dtype=np.uint8)
    pair = pair_of(true, true, np.ones(true.shape, bool), "classes")
    families = families_of([measured(pair, 16)])
    assert [family.name for family in families] == ["classes", "boundary"]
    assert families[0].statistics(families[0].units.sum(axis=0))[0] == 1
