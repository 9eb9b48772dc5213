"""What numbers mean is said or known; what does not fit is an error that says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from napari_unet.core.arrays import PyramidLevel
from napari_unet.core.axes import VoxelSize
from napari_unet.core.boxes import Box
from napari_unet.core.classes import ClassInfo
from napari_unet.errors import AnnotationError, ConfigError, InputError, UNetError
from napari_unet.io.annotation_store import create_annotation_store
from napari_unet.io.ome_zarr_writer import OutputSpec, create_output

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt
    from tests.app.evaluation.conftest import Measure

CLASSES = (ClassInfo(name="cell", color="#3a86c8"), ClassInfo(name="membrane", color="#ffb000"))


def store(
    out: Path,
    labels: npt.NDArray[Any],
    *,
    probabilities: npt.NDArray[np.float32] | None = None,
    name: str = "em",
    finished: bool = True,
) -> Path:
    """Write a plane as `segment` or `objects` do."""
    objects = labels.dtype != np.uint8
    spec = OutputSpec(
        out,
        name,
        "yx",
        (PyramidLevel((1, *labels.shape), VoxelSize(1, 4, 4, "nanometer")),),
        () if objects else CLASSES,
        label_type="uint32" if objects else "uint8",
        probability_type=None if probabilities is None else "float32",
    )
    output = create_output(spec, replace=False)
    box = Box.of_shape((1, *labels.shape))
    output.write_labels(box, labels[np.newaxis])
    if probabilities is not None:
        output.write_probabilities(box, probabilities[:, np.newaxis])
    if finished:
        output.finish({})
    return out


def halves(low: int, high: int) -> npt.NDArray[np.uint8]:
    labels = np.full((10, 12), low, np.uint8)
    labels[:, 6:] = high
    return labels


def test_an_output_of_ours_says_its_classes_and_probabilities(
    measure: Measure, write: Callable[..., Path], tmp_path: Path
) -> None:
    truth = halves(1, 0)  # other numbers, in another order
    probability = np.stack([halves(0, 1), halves(1, 0)]).astype(np.float32)
    out = store(tmp_path / "out.zarr", halves(2, 1), probabilities=probability)
    found = measure(out, write("t", truth), truth_kind="classes", class_values="0=cell,1=membrane")
    scores = {score.key: score.interval.value for score in found.run.scores}
    assert scores["classes.accuracy"] == 1
    assert scores["probabilities.auc.membrane"] == 1


def test_outputs_of_ours_are_truths_that_say_their_kind(measure: Measure, tmp_path: Path) -> None:
    one = store(tmp_path / "one.zarr", halves(1, 2))
    two = store(tmp_path / "two.zarr", halves(1, 1))
    assert measure(one, two).run.score("classes.accuracy").interval.value == 0.5
    with pytest.raises(ConfigError, match="says that it is a truth of the kind classes"):
        measure(one, two, truth_kind="instances")


def test_objects_are_taken_where_the_truth_has_objects(measure: Measure, tmp_path: Path) -> None:
    out = store(tmp_path / "out.zarr", halves(1, 2))
    objects = halves(0, 3).astype(np.uint32)
    store(out, objects, name="em-objects")
    truth = store(tmp_path / "truth.zarr", objects, name="drawn")
    found = measure(out, truth)
    assert found.run.objects.matched[0] == 1
    with pytest.raises(ConfigError, match="no label image 'x'; choose --name from em, em-objects"):
        measure(out, truth, name="x")


def test_a_stored_annotation_counts_where_it_is_painted(measure: Measure, tmp_path: Path) -> None:
    out = store(tmp_path / "out.zarr", halves(1, 2))
    strokes = create_annotation_store(tmp_path / "strokes.zarr", (1, 10, 12), CLASSES)
    strokes.write(Box((0, 0, 4), (1, 1, 8)), np.array([[[1, 1, 1, 2]]]))
    found = measure(out, tmp_path / "strokes.zarr").run.measured[0]
    assert found.counted == 4
    assert found.classes.counts.tolist() == [[2, 1, 0], [0, 1, 0]]


def test_a_predicted_0_is_wrong_and_a_true_0_is_ignored(
    measure: Measure, write: Callable[..., Path]
) -> None:
    true, predicted = halves(1, 2), halves(1, 2)
    true[0], predicted[1] = 0, 0
    found = measure(
        write("p", predicted), write("t", true), truth_kind="annotation", classes=["a", "b"]
    )
    measured = found.run.measured[0]
    assert (measured.counted, measured.unpredicted) == (108, 12)
    assert found.run.score("classes.accuracy").interval.value == pytest.approx(96 / 108)
    assert any("have no prediction; they count as wrong" in note for note in found.notes)


def test_a_prediction_that_is_not_finished_is_refused(
    measure: Measure, write: Callable[..., Path], tmp_path: Path
) -> None:
    out = store(tmp_path / "out.zarr", halves(1, 2), finished=False)
    with pytest.raises(InputError, match="is not complete"):
        measure(out, write("t", halves(1, 2)), truth_kind="annotation", classes=["a", "b"])


ERRORS: list[tuple[str, dict[str, Any], type[UNetError], str]] = [
    ("a file does not say its kind", {"truth_kind": None}, ConfigError, "say --truth-kind classes"),
    (
        "an annotation without names",
        {"truth_kind": "annotation"},
        ConfigError,
        "name the classes 1, 2, ... with --classes",
    ),
    (
        "a value without a class",
        {"truth_kind": "classes", "class_values": "1=cell"},
        AnnotationError,
        "value 2 .* stands for no class",
    ),
    (
        "no such component",
        {"truth_kind": "instances", "prediction_kind": "classes", "classes": ["a", "b"],
         "components": ["c"]},
        ConfigError,
        "--components c is none of the classes a, b",
    ),
    (
        "classes against objects",
        {"truth_kind": "instances", "prediction_kind": "classes", "classes": ["a", "b"]},
        ConfigError,
        "holds classes and the truth .* numbered objects.*napari-unet objects.*--components",
    ),
    (
        "objects against classes",
        {"truth_kind": "annotation", "prediction_kind": "instances", "classes": ["a", "b"]},
        ConfigError,
        "holds numbered objects and the truth .* classes",
    ),
    (
        "no such boundary",
        {"truth_kind": "annotation", "classes": ["a", "b"], "boundary": "c"},
        ConfigError,
        "--boundary c is none of the classes a, b",
    ),
    (
        "a length without a voxel size",
        {"truth_kind": "instances", "tolerance": "20nm"},
        ConfigError,
        "give the tolerance in pixels",
    ),
    (
        "an unknown unit",
        {"truth_kind": "instances", "tolerance": "20 lightyears"},
        ConfigError,
        "'lightyears' is no unit",
    ),
    (
        "a region outside",
        {"truth_kind": "instances", "region": "0:5,0:99"},
        UNetError,
        "does not lie in axis x",
    ),
    (
        "no objects for the challenge",
        {"truth_kind": "annotation", "classes": ["a", "b"], "compare_paper": "ctc"},
        ConfigError,
        "needs objects on both sides",
    ),
    (
        "no membrane",
        {"truth_kind": "annotation", "classes": ["a", "b"], "compare_paper": "isbi2012"},
        ConfigError,
        "needs the class 'membrane', but there are a, b",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "kind", "message"), [row[1:] for row in ERRORS], ids=[row[0] for row in ERRORS]
)
def test_what_does_not_fit_is_an_error_that_says_what_to_do(
    fields: dict[str, Any],
    kind: type[UNetError],
    message: str,
    measure: Measure,
    write: Callable[..., Path],
) -> None:
    with pytest.raises(kind, match=message):
        measure(write("p", halves(1, 2)), write("t", halves(1, 2)), **fields)


def test_shapes_that_differ_are_an_error(measure: Measure, write: Callable[..., Path]) -> None:
    with pytest.raises(AnnotationError, match=r"has the shape \(1, 10, 12\).*has \(1, 9, 12\)"):
        measure(write("p", halves(1, 2)), write("t", halves(1, 2)[1:]), truth_kind="instances")


@pytest.mark.parametrize("side", ["prediction", "truth"])
def test_labels_with_a_fraction_are_an_error(
    side: str, measure: Measure, write: Callable[..., Path]
) -> None:
    arrays = {"prediction": halves(1, 2), "truth": halves(1, 2)}
    paths = {
        name: write(name, array.astype(np.float32) if name == side else array)
        for name, array in arrays.items()
    }
    with pytest.raises(AnnotationError, match=f"{side}: values of type float32 are no labels"):
        measure(paths["prediction"], paths["truth"], truth_kind="instances")


def test_a_truth_in_which_nothing_counts_is_an_error(
    measure: Measure, write: Callable[..., Path]
) -> None:
    paths = write("p", halves(1, 2)), write("t", halves(0, 0))
    with pytest.raises(AnnotationError, match="no voxel of the truth t counts"):
        measure(*paths, truth_kind="annotation", classes=["a", "b"])


def test_a_truth_without_objects_has_defined_scores(
    measure: Measure, write: Callable[..., Path]
) -> None:
    found = measure(write("p", halves(0, 1)), write("t", halves(0, 0)), truth_kind="instances")
    scores = {score.key: score.interval.value for score in found.run.scores}
    assert scores["objects.f1.0.5"] == 0
    assert scores["objects.seg"] is None
    assert not any(key.startswith("slices") for key in scores)
    empty = measure(write("q", halves(0, 0)), write("u", halves(0, 0)), truth_kind="instances")
    assert empty.run.score("objects.f1.0.5").interval.value == 1
    assert empty.run.score("objects.mean_ap").interval.value == 1
    assert empty.run.score("objects.seg").interval.value is None


def test_objects_that_do_not_overlap_have_defined_scores(
    measure: Measure, write: Callable[..., Path]
) -> None:
    found = measure(write("p", halves(1, 0)), write("t", halves(0, 1)), truth_kind="instances")
    scores = {score.key: score.interval.value for score in found.run.scores}
    assert scores["objects.mean_ap"] == 0
    assert scores["objects.mean_matched_iou.0.5"] is None
    assert scores["slices.adapted_rand_error"] == 0  # all of it is one object, and is held together


def test_one_class_alone_has_no_curve(
    measure: Measure, write: Callable[..., Path], tmp_path: Path
) -> None:
    np.save(tmp_path / "p.npy", np.full((10, 12), 0.25, np.float32))
    found = measure(
        tmp_path / "p.npy",
        write("t", halves(0, 0)),
        truth_kind="classes",
        class_values="0=a,1=b",
        prediction_kind="probabilities",
        positive="b",
    )
    scores = {score.key: score.interval.value for score in found.run.scores}
    assert scores["probabilities.auc.a"] is None
    assert scores["probabilities.average_precision.b"] is None
    assert scores["classes.f1.b"] is None
    assert scores["classes.accuracy"] == 1


def test_probabilities_are_read_by_channel_or_by_name(
    measure: Measure, write: Callable[..., Path], tmp_path: Path
) -> None:
    truth = write("t", halves(0, 1))
    fields: dict[str, Any] = {
        "truth_kind": "classes",
        "class_values": "0=a,1=b",
        "prediction_kind": "probabilities",
    }
    both = np.stack([halves(200, 10), halves(55, 245)])
    np.save(tmp_path / "both.npy", both)
    iio.imwrite(tmp_path / "one.png", both[1])
    for name, extra in (("both.npy", {}), ("one.png", {"positive": "b"})):
        found = measure(tmp_path / name, truth, **fields, **extra)
        assert found.run.score("classes.accuracy").interval.value == 1
        brier = found.run.score("probabilities.brier").interval.value
        assert brier == pytest.approx(((55 / 255) ** 2 + (10 / 255) ** 2), rel=1e-3)
    with pytest.raises(ConfigError, match="say --positive"):
        measure(tmp_path / "one.png", truth, **fields)
    np.save(tmp_path / "wrong.npy", both.astype(np.float32))
    with pytest.raises(AnnotationError, match="are no probabilities"):
        measure(tmp_path / "wrong.npy", truth, **fields)


def test_a_color_image_is_no_label_image(
    measure: Measure, write: Callable[..., Path], tmp_path: Path
) -> None:
    iio.imwrite(tmp_path / "p.png", np.zeros((10, 12, 3), np.uint8))
    with pytest.raises(UNetError, match="channel"):
        measure(tmp_path / "p.png", write("t", halves(0, 1)), truth_kind="instances")


def test_a_stack_without_axes_has_those_of_its_partner(
    measure: Measure, tmp_path: Path, write: Callable[..., Path]
) -> None:
    labels = np.stack([halves(0, 1), halves(1, 0), halves(2, 1)])
    tifffile.imwrite(tmp_path / "p.tif", labels, photometric="minisblack", metadata=None)
    np.save(tmp_path / "t.npy", labels)
    known = write("known", labels)
    for pair in ((tmp_path / "t.npy", known), (known, tmp_path / "t.npy")):
        assert measure(*pair, truth_kind="instances").run.objects.f1() == 1
