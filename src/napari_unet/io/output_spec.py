"""What an output is to be: names, levels, classes, and how its arrays are cut."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from napari_unet.core.job import DEFAULT_BLOCK_EDGE, DEFAULT_CHUNK_EDGE
from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_unet.core.arrays import PyramidLevel
    from napari_unet.core.boxes import Shape
    from napari_unet.core.classes import ClassInfo
    from napari_unet.core.job import OmeVersion, ProbabilityType

LabelType = Literal["uint8", "uint32", "uint64"]
"""Types of labels: classes are uint8, objects uint32, or uint64 where there are too many."""

ArrayKind = Literal["labels", "probabilities"]

CHUNK_STEP = 16
"""Chunk edges of small images are multiples of it: compact, and aligned for every codec."""


NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
"""Names that are safe as those of folders on every system."""


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """Shape and type of a stored array, and how it is cut; shards None = chunks are files."""

    shape: Shape
    dtype: str
    chunks: Shape
    shards: Shape | None


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """A label image to write, and perhaps its probabilities.

    Parameters
    ----------
    path : Path
        OUT, the zarr group that holds ``labels/NAME``.
    name : str
        NAME of the label image.
    spatial_axes : {"zyx", "yx"}
        Axes of the arrays.
    levels : tuple of PyramidLevel
        From fine to coarse, see `plan_levels`.
    classes : tuple of ClassInfo
        Classes 1, 2, ... of the labels; empty for objects.
    label_type : {"uint8", "uint32", "uint64"}
        uint8 for classes, the others for numbered objects (0 = background).
    block_edge : int
        Edge of a block in y and x, in voxels; a shard is a block.
    chunk_edge : int
        Longest edge of a chunk in y and x, in voxels.
    shards : bool
        Store one file per block instead of one per chunk.
    probability_type : {"float32", "float16"} or None
        How probabilities are stored; None = they are not.
    ome_version : {"0.5", "0.4"}
        OME-Zarr version: 0.5 is zarr version 3, 0.4 is version 2.
    source_path : str or None
        The image, for the record.
    attributes : mapping
        Provenance, kept as JSON under ``napari_unet``.

    Raises
    ------
    ConfigError
        If the name is not fit to be that of a folder, or the type not one of such labels.
    """

    path: Path
    name: str
    spatial_axes: str
    levels: tuple[PyramidLevel, ...]
    classes: tuple[ClassInfo, ...] = ()
    block_edge: int = DEFAULT_BLOCK_EDGE
    chunk_edge: int = DEFAULT_CHUNK_EDGE
    shards: bool = False
    probability_type: ProbabilityType | None = None
    ome_version: OmeVersion = "0.5"
    source_path: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    label_type: LabelType = "uint8"

    def __post_init__(self) -> None:
        if not re.fullmatch(NAME_PATTERN, self.name):
            raise ConfigError(
                f"name {self.name!r} cannot be the name of a label image; use letters, digits and "
                "the characters . _ - after a letter or digit"
            )
        if self.holds_objects and (self.classes or self.probability_type is not None):
            raise ConfigError(
                f"{self.name}: labels of type {self.label_type} number objects, which have neither "
                "classes nor probabilities; write classes as uint8"
            )

    @property
    def holds_objects(self) -> bool:
        """Whether the labels number objects, 0 = background; else they are classes."""
        return self.label_type != "uint8"

    @property
    def zarr_format(self) -> Literal[2, 3]:
        """Version of the zarr format."""
        return 3 if self.ome_version == "0.5" else 2

    def chunk_shape(self, level: int) -> Shape:
        """Return the edges (z, y, x) of a chunk of a level."""
        longest = chunk_edge(self.block_edge, self.chunk_edge)
        _, height, width = self.levels[level].shape
        return (1, min(longest, _round_up(height)), min(longest, _round_up(width)))

    def shard_shape(self, level: int) -> Shape | None:
        """Return the edges (z, y, x) of a shard of a level; None without shards."""
        if not self.shards:
            return None
        chunk, shape = self.chunk_shape(level), self.levels[level].shape
        return tuple(
            c * -(-min(n, limit) // c)
            for c, n, limit in zip(chunk, shape, (1, self.block_edge, self.block_edge), strict=True)
        )

    def object_shape(self, level: int) -> Shape:
        """Return the edges (z, y, x) of the smallest stored object of a level."""
        return self.shard_shape(level) or self.chunk_shape(level)

    def layout(self, level: int, kind: ArrayKind) -> ArrayLayout:
        """Return what the array of a level is like."""
        keep, shards = len(self.spatial_axes), self.shard_shape(level)
        lead = (len(self.classes),) if kind == "probabilities" else ()
        type_of = {"labels": self.label_type, "probabilities": self.probability_type or "float32"}
        return ArrayLayout(
            shape=lead + self.levels[level].shape[-keep:],
            dtype=type_of[kind],
            chunks=(1,) * len(lead) + self.chunk_shape(level)[-keep:],
            shards=None if shards is None else lead + shards[-keep:],
        )


def chunk_edge(block_edge: int, longest: int) -> int:
    """Return the longest chunk edge, of at most `longest`, that divides a block.

    Multiples of 16 are preferred, if there are any.

    Examples
    --------
    >>> chunk_edge(1024, 512), chunk_edge(768, 512), chunk_edge(100, 512), chunk_edge(1000, 512)
    (512, 384, 100, 500)
    """
    divisors = [n for n in range(1, min(block_edge, longest) + 1) if block_edge % n == 0]
    return max([n for n in divisors if n % CHUNK_STEP == 0] or divisors)


def _round_up(size: int) -> int:
    return -(-size // CHUNK_STEP) * CHUNK_STEP
