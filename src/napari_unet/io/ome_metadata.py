"""Reading OME-Zarr's multiscale metadata: 0.1 to 0.5, and the plain part of later versions.

References
----------
.. [1] https://ngff.openmicroscopy.org/0.5 : axes, multiscales, coordinateTransformations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_unet.core.axes import AXIS_NAMES, VoxelSize
from napari_unet.errors import InputError
from napari_unet.io.damage import describe
from napari_unet.io.units import common_unit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_LEVELS = 64
"""Resolutions of an image; each halves it, and no image has 2 to the power of 64 voxels."""

_MISREADINGS = (
    *(ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError),
)
_REMEDY = "correct the metadata, or give the path of one of its arrays with --axes"


@dataclass(frozen=True, slots=True)
class Dataset:
    """One resolution of a multiscale image.

    Parameters
    ----------
    path : str
        Of its array, relative to the group.
    scale, translation : tuple of float
        World length of a voxel and world position of the first voxel, per axis of the array.
    """

    path: str
    scale: tuple[float, ...]
    translation: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Multiscale:
    """What the metadata of a multiscale group say.

    Parameters
    ----------
    axes : str
        Letters of "tczyx", in the order of the arrays' axes.
    units : tuple of (str or None)
        Unit of each axis.
    datasets : tuple of Dataset
        From fine to coarse.
    """

    axes: str
    units: tuple[str | None, ...]
    datasets: tuple[Dataset, ...]

    def voxel_size(self, dataset: Dataset) -> VoxelSize:
        """Return the voxel size of a dataset in one unit; raises `AxesError` if it is absurd."""
        unit, factors = self._spatial_unit()
        z, y, x = (
            length * factor
            for length, factor in zip(self._spatial(dataset.scale, 1.0), factors, strict=True)
        )
        return VoxelSize(z, y, x, unit)

    def translation(self, dataset: Dataset) -> tuple[float, float, float]:
        """Return the position (z, y, x) of a dataset's first voxel, in the voxel size's unit."""
        _, factors = self._spatial_unit()
        z, y, x = (
            value * factor
            for value, factor in zip(self._spatial(dataset.translation, 0.0), factors, strict=True)
        )
        return (z, y, x)

    def _spatial(self, values: Sequence[Any], missing: Any) -> list[Any]:
        at = dict(zip(self.axes, values, strict=True))
        return [at.get(axis, missing) for axis in "zyx"]

    def _spatial_unit(self) -> tuple[str | None, tuple[float, float, float]]:
        units = self._spatial(self.units, None)
        if "z" not in self.axes:
            units[0] = units[1]
        return common_unit(units[0], units[1], units[2])


def ome_attributes(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the OME part of a group's attributes: under "ome" since 0.5, at the top before."""
    ome = attributes.get("ome")
    return ome if isinstance(ome, dict) else attributes


def parse_multiscale(attributes: Mapping[str, Any], what: str) -> Multiscale | None:
    """Return the first multiscale image of a group; None if the group is no image.

    Parameters
    ----------
    attributes : mapping
        All attributes of the group.
    what : str
        The group, for messages.

    Raises
    ------
    InputError
        If the metadata are there and contradict themselves.
    """
    multiscales = ome_attributes(attributes).get("multiscales")
    if not multiscales:
        return None
    try:
        first = multiscales[0]
        axes, units = _parse_axes(first)
        shared = _transforms(first.get("coordinateTransformations"), len(axes))
        if len(first["datasets"]) > MAX_LEVELS:
            raise ValueError(f"{len(first['datasets'])} datasets")
        datasets = tuple(_parse_dataset(entry, len(axes), shared) for entry in first["datasets"])
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as e:
        raise InputError(
            f"{what}: the OME-Zarr metadata 'multiscales' cannot be understood ({describe(e)}); "
            f"{_REMEDY}"
        ) from e
    if not datasets:
        raise InputError(f"{what}: the OME-Zarr metadata name no dataset; {_REMEDY}")
    return Multiscale(axes, units, datasets)


def _parse_axes(multiscale: Mapping[str, Any]) -> tuple[str, tuple[str | None, ...]]:
    entries = multiscale.get("axes")
    if entries is None and multiscale.get("coordinateSystems"):
        entries = multiscale["coordinateSystems"][0]["axes"]
    if entries is None:
        return AXIS_NAMES, (None,) * len(AXIS_NAMES)  # 0.1 and 0.2: always five axes
    entries = [{"name": e} if isinstance(e, str) else e for e in entries]
    names = [str(entry["name"]).lower() for entry in entries]
    if not all(name in AXIS_NAMES and len(name) == 1 for name in names):
        names = _names_by_type(entries)
    if len(set(names)) != len(names) or not {"y", "x"} <= set(names):
        raise ValueError(f"axes {[entry['name'] for entry in entries]}")
    units = tuple(entry.get("unit") for entry in entries)
    return "".join(names), tuple(u if isinstance(u, str) else None for u in units)


def _names_by_type(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return our letters for axes of other names; space axes come in the order z, y, x."""
    space = sum(entry.get("type") == "space" for entry in entries)
    if not 2 <= space <= 3:
        raise ValueError(f"axes {[entry['name'] for entry in entries]}")
    letters = iter("zyx"[3 - space :])
    names = {"time": "t", "channel": "c"}
    return [
        next(letters) if entry.get("type") == "space" else names[str(entry.get("type"))]
        for entry in entries
    ]


def _parse_dataset(
    entry: Mapping[str, Any], ndim: int, shared: tuple[list[float], list[float]]
) -> Dataset:
    scale, shift = _transforms(entry.get("coordinateTransformations"), ndim)
    # The multiscale's own transformations apply after the dataset's (specification 0.4 and 0.5).
    total = tuple(a * b for a, b in zip(scale, shared[0], strict=True))
    moved = tuple(a * b + c for a, b, c in zip(shift, shared[0], shared[1], strict=True))
    return Dataset(str(entry["path"]), total, moved)


def _transforms(entries: Any, ndim: int) -> tuple[list[float], list[float]]:
    """Return the scale and then translation that a list of transformations amounts to."""
    scale, shift = [1.0] * ndim, [0.0] * ndim
    for entry in entries or ():
        kind = entry.get("type")
        if kind == "sequence":
            inner, moved = _transforms(entry["transformations"], ndim)
        elif kind == "scale":
            inner, moved = [float(v) for v in entry["scale"]], [0.0] * ndim
        elif kind == "translation":
            inner, moved = [1.0] * ndim, [float(v) for v in entry["translation"]]
        elif kind == "identity":
            continue
        else:
            raise ValueError(f"coordinate transformation {kind!r}")
        scale = [a * b for a, b in zip(scale, inner, strict=True)]
        shift = [a * b + c for a, b, c in zip(shift, inner, moved, strict=True)]
    return scale, shift
