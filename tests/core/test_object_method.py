"""How classes become objects where a model says so, and where only their names do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from napari_unet.app.models import find_model
from napari_unet.core.architecture import Architecture
from napari_unet.core.classes import ClassInfo
from napari_unet.core.header import InputExpectation, ModelHeader
from napari_unet.core.object_method import ObjectDefaults, suited_method
from napari_unet.core.objects_job import ObjectsJob
from napari_unet.errors import ConfigError


def header_of(*names: str, **values: Any) -> ModelHeader:
    return ModelHeader(
        name="tiny",
        architecture=Architecture(in_channels=1, num_classes=len(names), depth=2),
        classes=tuple(ClassInfo(name=name, color="#336699") for name in names),
        input=InputExpectation(channels=("EM",)),
        **values,
    )


@pytest.mark.parametrize(
    ("names", "method", "classes", "boundary"),
    [
        (("interior", "membrane"), "watershed", ("interior",), "membrane"),
        (("Membrane", "Cytoplasm"), "watershed", ("Cytoplasm",), "Membrane"),
        (("background", "border", "interior"), "interior", ("interior",), "border"),
        (("background", "cell"), "components", ("cell",), None),
        (("background", "cell", "debris"), "components", ("cell", "debris"), None),
        (
            ("membrane", "cytoplasm", "mitochondria"),
            "components",
            ("cytoplasm", "mitochondria"),
            None,
        ),
        (("soma", "neurite"), "components", ("soma", "neurite"), None),
        (("background", "membrane"), "components", ("background", "membrane"), None),
    ],
)
def test_names_suggest_a_method(
    names: tuple[str, ...], method: str, classes: tuple[str, ...], boundary: str | None
) -> None:
    found = suited_method(names)
    assert (found.method, found.classes, found.boundary) == (method, classes, boundary)
    found.check_names(names)
    assert header_of(*names).object_defaults() == found


def test_the_bundled_models_need_not_say_more() -> None:
    assert find_model("em-membranes").header.object_defaults().method == "watershed"
    assert find_model("nuclei").header.object_defaults().method == "interior"


def test_a_header_says_it_or_keeps_silent() -> None:
    said = ObjectDefaults(method="components", classes=("membrane",), dimension="2d")
    header = header_of("interior", "membrane", objects=said)
    assert header.object_defaults() == said
    again = ModelHeader.parse(json.loads(header.model_dump_json()), source="test")
    assert again == header
    # Programs before this one refuse a field that they do not know.
    assert "objects" not in json.loads(header_of("interior", "membrane").model_dump_json())
    assert "objects" not in header_of("interior", "membrane").summary()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"method": "watershed", "classes": ["interior"]}, "needs a boundary class"),
        (
            {"method": "components", "classes": ["interior"], "boundary": "membrane"},
            "takes no boundary class",
        ),
        ({"method": "components", "classes": []}, "0 are named"),
        (
            {"method": "interior", "classes": ["a", "b"], "boundary": "c"},
            "objects of one class, 2 are named",
        ),
        ({"method": "watershed", "classes": ["a"], "boundary": "a"}, "both the boundary and"),
        ({"method": "magic", "classes": ["a"]}, "method"),
    ],
)
def test_what_does_not_fit_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ObjectDefaults.parse(values, source="objects")


def test_objects_of_classes_that_a_model_lacks_are_refused() -> None:
    values = header_of("interior", "membrane").model_dump(mode="json")
    values["objects"] = {"method": "components", "classes": ["vesicle"]}
    with pytest.raises(ConfigError, match=r"no class 'vesicle' .* interior, membrane"):
        ModelHeader.parse(values, source="header")


@pytest.mark.parametrize("size", ["30", 30, "30 voxels", "200nm2", "0.5 um3", ".5µm3"])
def test_sizes_are_numbers_or_have_a_unit(size: Any) -> None:
    assert ObjectsJob.parse({"output": "a", "min_size": size}, source="job").min_size == str(size)


@pytest.mark.parametrize("size", ["", "-3", "many", "3 nm 2", True, [3]])
def test_other_sizes_are_refused(size: Any) -> None:
    with pytest.raises(ConfigError, match="write a number of voxels such as 30"):
        ObjectsJob.parse({"output": "a", "min_size": size}, source="job")
