"""The arithmetic of convolutions in training: what each device computes fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

FixedPrecision = Literal["fp32", "bf16", "fp16"]
Precision = Literal["fp32", "bf16", "fp16", "auto"]

AUTOCAST: dict[FixedPrecision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Reduced precisions; fp32 runs without autocast."""

BF16_CAPABILITY = (8, 0)
"""CUDA capability from which bf16 is computed by tensor cores (Ampere); before it is emulated."""

CPU_BF16 = ("amx_bf16", "avx512_bf16")
"""Capabilities with which a CPU multiplies bf16 natively; names of `torch.cpu.get_capabilities`."""


def choose_precision(wanted: Precision, device: torch.device) -> FixedPrecision:
    """Return what a device is to compute in.

    Parameters
    ----------
    wanted : {"fp32", "bf16", "fp16", "auto"}
        "auto" takes bf16 where the device multiplies it natively, else fp16 on CUDA and fp32
        anywhere else. The answer may differ between machines, and with it the weights.
    device : torch.device
        Where the network is.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= BF16_CAPABILITY
        return "bf16" if fast else "fp16"
    if device.type == "cpu":
        # Older releases cannot say; not knowing, fp32 is always right.
        capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        return "bf16" if any(capabilities.get(name) for name in CPU_BF16) else "fp32"
    return "fp32"
