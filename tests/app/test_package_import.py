"""A bioimage.io package that was exported is a model again when it is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from tests.nets import save_lively_model

from napari_unet.app import model_store
from napari_unet.app.model_exchange import StateDictOptions, export_model, import_model
from napari_unet.errors import ConfigError, ModelFileError
from napari_unet.model.weights import load_model

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the user's models folder, in the test's own."""
    folder = tmp_path / "data" / "models"
    monkeypatch.setattr("napari_unet.app.models.own_models_folder", lambda: folder)
    monkeypatch.setattr(model_store, "own_models_folder", lambda: folder)
    return folder


def test_a_model_comes_back_from_its_package(tmp_path: Path) -> None:
    path = tmp_path / "lively.safetensors"
    save_lively_model(path)
    before = load_model(path, fold=False)
    package = export_model(str(path), tmp_path / "p.zip", "bioimageio")
    entry = import_model(package, name="again")
    after = load_model(entry.path, fold=False)
    assert after.header == before.header
    assert entry.name == "again"
    for name, tensor in before.net.state_dict().items():
        torch.testing.assert_close(after.net.state_dict()[name], tensor, rtol=0, atol=0)


def test_a_package_is_held_to_its_hash_and_says_its_network_itself(tmp_path: Path) -> None:
    path = tmp_path / "lively.safetensors"
    save_lively_model(path)
    package = export_model(str(path), tmp_path / "p.zip", "bioimageio")
    with pytest.raises(ModelFileError, match="was expected"):
        import_model(package, sha256="0" * 64)
    with pytest.raises(ConfigError, match="says its architecture and classes itself"):
        import_model(package, options=StateDictOptions(like="em-membranes"))
