"""PyTorch and GPUs: what is used, and why a GPU is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_unet.app.examining.child import ask
from napari_unet.app.examining.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_unet.app.examining.child import Answer

FACTS_MODULE = "napari_unet.app.examining.device_facts"

HIDES_ALL = ("", "-1", "NoDevFiles")
"""Values of CUDA_VISIBLE_DEVICES that hide every GPU on purpose."""

INSTALL = "install PyTorch as https://pytorch.org/get-started says for CUDA"


def examine_devices() -> tuple[Answer, list[Finding]]:
    """Return what the process that asks PyTorch answered, and the findings: torch, gpu, tf32."""
    answer = ask(FACTS_MODULE)
    if answer.facts is None:
        broken = Finding(
            "torch",
            "problem",
            f"PyTorch does not work: {answer.failure}",
            "install it again; on Windows it needs the Microsoft Visual C++ runtime",
        )
        return answer, [broken]
    facts = answer.facts
    build = facts["cuda_build"] or facts["hip_build"]
    kind = f"for {'CUDA' if facts['cuda_build'] else 'ROCm'} {build}" if build else "without CUDA"
    torch = Finding(
        "torch",
        "ok",
        f"PyTorch {facts['torch']}, built {kind}",
        values={key: facts[key] for key in ("torch", "cuda_build", "hip_build")},
    )
    return answer, [torch, judge_gpu(facts), judge_tf32(facts)]


def judge_gpu(facts: Mapping[str, Any]) -> Finding:
    """Return which GPU is used, or why none is, and what to do about it.

    Parameters
    ----------
    facts : mapping
        What `device_facts` says.
    """
    keys = ("devices", "driver_loaded", "driver_cuda", "nvidia_hardware", "visible_devices")
    values = {key: facts[key] for key in keys}
    if facts["devices"]:
        return _judge_found(facts["devices"], values)
    if facts["mps_available"]:
        return Finding("gpu", "ok", "the GPU of this Mac is used (mps)", values=values)
    state, text, remedy = _why_none(facts)
    return Finding("gpu", state, f"no GPU is used: {text}", remedy, values)


def judge_tf32(facts: Mapping[str, Any]) -> Finding:
    """Return whether NVIDIA GPUs compute with 10 bits of precision unasked."""
    keys = ("tf32", "tf32_default", "tf32_override")
    values = {key: facts[key] for key in keys}
    if facts["tf32_override"] == "1":
        text = "NVIDIA_TF32_OVERRIDE=1 forces TF32 on: GPU and CPU differ by about 1e-3"
        return Finding("tf32", "problem", text, "unset NVIDIA_TF32_OVERRIDE", values)
    if facts["tf32"]:
        text = "TF32 is on although it was switched off"
        return Finding("tf32", "problem", text, "report this with the output of --json", values)
    before = "on" if facts["tf32_default"] else "off"
    text = f"TF32 is off in every job (PyTorch's own default is {before}); --tf32 allows it"
    return Finding("tf32", "ok", text, values=values)


def _judge_found(devices: list[dict[str, Any]], values: dict[str, Any]) -> Finding:
    named = ", ".join(
        f"cuda:{index} {device['name']} ({device['memory_bytes'] / 2**30:.0f} GiB)"
        for index, device in enumerate(devices)
    )
    broken = [(index, device["failure"]) for index, device in enumerate(devices)]
    broken = [(index, failure) for index, failure in broken if failure]
    if not broken:
        return Finding("gpu", "ok", f"{named}; --device auto takes cuda:0", values=values)
    index, failure = broken[0]
    text = f"cuda:{index} ({devices[index]['name']}) does not compute: {failure}"
    remedy = (
        "if there is 'no kernel image', this build of PyTorch is too new for the GPU (compute "
        f"capability {devices[index]['capability']}) or too old: {INSTALL}; else restart the "
        "machine, or give --device cpu"
    )
    return Finding("gpu", "problem", text, remedy, values)


def _why_none(facts: Mapping[str, Any]) -> tuple[Any, str, str | None]:
    """Return state, reason and remedy where no GPU can be used."""
    if not facts["nvidia_hardware"] and facts["hip_build"] is None:
        return "note", "none that PyTorch could use is seen on this machine", None
    if facts["cuda_build"] is None and facts["hip_build"] is None:
        text = f"this is a build of PyTorch without CUDA ({facts['torch']})"
        return "problem", text, INSTALL
    if not facts["driver_loaded"] and facts["hip_build"] is None:
        remedy = "install NVIDIA's driver and restart; start a container with --gpus all"
        return "problem", "there is a GPU of NVIDIA, but no driver is loaded", remedy
    visible = facts["visible_devices"]
    if visible is not None:
        text = f"CUDA_VISIBLE_DEVICES={visible!r} hides it"
        state = "note" if visible in HIDES_ALL else "problem"
        return state, text, "unset CUDA_VISIBLE_DEVICES, or name a GPU that there is"
    driver, build = facts["driver_cuda"], facts["cuda_build"]
    if driver and build and _major(driver) < _major(build):
        text = f"the driver is too old: it knows CUDA {driver}, PyTorch needs {build}"
        remedy = f"install a newer driver, or a build of PyTorch for CUDA {_major(driver)}"
        return "problem", text, remedy
    text = facts["complaint"] or "PyTorch does not say why"
    return "problem", text, "see whether nvidia-smi works; restart the machine"


def _major(version: str) -> int:
    return int(version.partition(".")[0])
