"""``napari-unet models`` as a person calls it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from tests.nets import save_lively_model

from napari_unet.app import model_store
from napari_unet.app.models import SHARED_FOLDERS
from napari_unet.cli.main import app
from napari_unet.core.header import ParentModel, Provenance
from napari_unet.model.weights import load_model, save_model

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the user's models folder, not made yet; there are no shared ones."""
    folder = tmp_path / "data" / "models"
    monkeypatch.delenv(SHARED_FOLDERS, raising=False)
    monkeypatch.setattr("napari_unet.app.models.own_models_folder", lambda: folder)
    monkeypatch.setattr(model_store, "own_models_folder", lambda: folder)
    return folder


def models(*words: str) -> int:
    """Run ``napari-unet models`` in this process and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        app(["models", *words])
    return int(ended.value.code or 0)


def test_a_model_comes_is_renamed_goes_out_and_is_removed(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.safetensors"
    save_lively_model(path)
    sha256 = load_model(path).sha256
    assert models("import", str(path), "--sha256", sha256) == 0
    assert f"sha256 {sha256}" in capsys.readouterr().out
    assert models("rename", "mine", "ours") == 0
    assert models("list") == 0
    assert "ours                 own      1=class 1, 2=class 2" in capsys.readouterr().out
    assert models("export", "ours", str(tmp_path / "copy.safetensors")) == 0
    assert (tmp_path / "copy.safetensors").read_bytes() == path.read_bytes()
    assert models("export", "ours", str(tmp_path / "p.zip"), "--format", "bioimageio") == 0
    assert (tmp_path / "p.zip").read_bytes().startswith(b"PK")
    assert models("remove", "ours") == 0
    assert list(folder.iterdir()) == []


def test_a_refusal_is_one_sentence_and_the_code_of_its_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_lively_model(tmp_path / "mine.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"\x80\x02}q\x00.")
    (tmp_path / "there.onnx").write_bytes(b"")
    for words, code, part in (
        (("remove", "em-membranes"), 2, "part of napari-unet"),
        (("rename", "nothing", "new"), 2, "no model 'nothing' of your own"),
        (("import", str(tmp_path / "bad.safetensors")), 3, "pickle"),
        (("import", str(tmp_path / "mine.safetensors"), "--sha256", "00"), 3, "was expected"),
        (("import", str(tmp_path / "w.pth")), 2, "--architecture"),
        (("export", "em-membranes", str(tmp_path / "there.onnx"), "--format", "onnx"), 2, "exists"),
    ):
        assert models(*words) == code
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert part in error


def test_show_tells_the_lineage_and_remove_asks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_lively_model(tmp_path / "mine.safetensors")
    models("import", str(tmp_path / "mine.safetensors"))
    parent = load_model(tmp_path / "mine.safetensors", fold=False)
    made = Provenance(parent=ParentModel(name="mine", sha256=parent.sha256))
    header = parent.header.model_copy(update={"name": "child", "provenance": made})
    save_model(tmp_path / "child.safetensors", parent.net, header)
    models("import", str(tmp_path / "child.safetensors"))
    models("rename", "mine", "old")
    capsys.readouterr()
    assert models("show", "child") == 0
    line = f"  from       mine, sha256 {parent.sha256[:12]}..., here as old"
    assert line in capsys.readouterr().out.splitlines()
    assert models("show", "child", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["provenance"]["parent"] == {"name": "mine", "sha256": parent.sha256}
    assert models("remove", "old") == 2
    assert "--yes" in capsys.readouterr().err
    assert models("remove", "old", "--yes") == 0
    capsys.readouterr()
    models("show", "child")
    assert "not among the models here" in capsys.readouterr().out


def test_list_says_what_is_damaged_hidden_and_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    save_lively_model(shared / "em-membranes.safetensors")
    (shared / "torn.safetensors").write_bytes(b"torn")
    monkeypatch.setenv(SHARED_FOLDERS, os.pathsep.join([str(shared), str(tmp_path / "gone")]))
    assert models("list") == 0
    said = capsys.readouterr()
    assert "torn                 shared   damaged: model file" in said.out
    assert "is hidden by another model 'em-membranes'" in said.err
    assert f"names '{tmp_path / 'gone'}'" in said.err
