"""An object job, resolved against the segmentation that it names."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.core.boxes import Box, format_region, parse_region
from napari_unet.core.classes import FIRST_CLASS
from napari_unet.core.object_method import ObjectDefaults, suited_method
from napari_unet.core.objects_job import MIN_SIZE_PATTERN
from napari_unet.core.watershed_options import LinkOptions, WatershedOptions
from napari_unet.errors import ConfigError, InputError
from napari_unet.io.label_output import find_labels
from napari_unet.io.units import METERS, unit_name
from napari_unet.labels.block_grid import BlockGrid
from napari_unet.labels.interior_instances import MIN_PIXELS

if TYPE_CHECKING:
    from napari_unet.core.arrays import PyramidLevel
    from napari_unet.core.axes import VoxelSize
    from napari_unet.core.boxes import Shape
    from napari_unet.core.object_method import Dimension, ObjectMethod
    from napari_unet.core.objects_job import ObjectsJob
    from napari_unet.io.label_output import StoredLabels

NAME_SUFFIX = "-objects"
"""Follows the name of the classes in that of their objects."""

VOLUME_MARGIN = 16
"""Voxels around a block of a volume that its watershed sees too, where there are any."""

MAX_THICKNESS = 2.0
"""Length of a voxel along z over that along x up to which a stack is flooded as a volume.

On cubic voxels the volume was better than linked slices (docs/reference/object-methods.md); in
thick sections hardly any distance within an object is left to measure along z.
"""


@dataclass(frozen=True, slots=True)
class ObjectsPlan:
    """What an object job will do.

    Parameters
    ----------
    job : ObjectsJob
        What the user asked for, with an absolute path.
    stored : StoredLabels
        The segmentation.
    name : str
        Name of the label image of objects.
    rules : ObjectDefaults
        Method, classes, dimension and watershed, all settled.
    dimension : {"2d", "linked", "3d"}
        How slices hang together.
    link : LinkOptions
        When objects of neighboring slices are one.
    min_voxels : int
        Smallest object, in voxels.
    levels : tuple of PyramidLevel
        Of the segmentation, and so of the objects.
    spatial_axes : {"zyx", "yx"}
        Axes of the segmentation.
    region : Box
        What is worked on, (z, y, x).
    notes : tuple of str
        What the user should know, in sentences.
    """

    job: ObjectsJob
    stored: StoredLabels
    name: str
    rules: ObjectDefaults
    dimension: Dimension
    link: LinkOptions
    min_voxels: int
    levels: tuple[PyramidLevel, ...]
    spatial_axes: str
    region: Box
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> Shape:
        """Shape (z, y, x) of the segmentation."""
        return self.levels[0].shape

    @property
    def uses_probabilities(self) -> bool:
        """Whether probabilities decide the objects."""
        return self.rules.method != "components" and self.stored.has_probabilities

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes 1, 2, ..."""
        return tuple(item.name for item in self.stored.classes)

    @property
    def foreground(self) -> tuple[int, ...]:
        """Numbers of the classes that objects are made of."""
        return tuple(self._number(name) for name in self.rules.classes)

    @property
    def boundary(self) -> int | None:
        """Number of the class between objects; None for components."""
        return None if self.rules.boundary is None else self._number(self.rules.boundary)

    @property
    def per_slice(self) -> bool:
        """Whether objects are first found in each slice by itself."""
        return self.dimension != "3d"

    @property
    def grid(self) -> BlockGrid:
        """Blocks in which objects are found, with the origin at the region's."""
        return object_grid(self.job, self.rules.method, self.dimension, self.region.shape)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What decides the objects; workers do not, nor do blocks, but in a volume's watershed."""
        rules, values = self.rules, dict[str, Any]()
        if rules.method == "watershed":
            values["watershed"] = rules.watershed.model_dump()
        if rules.method == "components":
            values["connectivity"] = self.job.connectivity or 1
        if self.dimension == "linked":
            values["link"] = self.link.model_dump()
        if rules.method == "watershed" and not self.per_slice:
            values["grid"] = [list(self.grid.block_shape), VOLUME_MARGIN]
        return {
            "source": self.stored.name,
            "segmentation": self.stored.attributes.get("fingerprint"),
            "method": rules.method,
            "dimension": self.dimension,
            "classes": list(rules.classes),
            "boundary": rules.boundary,
            "probabilities": self.uses_probabilities,
            "min_voxels": self.min_voxels,
            "fill_holes": self.job.fill_holes,
            "clear_border": self.job.clear_border,
            "region": format_region(self.region),
            **values,
        }

    def _number(self, name: str) -> int:
        return self.class_names.index(name) + FIRST_CLASS


