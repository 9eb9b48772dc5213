"""A label image of any kind becomes the annotation that the whole array would give."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet.core.annotation import Annotation
from napari_unet.core.label_kinds import LabelRules
from napari_unet.errors import AnnotationError
from napari_unet.io.image import Selection, wrap_array
from napari_unet.labels.label_images import annotate
from napari_unet.labels.objects import objects_to_classes

ZYX = Selection(axes="zyx")
BLOCK = (1, 5, 7)


@pytest.fixture
def objects(rng: np.random.Generator) -> np.ndarray:
    """Blocky objects that touch across the blocks of the annotation."""
    return rng.integers(0, 4, (2, 6, 6)).repeat(3, axis=1).repeat(3, axis=2).astype(np.uint16)


def test_objects_are_annotated_as_a_whole(objects: np.ndarray) -> None:
    rules = LabelRules(kind="instances", separation="gap", width=2)
    found = annotate(wrap_array(objects, ZYX), rules, block_shape=BLOCK)
    whole = objects_to_classes(objects, "gap", 2)
    assert found == Annotation.from_array(whole, ["background", "interior"])


def test_what_is_ignored_is_not_annotated_and_still_separates(objects: np.ndarray) -> None:
    ignore = objects == 3
    rules = LabelRules(kind="instances")
    found = annotate(
        wrap_array(objects, ZYX), rules, ignore=wrap_array(ignore, ZYX), block_shape=BLOCK
    )
    whole = np.where(ignore, 0, objects_to_classes(objects, "border", 1))
    assert found == Annotation.from_array(whole, rules.names)


def test_class_values_and_annotations(objects: np.ndarray) -> None:
    values = LabelRules(
        kind="classes", class_values="0=ignore,1=a,2=b,3=b", class_names=("b", "c", "a")
    )
    expected = Annotation.from_array(np.array([0, 3, 1, 1])[objects], ["b", "c", "a"])
    assert annotate(wrap_array(objects, ZYX), values, block_shape=BLOCK) == expected
    as_is = LabelRules(kind="annotation", class_names=("a", "b", "c"))
    assert annotate(wrap_array(objects, ZYX), as_is) == Annotation.from_array(objects, "abc")


def test_labels_that_are_not_of_the_kind_name_the_image(objects: np.ndarray) -> None:
    image = wrap_array(objects, ZYX, name="strokes")
    two = LabelRules(kind="annotation", class_names=("a", "b"))
    with pytest.raises(AnnotationError, match="strokes: the label 3 is none of the 2 classes"):
        annotate(image, two)
    with pytest.raises(AnnotationError, match=r"strokes: the value \d \(.*stands for no class"):
        annotate(image, LabelRules(kind="classes", class_values="77=a"))
    with pytest.raises(AnnotationError, match="strokes: -1 is no number of an object"):
        annotate(
            wrap_array(-(objects > 0).astype(int), ZYX, name="strokes"),
            LabelRules(kind="instances"),
        )
    smaller = wrap_array(objects[:1], ZYX, name="mask")
    with pytest.raises(AnnotationError, match=r"mask: .*\(1, 18, 18\), the labels strokes have"):
        annotate(image, two, ignore=smaller)
    colors = wrap_array(objects, Selection(axes="cyx", channel="0,1"), name="colors")
    with pytest.raises(AnnotationError, match="colors: a label image has one channel"):
        annotate(colors, two)
