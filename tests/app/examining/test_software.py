"""Packages and models: what is missing or damaged is named, with the remedy."""

from __future__ import annotations

from importlib.metadata import requires, version
from typing import TYPE_CHECKING

import pytest

from napari_unet.app.examining.software import examine_software, judge_packages

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_installed_here_will_do() -> None:
    findings = {finding.name: finding for finding in examine_software()}
    assert list(findings) == ["versions", "packages", "models"]
    assert findings["versions"].values["zarr"] == version("zarr")
    assert findings["packages"].state == "ok"


@pytest.mark.parametrize(
    ("requirement", "unmet"),
    [
        ("numpy>=1.26", False),
        ("numpy>=99", True),
        ("no-such-package-of-ours", True),
        ("no-such-package-of-ours; extra == 'napari'", False),
        ("no-such-package-of-ours; python_version < '3'", False),
    ],
)
def test_requirements_of_the_base_install_are_checked(requirement: str, unmet: bool) -> None:
    finding = judge_packages([*(requires("napari-unet") or []), requirement])
    assert (finding.state == "problem") is unmet
    if unmet:
        assert finding.remedy == f'pip install "{requirement}"'
        assert len(finding.values["unmet"]) == 1


def test_a_shared_folder_that_is_gone_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAPARI_UNET_MODELS", str(tmp_path / "gone"))
    finding = examine_software()[-1]
    assert finding.state == "problem"
    assert "gone" in finding.text


def test_a_damaged_model_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"no model")
    monkeypatch.setenv("NAPARI_UNET_MODELS", str(tmp_path))
    finding = examine_software()[-1]
    assert finding.state == "problem"
    assert finding.values["damaged"] == [str(tmp_path / "bad.safetensors")]
    assert [model["name"] for model in finding.values["models"]][:1] == ["em-membranes"]
