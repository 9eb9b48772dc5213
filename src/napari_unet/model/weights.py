"""Weights between a network and its file: nothing is unpickled, nothing is taken on trust."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from napari_unet.errors import ModelFileError, StorageError
from napari_unet.files import write_atomically
from napari_unet.model.file import (
    METADATA_KEY,
    ModelFile,
    parse_model_bytes,
    read_model_file,
    refuse,
)
from napari_unet.model.layers import ConvBlock
from napari_unet.model.strict_json import excerpt
from napari_unet.model.unet import UNet

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from napari_unet.core.architecture import Architecture
    from napari_unet.core.header import ModelHeader

_UPDATE_COUNTER = "num_batches_tracked"
_VARIANCE = "running_var"


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A network that is ready to run, and what its file says about it.

    Parameters
    ----------
    net : UNet
        On the CPU, in fp32, in evaluation mode.
    header : ModelHeader
        Classes, input expectations, provenance.
    sha256 : str
        Of the file, hexadecimal.
    """

    net: UNet
    header: ModelHeader
    sha256: str


@dataclass(frozen=True, slots=True)
class _Expected:
    """What a tensor must look like in a file; `dtypes` are those it may be stored in."""

    shape: tuple[int, ...]
    dtypes: tuple[str, ...]


def save_model(
    path: str | os.PathLike[str],
    state: Mapping[str, Tensor] | UNet,
    header: ModelHeader,
    *,
    half: bool = True,
) -> None:
    """Write a model file that `load_model` reads; a file of that name is replaced at once.

    Parameters
    ----------
    path : path-like
        The `.safetensors` file.
    state : UNet or mapping
        The network, its batch normalization not folded, or its ``state_dict()``.
    header : ModelHeader
        Its architecture must be that of `state`.
    half : bool
        Store the convolutions in fp16 instead of fp32. Batch normalization is always stored in
        fp32: its variances leave the range of fp16.

    Raises
    ------
    ModelFileError
        If `state` does not fit the header's architecture, or holds a number that is not finite or
        not to be stored in the wanted type. Nothing is written then.
    StorageError
        If the file cannot be written.
    """
    if isinstance(state, UNet):
        if state.architecture != header.architecture:
            refuse(
                path,
                f"the network is {state.architecture!r}, but its header says "
                f"{header.architecture!r}; make the header from the network's architecture",
            )
        state = state.state_dict()
    wanted = _expected_tensors(header.architecture)
    # How often batch statistics were updated is needed by no one: their momentum is constant.
    kept = {name: t for name, t in state.items() if name.rpartition(".")[2] != _UPDATE_COUNTER}
    _check_names_and_shapes(
        {name: tuple(t.shape) for name, t in kept.items()},
        {name: item.shape for name, item in wanted.items()},
        path,
    )
    stored = {
        name: kept[name]
        .detach()
        .to("cpu", torch.float16 if half and "F16" in item.dtypes else torch.float32, copy=True)
        .contiguous()
        for name, item in wanted.items()
    }
    _check_numbers(stored, path, remedy="train again, or save with half=False")
    data = safetensors.torch.save(stored, {METADATA_KEY: header.model_dump_json()})
    # What is written can be read: the reader's bounds hold for the writer, too.
    parse_model_bytes(data, source=str(path))
    try:
        write_atomically(path, data)
    except OSError as error:
        raise StorageError(
            f"model file {str(path)!r} cannot be written ({error}); choose another folder or free "
            "some space"
        ) from error


def load_model(
    path: str | os.PathLike[str], *, fold: bool = True, expected_sha256: str | None = None
) -> LoadedModel:
    """Return the network of a model file, in fp32 and evaluation mode.

    Parameters
    ----------
    path : path-like
        The `.safetensors` file.
    fold : bool
        Fold batch normalization into the convolutions, for inference. Give False to train on.
    expected_sha256 : str or None
        Hexadecimal hash that the file must have; None = any.

    Raises
    ------
    ModelFileError
        If the file is missing, damaged, hostile, or its tensors do not fit the architecture that
        it names. Its size in memory is not spent before its header has been found to fit.
    """
    file, data = read_model_file(path, expected_sha256=expected_sha256, check=_check_fits)
    try:
        state = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ModelFileError(
            f"model file {str(path)!r} is damaged ({error}); fetch the model again"
        ) from error
    del data
    _check_numbers(state, path, remedy="fetch the model again, or train it again")
    net = _assemble(file.header.architecture, state)
    if fold:
        _fold_norms(net)
        _check_numbers(net.state_dict(), path, remedy="train it again")
    return LoadedModel(net, file.header, file.sha256)