def object_grid(
    job: ObjectsJob, method: ObjectMethod, dimension: Dimension, shape: Shape
) -> BlockGrid:
    """Return the blocks of a region of this shape in which objects are found."""
    volume = dimension == "3d"
    if method == "components":
        return BlockGrid(shape, job.block_shape(volume=volume))
    if not volume:
        # Whole slices: a watershed of parts of them would not be that of the slice.
        return BlockGrid(shape, (1, *shape[1:]))
    return BlockGrid(shape, job.block_shape(volume=True), ((VOLUME_MARGIN, VOLUME_MARGIN),) * 3)


def plan_objects(job: ObjectsJob) -> ObjectsPlan:
    """Return an object job resolved against the segmentation it names, without reading voxels.

    Raises
    ------
    ConfigError
        If the label image, a class or an option does not fit.
    InputError, StorageError
        If the output is missing, incomplete, damaged or not ours.
    """
    job = job.model_copy(update={"output": str(Path(job.output).expanduser().absolute())})
    stored = find_labels(Path(job.output), job.source, "classes")
    if stored.state != "complete":
        raise InputError(
            f"{stored.path}: the segmentation {stored.name!r} is incomplete; run the command that "
            "began it again (see its record), then look for objects"
        )
    source = stored.open_labels()
    levels, axes = source.levels, source.spatial_axes
    source.close()
    rules = _rules(job, stored)
    dimension, notes = object_dimension(job, rules, axes, levels[0].voxel_size)
    if rules.method != "components" and not stored.has_probabilities:
        notes += (
            f"{stored.name!r} was written without probabilities, so objects are told apart by the "
            "shape of its classes alone; segment with --probabilities for better ones",
        )
    return ObjectsPlan(
        job=job,
        stored=stored,
        name=_name(job, stored),
        rules=rules,
        dimension=dimension,
        link=LinkOptions.parse(job.link, source="link"),
        min_voxels=_min_voxels(job, rules, levels[0], flat=dimension == "2d"),
        levels=levels,
        spatial_axes=axes,
        region=_region(job, stored, levels[0].shape, axes),
        notes=notes,
    )


def _name(job: ObjectsJob, stored: StoredLabels) -> str:
    name = job.name or stored.name + NAME_SUFFIX
    if name == stored.name:
        raise ConfigError(
            f"the objects of {stored.name!r} cannot have its name; give another --name"
        )
    return name


def _rules(job: ObjectsJob, stored: StoredLabels) -> ObjectDefaults:
    """Return the model's way to objects, changed as the job says."""
    names = [item.name for item in stored.classes]
    said = stored.attributes.get("objects")
    own = suited_method(names) if said is None else ObjectDefaults.parse(said, source=stored.name)
    method = job.method or own.method
    boundary = job.boundary or own.boundary
    if method == "components":
        if job.boundary is not None:
            raise ConfigError("--boundary is for the methods watershed and interior")
        boundary = None
    elif boundary is None:
        raise ConfigError(
            f"the method {method} needs the class between objects; name it with --boundary, one of "
            f"{', '.join(names)}"
        )
    classes = _classes(job, own, names, boundary)
    watershed = own.watershed.model_dump() | job.watershed
    if job.watershed and method != "watershed":
        raise ConfigError(f"options of the watershed do not fit the method {method}")
    if job.connectivity is not None and method != "components":
        raise ConfigError(f"--connectivity is for the method components, not for {method}")
    rules = ObjectDefaults.parse(
        {
            "method": method,
            "classes": classes,
            "boundary": boundary,
            "dimension": job.dimension or own.dimension,
            "watershed": WatershedOptions.parse(watershed, source="watershed"),
        },
        source="objects",
    )
    rules.check_names(names)
    return rules


