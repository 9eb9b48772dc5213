"""What a parent brings along to be judged on, in other classes and after generations."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests.nets import lively_net

from napari_unet.app.models import find_model, list_models, own_models_folder
from napari_unet.app.regression_crops import find_crops, read_crops
from napari_unet.core.classes import ClassInfo
from napari_unet.core.header import InputExpectation, ModelHeader, ParentModel, Provenance
from napari_unet.errors import ModelFileError
from napari_unet.model.weights import save_model

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.app.models import ModelEntry


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    own_models_folder().mkdir(parents=True)


def write_crops(path: Path, **changes: Any) -> None:
    image = np.arange(2 * 20 * 24, dtype=np.uint8).reshape(1, 2, 20, 24)
    labels = np.zeros((2, 20, 24), np.uint8)
    labels[1, 5:10, 5:10] = [[1], [2], [3], [1], [0]]
    tensors = {"image_0": image, "labels_0": labels, "image_1": image, "labels_1": labels}
    scaling = {"offset": [10.0], "scale": [2.0]}
    said = {
        "schema_version": 1,
        "class_names": ["a", "b", "c"],
        "normalization": [scaling, scaling],
        "source": "made up",
        "license": "CC0",
    }
    given = changes.pop("tensors", {})
    said |= changes
    save_file(tensors | given, path, metadata={"crops": json.dumps(said)})


def add(name: str, parent: ModelEntry | None = None) -> ModelEntry:
    net = lively_net(0)
    header = ModelHeader(
        name=name,
        architecture=net.architecture,
        classes=(ClassInfo(name="a", color="#000000"), ClassInfo(name="b", color="#ffffff")),
        input=InputExpectation(channels=("gray",)),
        provenance=Provenance(
            parent=None if parent is None else ParentModel(name=parent.name, sha256=parent.sha256)
        ),
    )
    save_model(own_models_folder() / f"{name}.safetensors", net, header)
    return find_model(name)


def test_crops_lie_beside_a_model_and_are_none() -> None:
    model = add("old")
    assert find_crops(model) is None
    write_crops(own_models_folder() / "old.crops.safetensors")
    found = find_crops(model)
    assert found is not None
    assert found.header.license == "CC0"
    assert [entry.name for entry in list_models() if entry.origin == "own"] == ["old"]


def test_a_grandchild_is_judged_on_its_grandparents_crops() -> None:
    old = add("old")
    write_crops(own_models_folder() / "old.crops.safetensors")
    grandchild = add("grandchild", add("child", old))
    found = find_crops(grandchild)
    assert found is not None
    assert found.path.name == "old.crops.safetensors"


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    """c is dropped, b renamed, and new comes first."""
    write_crops(tmp_path / "x.crops.safetensors")
    crops = read_crops(tmp_path / "x.crops.safetensors")
    held = crops.held_out(("new", "bee", "a"), {"b": "bee"})
    assert len(held) == 2
    labels = held[0].annotation.read(held[0].box)
    np.testing.assert_array_equal(labels[1, 5:10, 5], [3, 2, 0, 3, 0])
    image = held[0].image.read(held[0].box)
    np.testing.assert_array_equal(image, (crops.images[0].astype(np.float32) - 10) / 2)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"normalization": []}, "of 0 crops"),
        ({"class_names": ["a"]}, "the label 3 is no class"),
        ({"tensors": {"image_1": np.zeros((1, 2, 9, 9), np.uint8)}}, "does not fit labels"),
        ({"tensors": {"image_1": np.zeros((1, 2, 20, 24), np.int16)}}, "type int16"),
        ({"tensors": {"more": np.zeros(3, np.uint8)}}, "5 tensors"),
    ],
)
def test_damaged_crops_are_refused(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    write_crops(tmp_path / "x.crops.safetensors", **changes)
    with pytest.raises(ModelFileError, match=text):
        read_crops(tmp_path / "x.crops.safetensors")


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.crops.safetensors"
    with pytest.raises(ModelFileError):
        read_crops(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ModelFileError, match="cannot be used"):
        read_crops(path)
    save_file({"a": np.zeros(3)}, path)
    with pytest.raises(ModelFileError, match="cannot be used"):
        read_crops(path)
