"""Exported packages, judged by the bioimage.io library itself."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tests.nets import save_lively_model

from napari_unet.core.header import Provenance
from napari_unet.model.bioimageio_description import FORMAT_VERSION
from napari_unet.model.bioimageio_package import bioimageio_package
from napari_unet.model.weights import LoadedModel, load_model

ROOT = Path(__file__).resolve().parents[2]
JUDGE = ROOT / "tests" / "bioimageio_judge.py"

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "valid": {"norm": "batch"},
    "same": {"padding": "same", "num_classes": 3},
    "residual": {"depth": 2, "base_channels": 2, "in_channels": 2, "residual": "shared"},
    "context": {"depth": 1, "base_channels": 2, "in_channels": 3, "expects": {"context": 1}},
}
SAME = 24
"""Halo of the network that pads with zeros, 22, rounded up to its stride of 4."""

OTHER_LICENSE = "BSD-3-Clause; trained on data under CC BY 3.0"


def lively_model(folder: Path, **architecture: Any) -> LoadedModel:
    path = folder / "lively.v1.safetensors"
    save_lively_model(path, **architecture)
    return load_model(path, fold=False)


def described(model: LoadedModel, **changes: Any) -> LoadedModel:
    return LoadedModel(model.net, model.header.model_copy(update=changes), model.sha256)


def pixel_size(model: LoadedModel, *size: float) -> dict[str, Any]:
    changes = {"voxel_size": size, "unit": "micrometer"}
    return {"input": model.header.input.model_copy(update=changes)}


def model_named(name: str, folder: Path) -> LoadedModel:
    """Return one of the models that are judged."""
    model = lively_model(folder, **ARCHITECTURES[name])
    if name == "same":
        return described(model, license=OTHER_LICENSE)
    if name == "residual":
        return described(model, **pixel_size(model, 0.3, 1 / 3))
    made = Provenance(
        data="the data of A. B., CC BY 3.0", created="2026-11-20", scores={"f1": 0.875, "e": 1e-6}
    )
    words = {"description": "membranes", "license": "CC-BY-4.0", "provenance": made}
    return described(model, **words, **pixel_size(model, 8.0, 4.0))


class Judged:
    """A package, its model, an image, and what the library said and answered."""

    def __init__(self, name: str, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.model = model_named(name, folder)
        authors = ("Ada Lovelace",) if name == "valid" else ()
        (folder / "package.zip").write_bytes(bioimageio_package(self.model, authors=authors))
        architecture = self.model.net.architecture
        self.axis = architecture.geometry().axes[-1]
        size = (self.axis.input_size(40), self.axis.input_size(60))
        rng = np.random.default_rng(1)
        self.image = rng.normal(90, 25, (1, architecture.in_channels, *size)).astype(np.float32)
        np.save(folder / "image.npy", self.image)

    @property
    def verdict(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "verdict.json").read_text()))

    def read(self, name: str) -> bytes:
        with zipfile.ZipFile(self.folder / "package.zip") as archive:
            return archive.read(name)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Judged]:
    """Return all packages, which one process has judged: starting the library takes seconds."""
    folder = tmp_path_factory.mktemp("packages")
    packages = {name: Judged(name, folder / name) for name in ARCHITECTURES}
    done = subprocess.run(
        [sys.executable, str(JUDGE), *(str(item.folder) for item in packages.values())],
        cwd=folder,
        env={**os.environ, "BIOIMAGEIO_CACHE_PATH": str(folder / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return packages


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_library_validates_it_and_reproduces_its_test_output(
    judged: dict[str, Judged], name: str
) -> None:
    verdict = judged[name].verdict
    assert verdict["valid"], verdict["words"]
    assert verdict["reproduced"], verdict["words"]


def test_the_format_is_the_newest_that_the_library_knows(judged: dict[str, Judged]) -> None:
    assert judged["valid"].verdict["newest"] == FORMAT_VERSION


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_library_answers_as_our_network_does(judged: dict[str, Judged], name: str) -> None:
    """On an image of another size than the test image, which the library standardizes.

    Around the image of a network that pads with zeros it puts a mirrored halo first.
    """
    item = judged[name]
    halo = SAME if name == "same" else 0
    edges = ((0, 0), (0, 0), (halo, halo), (halo, halo))
    image = np.pad(item.image.astype(float), edges, mode="symmetric")
    values = (image - image.mean((2, 3), keepdims=True)) / image.std((2, 3), keepdims=True)
    with torch.inference_mode():
        wanted = torch.softmax(item.model.net(torch.from_numpy(values).float()), 1).numpy()
    wanted = wanted[..., halo : wanted.shape[2] - halo, halo : wanted.shape[3] - halo]
    answer = np.load(item.folder / "answer.npy")
    assert answer.std() > 0.05, "the answer varies, so that a mistake would show"
    np.testing.assert_allclose(answer, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["valid", "residual"])
def test_the_library_computes_the_size_that_a_valid_network_answers(
    judged: dict[str, Judged], name: str
) -> None:
    """Of 500 legal sizes; with 0.3 as pixel size it would round some down, so that is left out."""
    item = judged[name]
    assert item.verdict["lost"] == [2 * item.axis.halo]
    axes = item.verdict["description"]["inputs"][0]["axes"][2:]
    scales = [8.0, 4.0] if name == "valid" else [1.0, 1.0]
    assert [axis.get("scale", 1.0) for axis in axes] == scales


def test_a_network_with_padding_has_a_halo_to_be_cut_off(judged: dict[str, Judged]) -> None:
    (output,) = judged["same"].verdict["description"]["outputs"]
    assert [axis["halo"] for axis in output["axes"][2:]] == [SAME] * 2
    assert judged["same"].verdict["lost"] == [0]


def test_its_network_needs_no_package_of_ours(tmp_path: Path) -> None:
    data = bioimageio_package(lively_model(tmp_path, residual="shared"))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(tmp_path / "package")
        arguments = yaml.safe_load(archive.read("rdf.yaml"))["weights"]["pytorch_state_dict"]
    code = (
        "import sys; sys.modules['napari_unet'] = None; sys.path.insert(0, '.')\n"
        "import numpy, torch, unet\n"
        f"net = unet.StandaloneUNet(**{arguments['architecture']['kwargs']!r}).eval()\n"
        "net.load_state_dict(torch.load('weights.pt', weights_only=True))\n"
        "image = numpy.load('test_input.npy')\n"
        "image = torch.from_numpy((image - image.mean()) / image.std())\n"
        "answer = net(image).detach().numpy()\n"
        "print(abs(answer - numpy.load('test_output.npy')).max() < 1e-5)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "package",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "True", done.stderr


def test_the_source_it_carries_contains_our_license(judged: dict[str, Judged]) -> None:
    source = judged["valid"].read("unet.py").decode()
    head = [line.removeprefix("#").removeprefix(" ") for line in source.splitlines()]
    license_text = (ROOT / "LICENSE").read_text(encoding="utf-8").splitlines()
    assert [line.rstrip() for line in license_text] == head[: len(license_text)]


def test_it_says_what_the_model_says(judged: dict[str, Judged]) -> None:
    item = judged["valid"]
    said = item.verdict["description"]
    assert said["name"] == "lively-v1 U-Net"
    assert said["description"] == "membranes"
    assert said["license"] == "CC-BY-4.0"
    assert said["authors"] == [{"name": "Ada Lovelace"}]
    assert said["timestamp"].startswith("2026-11-20")
    assert said["outputs"][0]["axes"][1]["channel_names"] == ["class 1", "class 2"]
    assert [axis["unit"] for axis in said["inputs"][0]["axes"][2:]] == ["micrometer"] * 2
    config = said["config"]["napari_unet"]
    assert config["sha256"] == item.model.sha256
    assert config["header"] == item.model.header.summary(), "1e-6 is a number in YAML, too"
    readme = item.read("README.md").decode()
    for words in ("A. B., CC BY 3.0", "f1: 0.8750", "CC-BY-4.0", "1 = class 1"):
        assert words in readme


def test_slices_as_channels_are_named_and_explained(judged: dict[str, Judged]) -> None:
    item = judged["context"]
    (given,) = item.verdict["description"]["inputs"]
    assert given["axes"][1]["channel_names"] == ["c0 z-1", "c0", "c0 z+1"]
    assert "mirrored at the ends of the stack" in item.read("README.md").decode()
    assert "slices" not in judged["valid"].read("README.md").decode()


def test_a_license_in_other_words_becomes_a_file(judged: dict[str, Judged]) -> None:
    assert judged["same"].read("LICENSE.txt").decode().strip() == OTHER_LICENSE
    with pytest.raises(KeyError):
        judged["valid"].read("LICENSE.txt")


def test_the_same_model_gives_the_same_bytes(judged: dict[str, Judged]) -> None:
    item = judged["valid"]
    again = bioimageio_package(item.model, authors=("Ada Lovelace",))
    assert again == (item.folder / "package.zip").read_bytes()
