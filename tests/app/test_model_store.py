"""The store of models: what is there, who may change what, and that nothing is ever lost."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.nets import save_lively_model

from napari_unet.app import model_store
from napari_unet.app.model_exchange import StateDictOptions, export_model, import_model
from napari_unet.app.model_store import lineage, remove_model, rename_model
from napari_unet.app.models import (
    DEFAULT_MODEL,
    SHARED_FOLDERS,
    find_model,
    list_models,
    own_models_folder,
    take_inventory,
)
from napari_unet.core.header import ParentModel, Provenance
from napari_unet.errors import ConfigError, ModelFileError, OutputExistsError, StorageError
from napari_unet.model.weights import load_model, save_model

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.app.models import ModelEntry

BUNDLED = [DEFAULT_MODEL, "nuclei"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the user's models folder, not made yet; there are no shared ones."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv(SHARED_FOLDERS, raising=False)
    folder = tmp_path / "data" / "napari-unet" / "models"
    monkeypatch.setattr("napari_unet.app.models.own_models_folder", lambda: folder)
    monkeypatch.setattr(model_store, "own_models_folder", lambda: folder)
    return folder


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a shared folder with the model `theirs`, the second of two that are named."""
    folder = tmp_path / "of the lab"
    folder.mkdir()
    save_lively_model(folder / "theirs.safetensors", seed=9)
    monkeypatch.setenv(SHARED_FOLDERS, os.pathsep.join([str(tmp_path / "gone"), "", str(folder)]))
    return folder


@pytest.fixture
def own(tmp_path: Path) -> ModelEntry:
    """Return the own model `mine`."""
    save_lively_model(tmp_path / "mine.safetensors")
    return import_model(tmp_path / "mine.safetensors")


def child_of(parent: ModelEntry, path: Path) -> Path:
    """Write a model that was fine-tuned from another one."""
    loaded = load_model(parent.path, fold=False)
    made = Provenance(parent=ParentModel(name=parent.name, sha256=parent.sha256))
    header = loaded.header.model_copy(update={"name": path.stem, "provenance": made})
    save_model(path, loaded.net, header)
    return path


def names() -> list[str]:
    return [entry.name for entry in list_models()]


def test_an_import_is_a_copy_that_can_be_named(tmp_path: Path, own: ModelEntry) -> None:
    assert own.path.read_bytes() == (tmp_path / "mine.safetensors").read_bytes()
    assert (own.name, own.origin) == ("mine", "own")
    assert find_model("mine") == own
    assert names() == [*BUNDLED, "mine"]


def test_lab_mates_can_read_it(own: ModelEntry) -> None:
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(own.path.stat().st_mode) == 0o666 & ~mask
    assert stat.S_IMODE(own.path.parent.stat().st_mode) == 0o777 & ~mask


def test_nothing_is_overwritten(tmp_path: Path, own: ModelEntry, shared: Path) -> None:
    before = own.path.read_bytes()
    other = tmp_path / "other.safetensors"
    save_lively_model(other, seed=4)
    for taken in ("mine", "MINE", DEFAULT_MODEL, "theirs"):
        with pytest.raises(ConfigError, match="none is overwritten"):
            import_model(other, name=taken)
    import_model(other)
    for taken in ("mine", DEFAULT_MODEL, "theirs", "other"):
        with pytest.raises(ConfigError, match="none is overwritten"):
            rename_model("other", taken)
    assert own.path.read_bytes() == before
    assert shared.joinpath("theirs.safetensors").exists()


