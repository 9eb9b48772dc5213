"""What a bioimage.io package says about a model: the text of its ``rdf.yaml`` and README.

The names are those of the model description 0.5 [1]_.

References
----------
.. [1] https://bioimage-io.github.io/spec-bioimage-io/
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_unet.core.header import ModelHeader

FORMAT_VERSION = "0.5.12"
"""Version of the model description that is written: the newest that our tests can validate."""

INPUT_ID = "image"
"""Name of the input in a package."""

OUTPUT_ID = "probabilities"
"""Name of the output in a package."""

EPSILON = 1e-6
"""Added to the standard deviation, as the description's default."""

LICENSES = frozenset(
    {
        *("CC0-1.0", "CC-BY-3.0", "CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0"),
        *("BSD-2-Clause", "BSD-3-Clause", "MIT", "Apache-2.0", "GPL-3.0-only", "GPL-3.0-or-later"),
    }
)
"""License names of SPDX that are passed on as such; any other text becomes a license file."""

_UNITS = frozenset(
    {
        *("angstrom", "picometer", "nanometer", "micrometer", "millimeter", "centimeter"),
        *("decimeter", "meter", "kilometer", "inch", "foot"),
    }
)
_PAPER = {
    "text": "O. Ronneberger, P. Fischer, T. Brox: U-Net: Convolutional Networks for Biomedical "
    "Image Segmentation. MICCAI 2015.",
    "doi": "10.1007/978-3-319-24574-4_28",
}
_MAX_DESCRIPTION = 512
_MAX_EDGE = 2**15


@dataclass(frozen=True, slots=True)
class PackageFacts:
    """What the description of a package needs beside the model's header.

    Parameters
    ----------
    files : mapping
        File name -> SHA-256 of each file in the package but the description.
    sha256 : str
        Of the model file.
    parameters : int
        Numbers in the network.
    pytorch_version : str
        Such as "2.13.0".
    authors : tuple of str
        Who made the model; may be empty.
    """

    files: Mapping[str, str]
    sha256: str
    parameters: int
    pytorch_version: str
    authors: tuple[str, ...] = ()


def package_description(header: ModelHeader, facts: PackageFacts) -> dict[str, Any]:
    """Return the content of ``rdf.yaml`` as plain data."""
    description = {
        "format_version": FORMAT_VERSION,
        "type": "model",
        "name": f"{re.sub(r'[^A-Za-z0-9_+() -]', '-', header.name)} U-Net",
        "description": _short(header.description or f"the U-Net {header.name}"),
        "authors": [{"name": name} for name in facts.authors],
        "cite": [_PAPER],
        "documentation": _file("README.md", facts),
        "tags": ["2d", "unet", "pytorch", "semantic-segmentation", "segmentation"],
        "timestamp": _timestamp(header.provenance.created),
        "inputs": [_input(header, facts)],
        "outputs": [_output(header, facts)],
        "weights": {"pytorch_state_dict": _weights(header, facts)},
        "config": _config(header, facts),
    }
    if "LICENSE.txt" in facts.files:
        description["license"] = _file("LICENSE.txt", facts)
    elif header.license in LICENSES:
        description["license"] = header.license
    return description


def package_readme(header: ModelHeader) -> str:
    """Return the package's README: classes, input, data with attribution, scores, license."""
    made = header.provenance
    size = " x ".join(f"{v:g}" for v in header.input.voxel_size or ())
    scores = "\n".join(f"- {key}: {value:.4f}" for key, value in made.scores.items())
    return f"""# {header.name}

{header.description}

- classes: {", ".join(f"{k} = {c.name}" for k, c in header.labels().items())}
- input: {_channels(header)}
- pixel size in training: {f"{size} {header.input.unit or ''}".strip() or "unknown"}
- {_edges(header)}
- intensities: zero mean and unit standard deviation; napari-unet takes them over the whole
  volume, this package over each image that it is given
- output: the probability of each class

## Data and attribution

{made.data or "not stated"}

## Validation

{made.score_conditions or "No scores are stored with this model."}

{scores}

To validate on your own images, label some of them and compare with the most probable class.

## License

{header.license or "not stated; ask who made the model"}

The source file of the network, unet.py, is under the BSD 3-Clause license, which it contains.
The test input is smoothed noise: it shows that numbers are reproduced, not what the model is for.
"""


