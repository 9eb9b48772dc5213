"""Models as packages of the BioImage Model Zoo, which other programs run without ours.

::

    rdf.yaml           the description, which readers begin with
    README.md          the model card
    LICENSE.txt        the license, where it has no SPDX name
    unet.py            the network: one file that needs PyTorch only
    weights.pt         its weights: a state dict, fp32
    test_input.npy     an image, and ...
    test_output.npy    ... what the network answers, for readers to check themselves with
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import yaml
from scipy.ndimage import gaussian_filter

from napari_unet.model import standalone
from napari_unet.model.bioimageio_description import (
    EPSILON,
    LICENSES,
    PackageFacts,
    package_description,
    package_readme,
    smallest_edge,
)
from napari_unet.model.bioimageio_import import DESCRIPTION_NAME, WEIGHTS_NAME

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_unet.core.header import ModelHeader
    from napari_unet.model.unet import UNet
    from napari_unet.model.weights import LoadedModel

_SEED = 20150518
_TEST_OUTPUT = 32
_FIXED_DATE = (1980, 1, 1, 0, 0, 0)


def bioimageio_package(model: LoadedModel, *, authors: tuple[str, ...] = ()) -> bytes:
    """Return a bioimage.io package of a model, as the bytes of a zip archive.

    The same model gives the same bytes, with the same version of PyTorch on the same machine.

    Parameters
    ----------
    model : LoadedModel
        Loaded with ``fold=False``.
    authors : tuple of str
        Who made the model.
    """
    image = _test_image(model.header)
    files = {
        "README.md": package_readme(model.header).encode(),
        "unet.py": Path(standalone.__file__).read_bytes(),
        WEIGHTS_NAME: _state_bytes(model.net),
        "test_input.npy": _npy_bytes(image),
        "test_output.npy": _npy_bytes(_answer(model.net, image)),
    }
    if model.header.license and model.header.license not in LICENSES:
        files["LICENSE.txt"] = f"{model.header.license}\n".encode()
    facts = PackageFacts(
        files={name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        sha256=model.sha256,
        parameters=sum(parameter.numel() for parameter in model.net.parameters()),
        pytorch_version=torch.__version__.partition("+")[0],
        authors=authors,
    )
    description = package_description(model.header, facts)
    text = yaml.safe_dump(description, sort_keys=False, allow_unicode=True, width=100)
    return _zip_bytes({DESCRIPTION_NAME: text.encode(), **files})


def _test_image(header: ModelHeader) -> npt.NDArray[np.float32]:
    """Return smoothed noise (1, c, y, x) of a small legal size, with values from 0 to 255."""
    edge = smallest_edge(header, _TEST_OUTPUT)
    stride = header.architecture.geometry().stride[-1]
    # Different edges, so that a mix-up of the axes does not go unnoticed.
    shape = (1, header.architecture.in_channels, edge, edge + stride)
    noise = np.random.default_rng(_SEED).random(shape)
    smooth = gaussian_filter(noise, sigma=(0, 0, 2, 2), mode="wrap")
    low, high = smooth.min(), smooth.max()
    result: npt.NDArray[np.float32] = np.round(255 * (smooth - low) / (high - low)).astype(
        np.float32
    )
    return result


def _answer(net: UNet, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    mean = image.mean(axis=(-2, -1), keepdims=True, dtype=np.float64)
    deviation = image.std(axis=(-2, -1), keepdims=True, dtype=np.float64)
    values = ((image - mean) / (deviation + EPSILON)).astype(np.float32)
    with torch.inference_mode():
        answer = torch.softmax(net(torch.from_numpy(values)), 1)
    result: npt.NDArray[np.float32] = np.asarray(answer.numpy(), np.float32)
    return result


def _state_bytes(net: UNet) -> bytes:
    stream = io.BytesIO()
    torch.save(net.state_dict(), stream)
    return stream.getvalue()


def _npy_bytes(array: npt.NDArray[np.float32]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _zip_bytes(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            # The date is fixed, so that the same content gives the same bytes.
            info = zipfile.ZipInfo(name, _FIXED_DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)
    return stream.getvalue()
