"""Where the network runs, and the switches that keep its answers the same everywhere."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from napari_unet.errors import BackendError, ConfigError

if TYPE_CHECKING:
    from napari_unet.core.job import Precision

CPU_TILE_EDGE = 512
"""Write-box edge on a CPU, in pixels: one chunk, so that each tile is seen as soon as it is done.

It is also the fastest with the bundled model on 2 cores (docs/reference/measurements.md): smaller
tiles read more than they write, larger ones have feature maps that leave the caches.
"""

GPU_TILE_EDGE = 1024
"""Write-box edge on a GPU: a whole block, 1.4 pixels are read per pixel written at depth 4."""

AUTOCAST: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Reduced precisions; fp32 runs without autocast."""


@dataclass(frozen=True, slots=True)
class Backend:
    """A device with its settings.

    Parameters
    ----------
    device : torch.device
        Where the network runs.
    precision : {"fp32", "bf16", "fp16"}
        Arithmetic of the convolutions.
    """

    device: torch.device
    precision: Precision

    @property
    def label(self) -> str:
        """Device in words, for the user."""
        if self.device.type == "cuda":
            return f"{self.device} ({torch.cuda.get_device_name(self.device)})"
        if self.device.type == "cpu":
            return f"cpu ({torch.get_num_threads()} threads)"
        return str(self.device)

    @property
    def name(self) -> str:
        """Device without its number: GPUs of one kind have one name."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return self.device.type

    @property
    def total_memory(self) -> int:
        """Bytes of memory that the device has in all; 0 = unknown."""
        if self.device.type == "cuda":
            return int(torch.cuda.get_device_properties(self.device).total_memory)
        if self.device.type == "mps":
            return int(torch.mps.recommended_max_memory())
        try:
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (AttributeError, OSError, ValueError):
            # Windows has no sysconf.
            return 0

    @property
    def default_tile_edge(self) -> int:
        """Write-box edge when the user gives none, in pixels."""
        return default_tile_edge(self.device.type)


def default_tile_edge(device: str) -> int:
    """Return the write-box edge for a kind of device, in pixels."""
    return CPU_TILE_EDGE if device.startswith("cpu") else GPU_TILE_EDGE


def choose_backend(
    name: str, precision: Precision = "fp32", *, tf32: bool = False, threads: int | None = None
) -> Backend:
    """Return a device, with determinism switched on and TF32 off unless asked for.

    Parameters
    ----------
    name : str
        "auto", "cpu", "cuda", "cuda:1" or "mps"; "auto" takes a GPU when there is one.
    precision : {"fp32", "bf16", "fp16"}
        Arithmetic of the network.
    tf32 : bool
        Allow TF32 on NVIDIA GPUs. PyTorch allows it for convolutions by default; then the result
        differs from the CPU's by about 1e-3.
    threads : int or None
        CPU threads; None leaves PyTorch's choice.

    Raises
    ------
    BackendError
        If the device is not there.
    ConfigError
        If the precision does not exist on the device.
    """
    device = torch.device(_first_available() if name == "auto" else name)
    _require(device)
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError("--precision fp16 needs a GPU; on the CPU choose fp32 or bf16")
    if threads is not None:
        torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    # cuBLAS reads this when CUDA starts; setting it later is harmless.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return Backend(device, precision)


def _first_available() -> str:
    if torch.cuda.is_available():
        return "cuda:0"
    if torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def _require(device: torch.device) -> None:
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise BackendError(
                f"device {str(device)!r} is not there: PyTorch {torch.__version__} sees {count} "
                "CUDA devices; choose --device cpu, or install a CUDA build of PyTorch and a driver"
            )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise BackendError(
            f"device {str(device)!r} is not there: PyTorch {torch.__version__} sees no Metal GPU; "
            "choose --device cpu"
        )