def _channels(header: ModelHeader) -> str:
    """Say what the channels are; a package cannot say that they are slices of a stack."""
    names, context = ", ".join(header.input.network_channels()), header.input.context
    if not context:
        return names
    return (
        f"{names}: each slice of a stack with the {context} before (z-) and the {context} after it "
        "(z+) as channels, mirrored at the ends of the stack. Put these channels together before "
        "you run this package, one image per slice; napari-unet does so itself"
    )


def _edges(header: ModelHeader) -> str:
    halo = package_halo(header)
    if header.architecture.padding == "valid":
        return (
            f"convolutions are valid: the answer is {halo} pixels smaller than the image on each "
            "side, so mirror the image by as much"
        )
    return f"convolutions pad with zeros: the outer {halo} pixels of the answer are to be cut off"


def package_halo(header: ModelHeader) -> int:
    """Return how many pixels the answer loses on each side, or is to lose.

    Readers add as much around the image of a network that pads with zeros. So for such a network
    it is a multiple of the stride, or the poolings would see other pixels than without.
    """
    axis = header.architecture.geometry().axes[-1]
    return axis.halo + (-axis.halo % axis.stride if axis.padding == "same" else 0)


def smallest_edge(header: ModelHeader, output: int = 1) -> int:
    """Return the smallest edge of an image that leaves `output` pixels of the answer."""
    axis = header.architecture.geometry().axes[-1]
    return axis.input_size(output + 2 * (package_halo(header) - axis.halo))


def _input(header: ModelHeader, facts: PackageFacts) -> dict[str, Any]:
    stride = header.architecture.geometry().stride[-1]
    size = {"min": smallest_edge(header), "step": stride}
    return {
        "id": INPUT_ID,
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": list(header.input.network_channels())},
            *({"type": "space", "id": i, "size": size, **_scale(header, i)} for i in "yx"),
        ],
        "data": {"type": "float32"},
        "test_tensor": _file("test_input.npy", facts),
        "preprocessing": [
            {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["y", "x"], "eps": EPSILON}}
        ],
    }


def _output(header: ModelHeader, facts: PackageFacts) -> dict[str, Any]:
    """Describe the output: a valid network has lost its halo, one with padding is to be cropped."""
    halo = package_halo(header)
    axes: list[dict[str, Any]] = [
        {"type": "batch"},
        {"type": "channel", "channel_names": [item.name for item in header.classes]},
    ]
    for i in "yx":
        size: dict[str, Any] = {"tensor_id": INPUT_ID, "axis_id": i}
        axis = {"type": "space", "id": i, "size": size, **_scale(header, i)}
        if header.architecture.padding == "valid":
            size["offset"] = -2 * halo
        else:
            axis["halo"] = halo
        axes.append(axis)
    return {
        "id": OUTPUT_ID,
        "axes": axes,
        "data": {"type": "float32", "range": [0.0, 1.0]},
        "test_tensor": _file("test_output.npy", facts),
    }


def _weights(header: ModelHeader, facts: PackageFacts) -> dict[str, Any]:
    return {
        **_file("weights.pt", facts),
        "pytorch_version": facts.pytorch_version,
        "architecture": {
            **_file("unet.py", facts),
            "callable": "StandaloneUNet",
            "kwargs": header.architecture.arguments(),
        },
    }


def _config(header: ModelHeader, facts: PackageFacts) -> dict[str, Any]:
    return {
        "bioimageio": {
            "architecture_type": "2D U-Net",
            "task": "semantic segmentation",
            "target_structure": [item.name for item in header.classes],
            "model_parameter_count": facts.parameters,
        },
        "napari_unet": {"sha256": facts.sha256, "header": header.summary()},
    }


def _scale(header: ModelHeader, axis: str) -> dict[str, Any]:
    """Return the pixel size of an axis, where readers of the description compute right with it."""
    given = header.input.voxel_size
    if given is None or header.input.unit not in _UNITS:
        return {}
    scale = given["yx".index(axis)]
    # They multiply and divide sizes by it and round down: 29 * 0.1 / 0.1 is below 29 for some.
    if any(int(n * scale / scale) != n or n * scale / scale != n for n in range(_MAX_EDGE)):
        return {}
    return {"scale": scale, "unit": header.input.unit}


def _file(name: str, facts: PackageFacts) -> dict[str, str]:
    return {"source": name, "sha256": facts.files[name]}


def _short(text: str) -> str:
    return text if len(text) <= _MAX_DESCRIPTION else text[: _MAX_DESCRIPTION - 3] + "..."


def _timestamp(created: str) -> str:
    """Return when the model was made, as ISO 8601; now, if it does not say."""
    try:
        moment = datetime.datetime.fromisoformat(created)
    except ValueError:
        moment = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return moment.isoformat()
