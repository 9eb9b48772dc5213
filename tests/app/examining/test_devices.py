"""Why a GPU is not used: each cause is told from the others, with its remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from napari_unet.app.examining import device_facts, devices
from napari_unet.app.examining.child import Answer
from napari_unet.app.examining.device_facts import hardware_facts
from napari_unet.app.examining.devices import examine_devices, judge_gpu, judge_tf32

if TYPE_CHECKING:
    from pathlib import Path

GOOD: dict[str, Any] = {
    "nvidia_hardware": True,
    "driver_loaded": True,
    "driver_cuda": "12.8",
    "visible_devices": None,
    "tf32_override": None,
    "torch": "2.13.0+cu128",
    "cuda_build": "12.8",
    "hip_build": None,
    "cuda_available": True,
    "complaint": "",
    "devices": [
        {"name": "NVIDIA H100", "memory_bytes": 80 * 2**30, "capability": "9.0", "failure": ""}
    ],
    "mps_available": False,
    "threads": 4,
    "tf32_default": True,
    "tf32": False,
}
NONE = {"cuda_available": False, "devices": []}
CPU_BUILD = {**NONE, "torch": "2.13.0+cpu", "cuda_build": None}
NO_DRIVER = {**NONE, "driver_loaded": False, "driver_cuda": None}


@pytest.mark.parametrize(
    ("changed", "state", "text", "remedy"),
    [
        ({}, "ok", "cuda:0 NVIDIA H100 (80 GiB)", None),
        ({**CPU_BUILD, "mps_available": True}, "ok", "mps", None),
        ({**CPU_BUILD, **NO_DRIVER, "nvidia_hardware": False}, "note", "none that PyTorch", None),
        ({**CPU_BUILD, **NO_DRIVER, "nvidia_hardware": None}, "note", "none that PyTorch", None),
        (CPU_BUILD, "problem", "without CUDA (2.13.0+cpu)", "pytorch.org"),
        (NO_DRIVER, "problem", "no driver is loaded", "install NVIDIA's driver"),
        ({**NONE, "visible_devices": ""}, "note", "CUDA_VISIBLE_DEVICES=''", "unset"),
        ({**NONE, "visible_devices": "-1"}, "note", "CUDA_VISIBLE_DEVICES='-1'", "unset"),
        ({**NONE, "visible_devices": "7"}, "problem", "CUDA_VISIBLE_DEVICES='7'", "unset"),
        ({**NONE, "driver_cuda": "11.4"}, "problem", "too old: it knows CUDA 11.4", "CUDA 11"),
        ({**NONE, "complaint": "CUDA error 803"}, "problem", "CUDA error 803", "nvidia-smi"),
    ],
)
def test_each_cause_has_its_remedy(
    changed: dict[str, Any], state: str, text: str, remedy: str | None
) -> None:
    finding = judge_gpu({**GOOD, **changed})
    assert finding.state == state
    assert text in finding.text
    assert (finding.remedy is None) if remedy is None else (remedy in (finding.remedy or ""))


def test_a_gpu_that_does_not_compute_is_a_problem() -> None:
    broken = {**GOOD["devices"][0], "name": "Tesla K80", "failure": "no kernel image is available"}
    finding = judge_gpu({**GOOD, "devices": [GOOD["devices"][0], broken]})
    assert finding.state == "problem"
    assert "cuda:1 (Tesla K80) does not compute: no kernel image" in finding.text


@pytest.mark.parametrize(
    ("changed", "state"),
    [({}, "ok"), ({"tf32": True}, "problem"), ({"tf32_override": "1"}, "problem")],
)
def test_tf32_that_nobody_asked_for_is_a_problem(changed: dict[str, Any], state: str) -> None:
    assert judge_tf32({**GOOD, **changed}).state == state


def test_a_broken_pytorch_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "ask", lambda module: Answer(None, "ended by signal 11"))
    answer, (finding,) = examine_devices()
    assert answer.facts is None
    assert (finding.name, finding.state) == ("torch", "problem")
    assert "signal 11" in finding.text


def test_this_machine_answers() -> None:
    answer, findings = examine_devices()
    assert answer.failure == ""
    assert answer.facts is not None
    assert answer.facts.keys() == GOOD.keys()
    assert [finding.name for finding in findings] == ["torch", "gpu", "tf32"]
    assert answer.facts["tf32"] is False


@pytest.mark.parametrize(
    ("vendor", "kind", "found"),
    [("0x10de", "0x030200", True), ("0x10de", "0x040300", False), ("0x1002", "0x030000", False)],
)
def test_hardware_is_known_without_a_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vendor: str, kind: str, found: bool
) -> None:
    monkeypatch.setattr(device_facts, "driver_cuda_version", lambda: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    card = tmp_path / "pci" / "0000:65:00.0"
    card.mkdir(parents=True)
    (card / "vendor").write_text(f"{vendor}\n")
    (card / "class").write_text(f"{kind}\n")
    (tmp_path / "pci" / "empty").mkdir()
    facts = hardware_facts(tmp_path / "pci", tmp_path / "version")
    assert facts["nvidia_hardware"] is found
    assert facts["driver_loaded"] is False
    assert facts["visible_devices"] == "3"
    assert hardware_facts(tmp_path / "none", tmp_path / "version")["nvidia_hardware"] is None
    (tmp_path / "version").write_text("NVRM version")
    loaded = hardware_facts(tmp_path / "none", tmp_path / "version")
    assert loaded["driver_loaded"] is loaded["nvidia_hardware"] is True
