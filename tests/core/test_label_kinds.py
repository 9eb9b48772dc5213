"""The kind of a label image is said, and what it says is all that is believed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.core.label_kinds import ClassValues, LabelRules, parse_class_values
from napari_unet.errors import AnnotationError, ConfigError


@given(
    st.dictionaries(
        st.integers(-5, 300),
        st.sampled_from(["cell", "membrane", "out side", "ignore"]),
        min_size=1,
    ),
    st.integers(0, 2**32),
)
def test_class_values_map_every_voxel_as_a_dictionary_would(
    names: dict[int, str], seed: int
) -> None:
    classes = [name for name in dict.fromkeys(names.values()) if name != "ignore"]
    if not classes:
        return
    values = ClassValues(tuple(names.items()))
    assert parse_class_values(str(values)) == values
    assert values.class_names == tuple(classes)
    labels = np.random.default_rng(seed).choice(list(names), (2, 3, 4)).astype(np.int16)
    order = ["other", *reversed(classes)]
    found = values.to_classes(labels, order)
    for value, result in zip(labels.ravel().tolist(), found.ravel().tolist(), strict=True):
        name = names[value]
        assert result == (0 if name == "ignore" else order.index(name) + 1)


def test_masks_and_types_that_cannot_hold_a_value_are_mapped() -> None:
    mask = np.array([[True, False]])
    values = parse_class_values("0=off,1=on,300=on,-1=off")
    np.testing.assert_array_equal(values.to_classes(mask), [[2, 1]])
    np.testing.assert_array_equal(values.to_classes(mask.astype(np.uint8)), [[2, 1]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not VALUE=NAME; write for example 0=membrane,255=cell"),
        ("0=a,", "'' is not VALUE=NAME"),
        ("0", "'0' is not VALUE=NAME"),
        ("0=", "'0=' is not VALUE=NAME"),
        ("a=0", "'a' is not a whole number"),
        ("0.5=a", "'0.5' is not a whole number"),
        ("0=a,0=b", "the value 0 is given twice"),
        ("0=ignore", "0 classes were given"),
    ],
)
def test_texts_that_are_no_class_values(text: str, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        parse_class_values(text)


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (np.array([0, 255, 7, 7], np.uint8), None, r"the value 7 \(2 voxels.*add 7=NAME, or 7=ig"),
        (np.array([0.0]), None, "type float64 are not whole numbers"),
        (np.array([0], np.uint8), ["cell"], "class 'membrane' of 0=membrane,255=cell is none of"),
    ],
)
def test_values_that_stand_for_nothing_are_refused(
    labels: np.ndarray[Any, Any], classes: list[str] | None, message: str
) -> None:
    with pytest.raises(AnnotationError, match=message):
        parse_class_values("0=membrane,255=cell").to_classes(labels, classes)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"kind": "classes", "class_values": "255=cell,0=membrane"}, ("cell", "membrane")),
        ({"kind": "instances"}, ("background", "border", "interior")),
        ({"kind": "instances", "separation": "gap"}, ("background", "interior")),
        ({"kind": "instances", "separation": "gap", "class_names": ("a", "b")}, ("a", "b")),
        ({"kind": "annotation", "class_names": ("b", "a")}, ("b", "a")),
    ],
)
def test_the_classes_of_each_kind(options: dict[str, Any], names: tuple[str, ...]) -> None:
    assert LabelRules.parse(options, source="test").names == names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "kind: Field required"),
        ({"kind": "guess"}, "Input should be 'classes', 'instances' or 'annotation'"),
        ({"kind": "classes"}, "'classes' needs class values; write for example"),
        ({"kind": "classes", "class_values": "x"}, "'x' is not VALUE=NAME"),
        ({"kind": "instances", "class_values": "0=a"}, "'instances' takes no class values"),
        ({"kind": "annotation"}, "'annotation' needs the names of the classes"),
        ({"kind": "instances", "class_names": ("a", "b")}, "the 2 names a, b do not fit"),
        ({"kind": "instances", "width": 0.5}, "greater than or equal to 1"),
    ],
)
def test_rules_that_do_not_go_together(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LabelRules.parse(options, source="test")
