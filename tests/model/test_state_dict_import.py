"""State dicts from elsewhere: converted exactly, or refused by a process that can be lost."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tests.nets import lively_net, save_lively_model

from napari_unet.errors import ModelFileError
from napari_unet.model import state_dict_archive, state_dict_import
from napari_unet.model.state_dict_import import convert_state_dict
from napari_unet.model.state_dict_worker import read_state_dict
from napari_unet.model.weights import load_model

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.core.header import ModelHeader


def saved(content: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def header_of(folder: Path, **architecture: Any) -> ModelHeader:
    save_lively_model(folder / "header.safetensors", **architecture)
    return load_model(folder / "header.safetensors").header


class RunsCode:
    """An object whose unpickling makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def repacked(data: bytes, *, compression: int = zipfile.ZIP_STORED, extra: str = "") -> bytes:
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as old,
        zipfile.ZipFile(stream, "w", compression) as new,
    ):
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
        if extra:
            new.writestr(extra, b"")
    return stream.getvalue()


def test_the_weights_come_through_exactly(tmp_path: Path) -> None:
    header = header_of(tmp_path, norm="batch")
    net = lively_net(5, norm="batch")
    target = tmp_path / "converted.safetensors"
    target.write_bytes(convert_state_dict(saved(net.state_dict()), header, source="w.pth"))
    loaded = load_model(target, fold=False)
    assert loaded.header == header
    for name, tensor in net.state_dict().items():
        assert torch.equal(loaded.net.state_dict()[name], tensor) or "num_batches" in name


def test_code_in_the_file_does_not_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    state = dict(lively_net(0).state_dict()) | {"head.bias": RunsCode(canary)}
    data = saved(state)
    with pytest.raises(ModelFileError, match=r"model file 'w\.pth'.*other than tensors") as caught:
        convert_state_dict(data, header_of(tmp_path), source="w.pth")
    assert "weights_only" not in str(caught.value), "PyTorch's advice to run the code is kept back"
    assert not canary.exists()
    torch.load(io.BytesIO(data), weights_only=False)
    assert canary.exists(), "the file is as dangerous as meant"


def test_another_architecture_is_refused_by_name_of_the_file_given(tmp_path: Path) -> None:
    data = saved(lively_net(0, depth=1).state_dict())
    with pytest.raises(ModelFileError, match=r"^model file 'w\.pth': it lacks \d+ tensors"):
        convert_state_dict(data, header_of(tmp_path), source="w.pth")


def test_a_process_that_hangs_or_dies_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = header_of(tmp_path)
    data = saved(lively_net(0).state_dict())
    monkeypatch.setattr(state_dict_import, "TIMEOUT_S", 0.01)
    with pytest.raises(ModelFileError, match=r"more than 0\.01 s"):
        convert_state_dict(data, header, source="w.pth")
    monkeypatch.setattr(state_dict_import, "TIMEOUT_S", 60)
    monkeypatch.setattr(state_dict_import, "WORKER", "napari_unet.no_such_module")
    with pytest.raises(ModelFileError, match="ended with 1"):
        convert_state_dict(data, header, source="w.pth")


def test_the_environment_cannot_make_pytorch_run_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" not in state_dict_import._environment()


GOOD = {"a": torch.arange(4.0), "b": torch.ones(2, 3, dtype=torch.float16)}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "PyTorch 1.6"),
        (pickle.dumps({}), "PyTorch 1.6"),
        (saved(GOOD, _use_new_zipfile_serialization=False), "PyTorch 1.6"),
        (b"PK\x03\x04" + bytes(100), "damaged archive"),
        (saved(GOOD)[:-200], "damaged"),
        (repacked(saved(GOOD), compression=zipfile.ZIP_DEFLATED), "compressed"),
        (repacked(saved(GOOD), extra="archive/code/net.py"), "TorchScript"),
        (repacked(saved(GOOD), extra="other/data.pkl"), "one data.pkl"),
        (saved([torch.ones(3)]), "a list, not a dictionary"),
        (saved({"model": dict(GOOD), "step": 3}), "'model' is a dict, not a tensor"),
        (saved({1: torch.ones(3)}), "not a tensor"),
        (saved({"a": torch.ones(3, dtype=torch.complex64)}), "complex64"),
        (saved({"a": torch.ones(3).to_sparse()}), "not dense"),
        (saved({"a": torch.ones(1).expand(10**9)}), "a part or a repetition of 4 bytes"),
        (saved({"a": torch.ones(6)[:3]}), "a part or a repetition of 24 bytes"),
        (saved({"a": torch.ones(2, 3).T}), "a part or a repetition"),
    ],
)
def test_what_is_no_plain_state_dict_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match=message) as caught:
        read_state_dict(path)
    assert len(str(caught.value)) < 600


def test_a_large_pickle_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(
        saved({"a": torch.ones(1), "b": "x" * (state_dict_archive.MAX_PICKLE_BYTES + 1)})
    )
    with pytest.raises(ModelFileError, match=r"data\.pkl of at most"):
        read_state_dict(path)


def test_a_plain_state_dict_is_read(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(saved(GOOD))
    state = read_state_dict(path)
    assert state.keys() == GOOD.keys()
    assert all(torch.equal(state[name], GOOD[name]) for name in GOOD)


def test_the_process_may_not_take_more_memory_than_its_file_needs() -> None:
    code = (
        "import torch\n"
        "from napari_unet.model.state_dict_worker import limit_resources\n"
        "limit_resources(2**20)\n"
        "torch.ones(2**20)\n"
        "try:\n    torch.ones(2**31)\n"
        "except RuntimeError as error:\n    print('allocate' in str(error))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True", done.stderr