def _classes(
    job: ObjectsJob, own: ObjectDefaults, names: list[str], boundary: str | None
) -> tuple[str, ...]:
    if job.classes is not None:
        return tuple(part.strip() for part in job.classes.split(",") if part.strip())
    if boundary is None or boundary == own.boundary:
        return own.classes
    return suited_method([name for name in names if name != boundary]).classes


def object_dimension(
    job: ObjectsJob, rules: ObjectDefaults, axes: str, size: VoxelSize
) -> tuple[Dimension, tuple[str, ...]]:
    """Return how slices hang together, and what the user should know about it.

    Raises
    ------
    ConfigError
        If the dimension does not fit the axes or the method.
    """
    if axes == "yx":
        if job.dimension in ("linked", "3d"):
            raise ConfigError(
                f"--dimension {job.dimension} is for stacks, and this segmentation is a plane; "
                "leave it out, or use 2d"
            )
        return "2d", ()
    dimension = rules.dimension or _own_dimension(rules.method, size)
    if rules.method == "interior" and dimension == "3d":
        raise ConfigError(
            "the method interior works slice by slice; use --dimension linked, or --method "
            "watershed for the volume as one"
        )
    if job.link and dimension != "linked":
        raise ConfigError(f"options of linking do not fit --dimension {dimension}; use linked")
    if rules.dimension is None and rules.method == "watershed" and size.unit is None:
        return dimension, (
            "the voxel size is not known, so slices are flooded by themselves and linked; if they "
            "are about as thick as pixels are wide, --dimension 3d is better",
        )
    return dimension, ()


def _own_dimension(method: ObjectMethod, size: VoxelSize) -> Dimension:
    """Return how slices hang together where neither the job nor the model says so."""
    thin = size.unit is not None and size.z <= MAX_THICKNESS * size.x
    return "3d" if method == "components" or (method == "watershed" and thin) else "linked"


def _region(job: ObjectsJob, stored: StoredLabels, shape: Shape, axes: str) -> Box:
    """Return what is worked on: inside what was segmented."""
    fingerprint = stored.attributes.get("fingerprint") or {}
    done = fingerprint.get("region")
    segmented = parse_region(done, shape) if isinstance(done, str) else Box.of_shape(shape)
    if job.region is None:
        return segmented
    own = shape if axes == "zyx" or job.region.count(",") == 2 else shape[1:]
    box = parse_region(job.region, own, "zyx"[-len(own) :])
    if len(own) == 2:
        box = Box((0, *box.start), (1, *box.stop))
    if not segmented.contains(box):
        raise ConfigError(
            f"region {job.region} is not inside what was segmented, {format_region(segmented)}; "
            "choose a part of that"
        )
    return box


def _min_voxels(job: ObjectsJob, rules: ObjectDefaults, level: PyramidLevel, *, flat: bool) -> int:
    """Return the smallest object in voxels, from voxels or from a size in the world."""
    if job.min_size is None:
        return MIN_PIXELS if rules.method == "interior" else 1
    found = re.fullmatch(MIN_SIZE_PATTERN, job.min_size)
    if found is None or found["unit"] is None or found["unit"].startswith("voxel"):
        return max(math.ceil(float(found["number"] if found else 1)), 1)
    wanted = 2 if flat else 3
    unit, own = unit_name(found["unit"]), level.voxel_size.unit
    if unit is None or own not in METERS:
        raise ConfigError(
            f"--min-size {job.min_size}: "
            + (
                f"{found['unit']!r} is not a unit of length; use for example nm or um"
                if unit is None
                else "the voxel size of this segmentation is not known; give a number of voxels"
            )
        )
    if int(found["power"] or 1) != wanted:
        raise ConfigError(
            f"--min-size {job.min_size} is not {'an area' if flat else 'a volume'}; write it as "
            f"{found['number']}{found['unit']}{wanted}"
        )
    size = level.voxel_size
    voxel = size.y * size.x * (1 if flat else size.z) * METERS[own] ** wanted
    # A hair below, so that a size of exactly n voxels is n voxels.
    return max(math.ceil(float(found["number"]) * METERS[unit] ** wanted / voxel - 1e-6), 1)
