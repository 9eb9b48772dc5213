"""The process that opens a foreign state dict, so that no harm of it reaches ours.

Run as ``python -m napari_unet.model.state_dict_worker SOURCE TARGET``, with the `ModelHeader` as
JSON on standard input. Memory and time are bounded before the file is opened; PyTorch reads it
with ``weights_only=True``, which runs no code of the file; and what comes out must be tensors of
exactly the network that the header names. The model file TARGET is then whole, or not there.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from napari_unet.core.header import ModelHeader
from napari_unet.errors import ModelFileError, UNetError
from napari_unet.model.file import MAX_PARAMETERS, MAX_TENSORS, refuse
from napari_unet.model.state_dict_archive import REMEDY, check_archive
from napari_unet.model.strict_json import excerpt, parse_strict_json
from napari_unet.model.weights import save_model

if TYPE_CHECKING:
    from typing import Any

REFUSED = 3
"""Exit code of a file that was refused; the reason is on standard error."""

NO_MEMORY = 4
"""Exit code of a file that needed more memory than it may."""

MEMORY_FACTOR = 6
"""Memory allowed, in sizes of the file: itself, its tensors, those in fp32, the model file."""

MEMORY_BASE = 2**29
"""Memory allowed beside that, in bytes."""

CPU_SECONDS = 120
"""Processor time allowed."""

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def main() -> int:
    """Convert the file named on the command line; return the exit code."""
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    header = ModelHeader.parse(parse_strict_json(sys.stdin.read()), source="header")
    try:
        limit_resources(source.stat().st_size)
        save_model(target, read_state_dict(source), header, half=False)
    except UNetError as error:
        sys.stderr.write(str(error))
        return REFUSED
    except MemoryError:
        return NO_MEMORY
    return 0


def limit_resources(file_bytes: int) -> None:
    """Bound this process's memory and processor time, where the system offers that.

    Parameters
    ----------
    file_bytes : int
        Size of the file that is to be opened; the bounds grow with it.
    """
    torch.set_num_threads(1)
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    statm = Path("/proc/self/statm")
    if statm.exists():
        used = int(statm.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        limit = used + MEMORY_FACTOR * file_bytes + MEMORY_BASE
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file that `torch.save` wrote from a state dict.

    Raises
    ------
    ModelFileError
        If the file is anything else, or holds anything else.
    MemoryError
        If it needs more memory than this process may take.
    """
    data = path.read_bytes()
    check_archive(data, path)
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    # What a hostile pickle raises can be anything; PyTorch's own text advises to run its code.
    except Exception as error:
        if "allocate" in str(error):
            raise MemoryError from error
        problem = (
            f"it holds something other than tensors, or is damaged; it was not opened; {REMEDY}"
        )
        raise ModelFileError(f"model file {str(path)!r}: {problem}") from error
    return _check_state(state, path)


def _check_state(state: Any, path: Path) -> dict[str, Tensor]:
    """Return the content of a file if it is names and dense tensors, each with its own numbers."""
    if not isinstance(state, dict):
        refuse(path, f"it holds a {type(state).__name__}, not a dictionary of tensors; {REMEDY}")
    if len(state) > MAX_TENSORS:
        refuse(path, f"it holds {len(state):,} tensors; at most {MAX_TENSORS:,} may be")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            refuse(
                path,
                f"its entry {excerpt(name)} is a {type(tensor).__name__}, not a tensor; it may be "
                f"a checkpoint that holds the weights besides other things; {REMEDY}",
            )
        _check_tensor(name, tensor, path)
    total = sum(tensor.numel() for tensor in state.values())
    if total > MAX_PARAMETERS:
        refuse(path, f"it holds {total:,} numbers; at most {MAX_PARAMETERS:,} may be")
    return dict(state)


def _check_tensor(name: str, tensor: Tensor, path: Path) -> None:
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        refuse(path, f"tensor {excerpt(name)} is not dense; {REMEDY}")
    if tensor.dtype not in (*_FLOATS, torch.int64):
        refuse(path, f"tensor {excerpt(name)} holds {tensor.dtype}; floating point is needed")
    # A few numbers in a file can be spread over a tensor of any size by strides of 0.
    if (
        not tensor.is_contiguous()
        or tensor.untyped_storage().nbytes() != tensor.numel() * tensor.itemsize
    ):
        refuse(
            path,
            f"tensor {excerpt(name)} of shape {tuple(tensor.shape)} is a part or a repetition of "
            f"{tensor.untyped_storage().nbytes():,} bytes; clone it and {REMEDY}",
        )


if __name__ == "__main__":
    raise SystemExit(main())
