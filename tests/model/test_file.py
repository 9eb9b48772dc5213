"""Files that are not models, or say so and lie: refused at once, named, and never run."""

from __future__ import annotations

import io
import itertools
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from napari_unet.errors import ModelFileError
from napari_unet.model.file import (
    MAX_FILE_BYTES,
    ModelFile,
    read_model_file,
    read_model_header,
)
from napari_unet.model.weights import load_model

if TYPE_CHECKING:
    from collections.abc import Callable

    TakeApart = Callable[[], Any]


def pack(header: bytes, tensors: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + tensors


def test_the_budget_is_measured_on_a_file_that_loads(model_path: Path) -> None:
    net = load_model(model_path).net
    assert net(torch.zeros(1, 1, 24, 24)).shape == (1, 2, 8, 8)


# ---------------------------------------------------------------- other kinds of files


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_is_named_and_not_run(
    refused: Callable[..., str], tmp_path: Path, protocol: int
) -> None:
    canary = tmp_path / "canary"
    bomb = pickle.dumps({"state": Bomb(canary)}, protocol=protocol)
    message = refused(bomb)
    assert not canary.exists()
    assert ("is a pickle" in message) if protocol else ("no .safetensors file" in message)
    # Twin: the bomb is live.
    pickle.loads(bomb)
    assert canary.is_dir()


def test_a_torch_checkpoint_is_named_and_not_run(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    buffer = io.BytesIO()
    torch.save({"weight": torch.ones(3), "bomb": Bomb(canary)}, buffer)
    message = refused(buffer.getvalue())
    assert "is a zip archive, such as a PyTorch checkpoint" in message
    assert ".safetensors" in message
    assert not canary.exists()


def test_a_torchscript_archive_is_named(refused: Callable[..., str]) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02.")
        archive.writestr("model/code/__torch__.py", "import os")
        archive.writestr("model/constants.pkl", b"\x80\x02).")
    assert "TorchScript" in refused(buffer.getvalue())


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "it is empty"),
        (b"{}", "cut short or no .safetensors"),
        (b"\x89HDF\r\n\x1a\n" + bytes(500), "an HDF5 file"),
        (b"\x1f\x8b\x08\x00" + bytes(500), "a gzip archive"),
        (b"<!DOCTYPE html><html>404 not found</html>", "cut short or no .safetensors"),
        (struct.pack("<Q", 100 * 2**20), "claims 104,857,600 bytes, but only 0 follow"),
        (struct.pack("<Q", 2**64 - 1) + bytes(100), "claims 18,446,744,073,709,551,615 bytes"),
        (pack(b"" * 8), "not valid JSON|cannot be read as JSON"),
        (pack(bytes(range(256))), "cannot be read as JSON"),
    ],
)
def test_other_files_are_told_apart(
    refused: Callable[..., str], content: bytes, problem: str
) -> None:
    assert any(part in refused(content) for part in problem.split("|"))


def test_what_is_not_a_file_is_refused_without_waiting(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo.safetensors"
    os.mkfifo(fifo)
    assert "a pipe, socket or device" in refused(fifo)
    assert "a pipe, socket or device" in refused(Path(os.devnull))
    assert "it is a folder" in refused(tmp_path)
    assert "no such file" in refused(tmp_path / "missing.safetensors")
    loop = tmp_path / "loop.safetensors"
    loop.symlink_to(loop)
    assert "cannot be opened" in refused(loop)
    assert "cannot be opened" in refused(tmp_path / ("x" * 300))


def test_a_name_that_no_system_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="cannot be opened"):
        read_model_header(str(tmp_path / "a\0b"))


# ---------------------------------------------------------------- sizes


