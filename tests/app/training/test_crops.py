"""What models bring along to judge and to rehearse with, in other classes, after generations."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests.app.training.crop_files import write_crops
from tests.nets import lively_net

from napari_unet.app.model_store import check_new_name
from napari_unet.app.models import find_model, list_models, own_models_folder
from napari_unet.app.training.crops import CropsKind, find_crops, read_crops
from napari_unet.app.training.plan import plan_training
from napari_unet.core.classes import ClassInfo
from napari_unet.core.header import InputExpectation, ModelHeader, ParentModel, Provenance
from napari_unet.core.train_job import TrainJob
from napari_unet.errors import ConfigError, ModelFileError
from napari_unet.model.weights import save_model

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.app.models import ModelEntry


KINDS: tuple[CropsKind, CropsKind] = ("regression", "rehearsal")
SUFFIXES = {"regression": "old.crops.safetensors", "rehearsal": "old.rehearsal.safetensors"}


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    own_models_folder().mkdir(parents=True)


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


@pytest.mark.parametrize(("kind", "other"), [KINDS, KINDS[::-1]])
def test_crops_lie_beside_a_model_and_are_none(kind: CropsKind, other: CropsKind) -> None:
    model = add("old")
    assert find_crops(model, kind) is None
    path = own_models_folder() / SUFFIXES[kind]
    write_crops(path)
    found = find_crops(model, kind)
    assert found is not None
    assert found.header.license == "CC0"
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert find_crops(model, other) is None
    assert [entry.name for entry in list_models() if entry.origin == "own"] == ["old"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_grandchild_has_its_grandparents_crops(kind: CropsKind) -> None:
    old = add("old")
    write_crops(own_models_folder() / SUFFIXES[kind])
    grandchild = add("grandchild", add("child", old))
    found = find_crops(grandchild, kind)
    assert found is not None
    assert found.path.name == SUFFIXES[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_no_model_takes_the_name_of_a_file_of_crops(tmp_path: Path, kind: CropsKind) -> None:
    name = SUFFIXES[kind].removesuffix(".safetensors")
    with pytest.raises(ConfigError, match="file of crops"):
        check_new_name(name)
    output = str(tmp_path / SUFFIXES[kind])
    job = TrainJob(images=("a.npy",), labels=("b.npy",), label_kind="annotation", output=output)
    with pytest.raises(ConfigError, match="file of crops"):
        plan_training(job)


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    """c is dropped, b renamed, and new comes first."""
    write_crops(tmp_path / "x.crops.safetensors")
    crops = read_crops(tmp_path / "x.crops.safetensors")
    held = crops.labels_in(("new", "bee", "a"), {"b": "bee"})
    assert crops.unknown(("new", "bee", "a"), {"b": "bee"}) == (1,)
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