def test_of_two_at_the_same_time_one_wins(own: ModelEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name was free when it was looked up, and is taken when it is written."""
    monkeypatch.setattr(model_store, "check_new_name", lambda *_, **__: None)
    before = own.path.read_bytes()
    with pytest.raises(ConfigError, match="none is overwritten"):
        model_store.add_model(b"other", "mine")
    assert own.path.read_bytes() == before
    assert [path.name for path in own.path.parent.iterdir()] == ["mine.safetensors"]


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 65, "a b", "é"])
def test_names_that_are_no_file_names_are_refused(own: ModelEntry, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a model's name"):
        rename_model("mine", name)
    assert own.path.exists()


def test_renaming_keeps_every_byte_and_the_lineage(tmp_path: Path, own: ModelEntry) -> None:
    child = import_model(child_of(own, tmp_path / "child.safetensors"))
    renamed = rename_model("mine", "better")
    assert (renamed.name, renamed.sha256) == ("better", own.sha256)
    assert not own.path.exists()
    (parent,) = lineage(child)
    assert parent.name == "mine", "what it was called then"
    assert parent.entry == renamed


def test_the_lineage_goes_on_until_a_model_is_not_there(tmp_path: Path, own: ModelEntry) -> None:
    child = import_model(child_of(own, tmp_path / "child.safetensors"))
    grandchild = import_model(child_of(child, tmp_path / "grandchild.safetensors"))
    assert [item.name for item in lineage(grandchild)] == ["child", "mine"]
    remove_model("child", even_if_parent=True)
    (gone,) = lineage(grandchild)
    assert (gone.name, gone.sha256, gone.entry) == ("child", child.sha256, None)
    assert lineage(own) == []


def test_a_parent_is_removed_only_on_purpose(tmp_path: Path, own: ModelEntry, shared: Path) -> None:
    child_of(own, shared / "child.safetensors")
    with pytest.raises(ConfigError, match=r"parent of 'child'.*--yes"):
        remove_model("mine")
    assert own.path.exists()
    assert remove_model("mine", even_if_parent=True) == own.path
    assert "mine" not in names()
    assert tmp_path.joinpath("mine.safetensors").exists(), "the file it came from is untouched"


def test_bundled_and_shared_models_stay_as_they_are(shared: Path) -> None:
    before = {path: path.read_bytes() for path in shared.iterdir()}
    for name, words in ((DEFAULT_MODEL, "part of napari-unet"), ("theirs", "shared folder")):
        for change in (lambda n: rename_model(n, "new"), remove_model):
            with pytest.raises(ConfigError, match=words):
                change(name)
    assert {path: path.read_bytes() for path in shared.iterdir()} == before
    with pytest.raises(ConfigError, match=r"no model 'nothing' of your own.*your own are: none"):
        remove_model("nothing")


def test_shared_models_are_found_and_missing_folders_are_said(tmp_path: Path, shared: Path) -> None:
    inventory = take_inventory()
    assert [(e.name, e.origin) for e in inventory.models][-1] == ("theirs", "shared")
    assert inventory.missing_folders == (tmp_path / "gone",)
    assert find_model("theirs").path == shared / "theirs.safetensors"


def test_a_read_only_shared_folder_is_enough(shared: Path) -> None:
    for path in (shared / "theirs.safetensors", shared):
        path.chmod(0o444 if path.is_file() else 0o555)
    try:
        assert load_model(find_model("theirs").path).header.name == "theirs"
        assert [path.name for path in shared.iterdir()] == ["theirs.safetensors"]
    finally:
        shared.chmod(0o755)


def test_the_first_of_two_equal_names_is_used_and_the_other_is_said(
    tmp_path: Path, own: ModelEntry, shared: Path
) -> None:
    save_lively_model(shared / "mine.safetensors", seed=3)
    inventory = take_inventory()
    assert [entry.path for entry in inventory.hidden] == [shared / "mine.safetensors"]
    assert find_model("mine") == own
    assert names().count("mine") == 1


def test_a_damaged_file_is_listed_and_can_be_removed(
    own: ModelEntry, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = own.path.with_name("torn.safetensors")
    damaged.write_bytes(own.path.read_bytes()[:-100])
    (item,) = take_inventory().damaged
    assert (item.name, item.origin) == ("torn", "own")
    assert "cut short" in item.reason
    assert names() == [*BUNDLED, "mine"]
    assert "torn" in caplog.text
    with pytest.raises(ModelFileError, match="cut short"):
        find_model("torn")
    remove_model("torn")
    assert take_inventory().damaged == ()


def test_the_hash_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_lively_model(path)
    with pytest.raises(ModelFileError, match=r"SHA-256 is .* was expected"):
        import_model(path, sha256="0" * 64)
    assert names() == BUNDLED
    sha256 = find_model(str(path)).sha256
    assert import_model(path, sha256=sha256.upper()).sha256 == sha256


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02}q\x00."])
def test_what_is_no_model_is_not_imported(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelFileError):
        import_model(path)
    with pytest.raises(ConfigError, match=r"ends in '\.h5'"):
        import_model(tmp_path / "keras.h5")
    assert not own_models_folder().exists() or not list(own_models_folder().iterdir())


def test_a_model_whose_tensors_are_not_those_of_its_network_is_not_imported(
    tmp_path: Path, own: ModelEntry
) -> None:
    data = own.path.read_bytes().replace(b'\\"depth\\":2', b'\\"depth\\":1')
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(data)
    assert data != own.path.read_bytes()
    with pytest.raises(ModelFileError, match="tensors too many"):
        import_model(bad, name="bad")
    assert "bad" not in names()


def test_a_state_dict_needs_to_be_told_its_network_and_a_model_file_does_not(
    tmp_path: Path, own: ModelEntry
) -> None:
    for options in (StateDictOptions(), StateDictOptions(architecture="{}", like="mine")):
        with pytest.raises(ConfigError, match=r"either --architecture .* or --like"):
            import_model(tmp_path / "w.pth", options=options)
    for text in ("[1]", "{", '{"depth": 2, "depth": 3}'):
        with pytest.raises(ConfigError, match="no JSON object"):
            import_model(tmp_path / "w.pth", options=StateDictOptions(architecture=text))
    with pytest.raises(ConfigError, match="depth"):
        import_model(tmp_path / "w.pth", options=StateDictOptions(architecture='{"depth": 99}'))
    with pytest.raises(ConfigError, match="3 classes are named"):
        import_model(
            tmp_path / "w.pth", options=StateDictOptions(like="mine", classes=("a", "b", "c"))
        )
    with pytest.raises(ConfigError, match="leave out"):
        import_model(own.path, name="x", options=StateDictOptions(like="mine"))
    with pytest.raises(ModelFileError, match="no such file"):
        import_model(tmp_path / "w.pth", options=StateDictOptions(like="mine"))


def test_an_imported_state_dict_says_where_it_comes_from(tmp_path: Path, own: ModelEntry) -> None:
    import torch

    torch.save(load_model(own.path, fold=False).net.state_dict(), tmp_path / "my weights.pt")
    entry = import_model(
        tmp_path / "my weights.pt", options=StateDictOptions(like="mine", classes=("in", "out"))
    )
    assert entry.name == "my-weights"
    with pytest.raises(ModelFileError, match="was expected"):
        import_model(
            tmp_path / "my weights.pt",
            name="again",
            sha256=entry.sha256,
            options=StateDictOptions(like="mine"),
        )
    assert [item.name for item in entry.header.classes] == ["in", "out"]
    assert "my weights.pt" in entry.header.provenance.recipe
    assert entry.header.provenance.scores == {}
    assert torch.equal(load_model(entry.path).net.head.weight, load_model(own.path).net.head.weight)


def test_an_export_as_safetensors_is_a_copy_and_overwrites_nothing(
    tmp_path: Path, own: ModelEntry
) -> None:
    output = tmp_path / "out.safetensors"
    assert export_model("mine", output, "safetensors") == output
    assert output.read_bytes() == own.path.read_bytes()
    output.write_bytes(b"precious")
    with pytest.raises(OutputExistsError, match="not overwritten"):
        export_model("mine", output, "safetensors")
    assert output.read_bytes() == b"precious"
    with pytest.raises(ConfigError, match=r"must end in \.zip"):
        export_model("mine", tmp_path / "out.tar", "bioimageio")
    with pytest.raises(ConfigError, match="no format 'keras'"):
        export_model("mine", tmp_path / "out.h5", "keras")
    with pytest.raises(StorageError, match="cannot be written"):
        export_model("mine", tmp_path / "no" / "out.safetensors", "safetensors")


def test_a_models_folder_that_cannot_be_made_is_said(tmp_path: Path, folder: Path) -> None:
    save_lively_model(tmp_path / "mine.safetensors")
    folder.parent.parent.mkdir()
    folder.parent.write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        import_model(tmp_path / "mine.safetensors")


def test_looking_and_tidying_up_need_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import napari_unet.app.model_store\n"
        "from napari_unet.cli.main import app\n"
        "app(['models', 'show', 'em-membranes'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "em-membranes:" in done.stdout, done.stderr