def test_it_is_cut_short(refused: Callable[..., str], good: bytes) -> None:
    length = 8 + int.from_bytes(good[:8], "little")
    places = {1, 7, 8, 9, length - 1, length, length + 1, len(good) - 1, len(good) // 2}
    for place in sorted(places | set(range(50, len(good), 499))):
        message = refused(good[:place])
        assert "cut short" in message
    assert "damaged" in refused(good + b"\0")


def test_a_header_of_100_megabytes_is_not_read(refused: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "wide.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 100 * 2**20) + b"{")
        file.truncate(2**30)
    assert "more than the 1,048,576 allowed" in refused(path)


def test_a_file_beyond_the_bound_is_not_read(
    refused: Callable[..., str], good: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "long.safetensors"
    path.write_bytes(good)
    os.truncate(path, MAX_FILE_BYTES + 1)
    assert "4,294,967,297 bytes" in refused(path)


def test_tensors_that_do_not_fit_cost_no_memory(
    refused: Callable[..., str], take_apart: TakeApart, tmp_path: Path
) -> None:
    """The table covers 1.2 GB, sparsely stored; only the architecture tells that it is wrong."""
    parts = take_apart()
    stop = len(parts.tensors)
    count = 300_000_000
    parts.table["extra"] = {
        "dtype": "F32",
        "shape": [count],
        "data_offsets": [stop, stop + 4 * count],
    }
    path = tmp_path / "sparse.safetensors"
    path.write_bytes(parts.assemble())
    os.truncate(path, path.stat().st_size + 4 * count)
    assert "too many, the first is 'extra'" in refused(path, readers=(load_model,))


# ---------------------------------------------------------------- what is read


def test_the_bytes_and_the_hash_are_those_of_the_file(model_path: Path, good: bytes) -> None:
    sha256 = subprocess.run(
        ["sha256sum", str(model_path)], capture_output=True, check=True, text=True
    ).stdout.split()[0]
    file, data = read_model_file(model_path, expected_sha256=sha256.upper())
    assert data == good
    assert file == read_model_header(model_path)
    assert file.sha256 == sha256
    assert read_model_header(model_path, hashed=False).sha256 == ""
    assert file.header.name == "tiny"
    covered = sorted(entry.offsets for entry in file.tensors.values())
    assert covered[0][0] == 0
    assert all(a[1] == b[0] for a, b in itertools.pairwise(covered))


@pytest.mark.parametrize("wrong", ["0" * 64, "", "not a hash"])
def test_another_hash_is_refused(model_path: Path, wrong: str) -> None:
    with pytest.raises(ModelFileError, match="SHA-256"):
        load_model(model_path, expected_sha256=wrong)


def test_a_link_is_followed_and_told(model_path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.safetensors"
    link.symlink_to(model_path)
    assert read_model_header(link).path == model_path.resolve()


def test_a_file_that_is_swapped_while_it_is_read_is_refused(
    model_path: Path, take_apart: TakeApart
) -> None:
    # A header longer than the stream's buffer, or the swap would go unseen, and do no harm.
    parts = take_apart()
    parts.header["description"] = "x" * 15_000
    content = parts.assemble()
    model_path.write_bytes(content)

    def swap(_: ModelFile) -> None:
        model_path.write_bytes(content.replace(b"x" * 15_000, b"y" * 15_000))

    with pytest.raises(ModelFileError, match="changed while it was read"):
        read_model_file(model_path, check=swap)


def test_a_file_that_is_cut_while_it_is_read_is_refused(model_path: Path) -> None:
    with pytest.raises(ModelFileError, match="changed while it was read"):
        read_model_file(model_path, check=lambda _: os.truncate(model_path, 1000))


def test_the_check_comes_before_the_tensors(model_path: Path) -> None:
    def stop(file: ModelFile) -> None:
        assert file.sha256 == ""
        raise ModelFileError("stop here")

    with pytest.raises(ModelFileError, match="stop here"):
        read_model_file(model_path, check=stop)


def test_reading_a_header_does_not_import_torch() -> None:
    code = "import sys, napari_unet.model.file; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
