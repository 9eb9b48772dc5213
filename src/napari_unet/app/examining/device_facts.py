"""What PyTorch and the driver say of GPUs; run as a process: ``python -m ... device_facts``.

Drivers may hang, and a damaged PyTorch ends the process that imports it.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

NVIDIA_VENDOR = "0x10de"
"""PCI number of NVIDIA."""

DISPLAY_CLASS = "0x03"
"""PCI class of display controllers, of which 3D accelerators are a kind."""

PCI_FOLDER = Path("/sys/bus/pci/devices")
DRIVER_FILE = Path("/proc/driver/nvidia/version")


def main() -> int:
    """Print the facts as one line of JSON."""
    facts = {**hardware_facts(), **torch_facts()}
    sys.stdout.write(json.dumps(facts) + "\n")
    return 0


def hardware_facts(pci: Path = PCI_FOLDER, driver: Path = DRIVER_FILE) -> dict[str, Any]:
    """Return what is known without PyTorch.

    Returns
    -------
    dict
        ``nvidia_hardware``: whether a GPU of NVIDIA is seen, None = cannot be known;
        ``driver_loaded``; ``driver_cuda``: newest CUDA version that the driver knows, or None;
        ``visible_devices``: the variable that hides GPUs.
    """
    version = driver_cuda_version()
    loaded = driver.exists() or version is not None
    return {
        "nvidia_hardware": True if loaded else _sees_nvidia(pci),
        "driver_loaded": loaded,
        "driver_cuda": version,
        "visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "tf32_override": os.environ.get("NVIDIA_TF32_OVERRIDE"),
    }


def driver_cuda_version() -> str | None:
    """Return the newest CUDA version that the NVIDIA driver knows; None without a driver."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    number = ctypes.c_int(0)
    try:
        status = ctypes.CDLL(name).cuDriverGetVersion(ctypes.byref(number))
    except (OSError, AttributeError):
        return None
    if status or not number.value:
        return None
    return f"{number.value // 1000}.{number.value % 1000 // 10}"


def torch_facts() -> dict[str, Any]:
    """Return what PyTorch says, with our switches set as a job sets them."""
    import torch

    from napari_unet.inference.device import choose_backend

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cuda = torch.cuda.is_available()
    allowed_before = torch.backends.cudnn.allow_tf32
    choose_backend("cpu")
    backends = torch.backends
    return {
        "torch": torch.__version__,
        "cuda_build": torch.version.cuda,
        "hip_build": torch.version.hip,
        "cuda_available": cuda,
        "complaint": " ".join(" ".join(str(item.message).split()) for item in caught),
        "devices": [_device(index) for index in range(torch.cuda.device_count())] if cuda else [],
        "mps_available": backends.mps.is_available(),
        "threads": torch.get_num_threads(),
        "tf32_default": allowed_before,
        "tf32": backends.cudnn.allow_tf32 or backends.cuda.matmul.allow_tf32,
    }


def _device(index: int) -> dict[str, Any]:
    """Return what is known of a CUDA device, and whether it computes."""
    import torch

    properties = torch.cuda.get_device_properties(index)
    failure = ""
    try:
        with torch.inference_mode():
            ones = torch.ones(1, 1, 8, 8, device=f"cuda:{index}")
            total = torch.nn.functional.conv2d(ones, ones[..., :3, :3]).sum().item()
        if total != 9 * 36:
            failure = f"a convolution of ones gives {total}, not 324"
    except RuntimeError as error:
        failure = str(error).strip().splitlines()[0]
    return {
        "name": properties.name,
        "memory_bytes": properties.total_memory,
        "capability": f"{properties.major}.{properties.minor}",
        "failure": failure,
    }


def _sees_nvidia(pci: Path) -> bool | None:
    """Return whether the machine has a GPU of NVIDIA; None where this cannot be known."""
    if not pci.is_dir():
        return None
    return any(
        _line(device / "vendor") == NVIDIA_VENDOR
        and _line(device / "class").startswith(DISPLAY_CLASS)
        for device in pci.iterdir()
    )


def _line(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


if __name__ == "__main__":
    sys.exit(main())