def _check_fits(file: ModelFile) -> None:
    wanted = _expected_tensors(file.header.architecture)
    _check_names_and_shapes(
        {name: entry.shape for name, entry in file.tensors.items()},
        {name: item.shape for name, item in wanted.items()},
        file.path,
    )
    for name, item in wanted.items():
        dtype = file.tensors[name].dtype
        if dtype not in item.dtypes:
            refuse(
                file.path,
                f"tensor {name!r} has the type {dtype}, not {' or '.join(item.dtypes)}; "
                "use a model saved by napari-unet",
            )


def _check_names_and_shapes(
    found: Mapping[str, tuple[int, ...]],
    wanted: Mapping[str, tuple[int, ...]],
    path: str | os.PathLike[str],
) -> None:
    remedy = "the header must name the architecture of these very tensors, not folded"
    missing = sorted(wanted.keys() - found.keys())
    extra = sorted(found.keys() - wanted.keys())
    if missing:
        refuse(path, f"it lacks {len(missing)} tensors, the first is {missing[0]!r}; {remedy}")
    if extra:
        refuse(path, f"{len(extra)} tensors too many, the first is {excerpt(extra[0])}; {remedy}")
    for name, shape in wanted.items():
        if found[name] != shape:
            refuse(path, f"tensor {name!r} has the shape {found[name]}, not {shape}; {remedy}")


def _check_numbers(
    state: Mapping[str, Tensor], path: str | os.PathLike[str], *, remedy: str
) -> None:
    for name, tensor in state.items():
        finite = torch.isfinite(tensor)
        if not bool(finite.all()):
            refuse(
                path,
                f"tensor {name!r} has {int((~finite).sum()):,} values of {tensor.numel():,} that "
                f"are NaN or infinite in {str(tensor.dtype).removeprefix('torch.')}; {remedy}",
            )
        if name.rpartition(".")[2] == _VARIANCE and bool((tensor < 0).any()):
            refuse(path, f"tensor {name!r} has negative values, which no variance has; {remedy}")


def _expected_tensors(architecture: Architecture) -> dict[str, _Expected]:
    """Return every tensor that a file of this architecture holds; no memory is taken for them."""
    net = _empty_net(architecture)
    norms = {name for name, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)}
    expected = {}
    for name, tensor in net.state_dict().items():
        owner, _, kind = name.rpartition(".")
        if kind != _UPDATE_COUNTER:
            dtypes = ("F32",) if owner in norms else ("F16", "F32")
            expected[name] = _Expected(tuple(tensor.shape), dtypes)
    return expected


def _empty_net(architecture: Architecture) -> UNet:
    # Tensors on the meta device have a shape and no storage.
    with torch.device("meta"):
        return UNet(**architecture.arguments())


def _assemble(architecture: Architecture, state: dict[str, Tensor]) -> UNet:
    """Return a network that holds the tensors of `state`, which must fit it."""
    net = _empty_net(architecture)
    tensors = {name: tensor.float() for name, tensor in state.items()}
    for name in net.state_dict():
        if name.rpartition(".")[2] == _UPDATE_COUNTER:
            tensors[name] = torch.zeros((), dtype=torch.int64)
    net.load_state_dict(tensors, strict=True, assign=True)
    return net.eval()


def _fold_norms(net: UNet) -> None:
    """Fold every batch normalization, computed in fp64 and rounded once."""
    for block in [module for module in net.modules() if isinstance(module, ConvBlock)]:
        block.double()
        block.fold_norm()
        block.float()
