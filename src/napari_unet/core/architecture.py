"""The settings that decide a network's shape; stored in every model file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from napari_unet.core.classes import MAX_CLASSES
from napari_unet.core.receptive import NetGeometry, Padding, unet_geometry
from napari_unet.core.settings import Settings

if TYPE_CHECKING:
    from typing import Any

PAPER_BASE_CHANNELS = 64
"""Channels of the first level (Ronneberger et al. 2015, Fig. 1); they double per level."""

PAPER_DEPTH = 4
"""Poolings (Ronneberger et al. 2015, Fig. 1)."""

PAPER_DROPOUT = 0.5
"""The authors' own network definition drops half of the features at its two deepest levels."""

Norm = Literal["batch"]
Residual = Literal["shared"]


class Architecture(Settings):
    """How a `UNet` is built; the fields are its constructor's arguments.

    The bounds refuse a hostile file before anything of its size is allocated.
    """

    in_channels: Annotated[int, Field(ge=1, le=64)] = 1
    num_classes: Annotated[int, Field(ge=1, le=MAX_CLASSES)] = 2
    base_channels: Annotated[int, Field(ge=1, le=256)] = PAPER_BASE_CHANNELS
    depth: Annotated[int, Field(ge=0, le=6)] = PAPER_DEPTH
    padding: Padding = "valid"
    norm: Norm | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] = PAPER_DROPOUT
    residual: Residual | None = None

    def geometry(self) -> NetGeometry:
        """Return halo, stride and legal sizes of this network on (z, y, x) volumes."""
        return unet_geometry(self.depth, padding=self.padding)

    def arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return self.model_dump()
