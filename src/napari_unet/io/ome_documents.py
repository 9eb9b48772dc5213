"""The JSON of OME-Zarr groups, for the versions that we write.

References
----------
.. [1] https://ngff.openmicroscopy.org/0.5 and /0.4 : multiscales, labels, image-label, omero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_unet.core.classes import FIRST_CLASS
from napari_unet.files import read_json, write_json_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_unet.core.arrays import PyramidLevel
    from napari_unet.io.output_spec import OutputSpec

OURS = "napari_unet"
"""Attribute under which everything of ours is kept, in groups that we made and in no other."""


def write_group(path: Path, attributes: Mapping[str, Any], zarr_format: int) -> None:
    """Make a folder a zarr group with these attributes, all of them or none.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    path.mkdir(parents=True, exist_ok=True)
    if zarr_format == 3:
        document = {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}
        write_json_atomically(path / "zarr.json", document)
        return
    # Attributes first: a folder becomes a group of ours only when .zgroup is there.
    write_json_atomically(path / ".zattrs", dict(attributes))
    # And once only: new attributes alone are one step, which a crash cannot cut in two.
    if not (path / ".zgroup").is_file():
        write_json_atomically(path / ".zgroup", {"zarr_format": 2})


def read_group(path: Path) -> tuple[int, dict[str, Any]] | None:
    """Return the zarr version and attributes of a group; None if the folder is no group.

    Raises
    ------
    OSError, ValueError
        If its metadata cannot be read.
    """
    if (path / "zarr.json").is_file():
        document = read_json(path / "zarr.json")
        if not isinstance(document, dict) or document.get("node_type") != "group":
            return None
        return 3, _mapping(document.get("attributes"))
    if (path / ".zgroup").is_file():
        attributes = path / ".zattrs"
        return 2, _mapping(read_json(attributes)) if attributes.is_file() else {}
    return None


def labels_attributes(spec: OutputSpec, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of the group ``labels/NAME``."""
    numbered = list(enumerate(spec.classes, FIRST_CLASS))
    # Objects have no colors of their own: there may be millions, and viewers choose them.
    label: dict[str, Any] = {}
    if numbered:
        label = {
            "colors": [
                {"label-value": value, "rgba": [*bytes.fromhex(item.color[1:]), 255]}
                for value, item in numbered
            ],
            "properties": [{"label-value": value, "name": item.name} for value, item in numbered],
        }
    if spec.ome_version == "0.4":
        label = {"version": "0.4", **label}
    # No image-label.source: it is a relative path inside one zarr, and OUT stands alone.
    return _versioned(
        spec,
        {"multiscales": [_multiscale(spec, channels=False)], "image-label": label},
        state,
    )


def probabilities_attributes(spec: OutputSpec, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of the group ``probabilities/NAME``."""
    window = {"min": 0.0, "max": 1.0, "start": 0.0, "end": 1.0}
    channels = [
        {"label": item.name, "color": item.color[1:].upper(), "active": True, "window": window}
        for item in spec.classes
    ]
    return _versioned(
        spec,
        {"multiscales": [_multiscale(spec, channels=True)], "omero": {"channels": channels}},
        state,
    )


def label_names(attributes: Mapping[str, Any]) -> list[str]:
    """Return the label images that a ``labels`` group lists."""
    holder = _mapping(attributes.get("ome", attributes))
    names = holder.get("labels")
    return [n for n in names if isinstance(n, str)] if isinstance(names, list) else []


def with_label_names(
    attributes: Mapping[str, Any], names: list[str], ome_version: str
) -> dict[str, Any]:
    """Return the attributes of a ``labels`` group with another list of label images."""
    if ome_version == "0.4":
        return {**attributes, "labels": names}
    ome = {"version": ome_version, **_mapping(attributes.get("ome")), "labels": names}
    return {**attributes, "ome": ome}


def _versioned(spec: OutputSpec, ome: dict[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    if spec.ome_version == "0.4":
        return {**ome, OURS: dict(state)}
    return {"ome": {"version": spec.ome_version, **ome}, OURS: dict(state)}


def _multiscale(spec: OutputSpec, *, channels: bool) -> dict[str, Any]:
    unit = spec.levels[0].voxel_size.unit
    axes: list[dict[str, str]] = [{"name": "c", "type": "channel"}] if channels else []
    for letter in spec.spatial_axes:
        axis = {"name": letter, "type": "space"}
        axes.append({**axis, "unit": unit} if unit else axis)
    multiscale: dict[str, Any] = {
        "name": spec.name,
        "axes": axes,
        "datasets": [
            {"path": str(k), "coordinateTransformations": _transforms(spec, level, channels)}
            for k, level in enumerate(spec.levels)
        ],
        "type": "mean" if channels else "nearest",
    }
    return {"version": "0.4", **multiscale} if spec.ome_version == "0.4" else multiscale


def _transforms(spec: OutputSpec, level: PyramidLevel, channels: bool) -> list[dict[str, Any]]:
    ndim = len(spec.spatial_axes)
    scale = [1.0] * channels + list(level.voxel_size.zyx[-ndim:])
    shift = [0.0] * channels + list(level.translation[-ndim:])
    return [
        {"type": "scale", "scale": [float(v) for v in scale]},
        {"type": "translation", "translation": [float(v) for v in shift]},
    ]


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}
