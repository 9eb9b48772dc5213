"""Packages come back whole; anything else is refused before it is opened."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml
from tests.nets import save_lively_model

from napari_unet.errors import ModelFileError
from napari_unet.model import bioimageio_import
from napari_unet.model.bioimageio_import import read_package
from napari_unet.model.bioimageio_package import bioimageio_package
from napari_unet.model.weights import load_model

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def package(tmp_path: Path) -> tuple[Any, bytes]:
    """A small model, and its package."""
    save_lively_model(tmp_path / "lively.safetensors")
    model = load_model(tmp_path / "lively.safetensors", fold=False)
    return model, bioimageio_package(model)


def repacked(data: bytes, **changes: bytes | None) -> bytes:
    """Return a package in which files are replaced, or left out."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w", 8) as new:
        files = {name: old.read(name) for name in old.namelist()} | changes
        for name, content in files.items():
            if content is not None:
                new.writestr(name, content)
    return stream.getvalue()


def test_header_and_weights_come_back(package: tuple[Any, bytes]) -> None:
    model, data = package
    header, state = read_package(data, "p.zip")
    assert header == model.header
    tensors = torch.load(io.BytesIO(state), weights_only=True)
    for name, tensor in model.net.state_dict().items():
        torch.testing.assert_close(tensors[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rdf.yaml": None}, "holds no rdf.yaml"),
        ({"weights.pt": None}, "holds no weights.pt"),
        ({"rdf.yaml": b"name: other\nconfig: {}"}, "another program's, which is not run"),
        ({"rdf.yaml": b"- a\n- b"}, "another program's"),
        ({"rdf.yaml": b"a: [1, 2"}, "cannot be read"),
        ({"rdf.yaml": b"a: &x [1]\nb: &y [*x, *x]\nc: [*y, *y]"}, "a text without end"),
        ({"rdf.yaml": b"a: &x 1\nb: [" + b"*x, " * 70 + b"]"}, "a text without end"),
        ({"rdf.yaml": b"a: &x [*x]"}, "a text without end"),
        ({"rdf.yaml": b"!!python/object/apply:os.getcwd []"}, "cannot be read"),
        ({"rdf.yaml": b"[" * 50_000}, "cannot be read"),
        ({"rdf.yaml": b"a: " + b"x" * 300_000}, "more than 262,144 bytes"),
        ({"rdf.yaml": b"config: {napari_unet: {header: {name: x}}}"}, "header does not hold"),
        ({f"{k}.txt": b"" for k in range(60)}, "more than 64 files"),
    ],
)
def test_what_is_no_package_of_ours_is_refused(
    package: tuple[Any, bytes], changes: dict[str, bytes | None], words: str
) -> None:
    with pytest.raises(ModelFileError, match=words) as refused:
        read_package(repacked(package[1], **changes), "p.zip")
    assert "p.zip" in str(refused.value)


def test_weights_that_expand_without_end_are_not_read(
    package: tuple[Any, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bioimageio_import, "MAX_EXPANSION", 2)
    data = repacked(package[1], **{"weights.pt": bytes(10 * len(package[1]))})
    with pytest.raises(ModelFileError, match=r"weights.pt in it has more than"):
        read_package(data, "p.zip")


def test_other_files_are_refused(package: tuple[Any, bytes]) -> None:
    for data in (b"", b"PK\x03\x04torn", package[1][:-30]):
        with pytest.raises(ModelFileError, match="damaged archive"):
            read_package(data, "p.zip")


def test_the_text_of_a_description_is_yaml_that_others_read(package: tuple[Any, bytes]) -> None:
    with zipfile.ZipFile(io.BytesIO(package[1])) as archive:
        description = yaml.safe_load(archive.read("rdf.yaml"))
    assert description["config"]["napari_unet"]["sha256"] == package[0].sha256
