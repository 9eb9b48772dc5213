"""Models as ONNX, for programs that run networks without PyTorch."""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from napari_unet.errors import BackendError, ConfigError
from napari_unet.model.bioimageio_description import package_halo, smallest_edge
from napari_unet.model.standalone import StandaloneUNet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.core.header import ModelHeader
    from napari_unet.model.unet import UNet
    from napari_unet.model.weights import LoadedModel

INPUT_NAME = "image"
"""Name of the input in an ONNX file: (batch, channel, height, width), standardized."""

OUTPUT_NAME = "probabilities"
"""Name of the output in an ONNX file: (batch, class, height, width)."""

MAX_BYTES = 2**31 - 2**20
"""An ONNX file is one protocol buffer, which holds less than 2 GiB."""

_PACKAGES = ("onnx", "onnxscript")


def standalone_net(net: UNet) -> StandaloneUNet:
    """Return the network that travels with exported models, with the weights of `net`.

    Parameters
    ----------
    net : UNet
        Batch normalization not folded.

    Returns
    -------
    StandaloneUNet
        In evaluation mode; its answer is the softmax of `net`'s.
    """
    copy = StandaloneUNet(**net.architecture.arguments())
    copy.load_state_dict(net.state_dict())
    return copy.eval()


def onnx_bytes(model: LoadedModel) -> bytes:
    """Return an ONNX file of a model, which takes any number of images of any legal size.

    Its input is one standardized image per batch item, its output the probabilities. The file's
    metadata has the classes, the legal edges, the voxel size and the license.

    Parameters
    ----------
    model : LoadedModel
        Loaded with ``fold=False``.

    Raises
    ------
    BackendError
        If the packages of the extra `exchange` are missing.
    ConfigError
        If the model is too large for one ONNX file.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise BackendError(
            f"an export as ONNX needs {' and '.join(missing)}; "
            'install them with pip install "napari-unet[exchange]"'
        )
    size = sum(t.numel() * t.element_size() for t in model.net.state_dict().values())
    if size > MAX_BYTES:
        raise ConfigError(
            f"model {model.header.name!r} has {size:,} bytes of weights, more than the "
            f"{MAX_BYTES:,} that one ONNX file holds; export it as bioimageio or safetensors"
        )
    return _export(standalone_net(model.net), model)


def _export(net: StandaloneUNet, model: LoadedModel) -> bytes:
    import onnx

    axis = model.net.architecture.geometry().axes[-1]
    edge = axis.input_size(axis.stride)
    # Different edges, and more than one image: what is equal here could be taken for constant.
    image = torch.zeros(2, model.net.architecture.in_channels, edge, edge + axis.stride)
    any_size = torch.export.Dim.DYNAMIC
    with _quiet():
        program = torch.onnx.export(
            net,
            (image,),
            dynamo=True,
            dynamic_shapes=({0: any_size, 2: any_size, 3: any_size},),
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            verbose=False,
        )
    if program is None:
        raise BackendError("PyTorch returned no ONNX program; please report its version")
    proto = program.model_proto
    onnx.helper.set_model_props(proto, _properties(model.header, model.sha256))
    onnx.checker.check_model(proto)
    data: bytes = proto.SerializeToString()
    return data


def _properties(header: ModelHeader, sha256: str) -> dict[str, str]:
    edges = {
        "smallest": smallest_edge(header),
        "step": header.architecture.geometry().stride[-1],
        "halo": package_halo(header),
    }
    return {
        "name": header.name,
        "description": header.description,
        "classes": json.dumps({k: item.name for k, item in header.labels().items()}),
        "channels": json.dumps(header.input.network_channels()),
        "voxel_size": json.dumps([header.input.voxel_size, header.input.unit]),
        "edges": json.dumps(edges),
        "preprocessing": "zero mean and unit standard deviation per channel, over the whole image",
        "data": header.provenance.data,
        "license": header.license,
        "napari_unet_sha256": sha256,
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what the exporter says about its own insides and about torchvision."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    levels = [(item, item.level) for item in (*loggers, registration)]
    try:
        for item, _ in levels:
            item.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        for item, level in levels:
            item.setLevel(level)
