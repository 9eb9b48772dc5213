"""Sample images that ship with the package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.errors import InputError
from napari_unet.io.selection import Selection
from napari_unet.widgets.reader import image_layer

if TYPE_CHECKING:
    from napari_unet.widgets.reader import LayerData

SAMPLES_FOLDER = Path(__file__).parent.parent / "resources" / "samples"
"""Where the package keeps its sample images."""

ATTRIBUTION = "ATTRIBUTION.md"
"""File beside them that says where they come from."""


def open_fib_sem() -> list[LayerData]:
    """Return a FIB-SEM crop of the fly's medulla, 10 nm, as a lazy layer.

    Its source and license are in ``layer.metadata["napari-unet"]["attribution"]``.

    Raises
    ------
    InputError
        If the installed package lacks it.
    """
    path = SAMPLES_FOLDER / "fib_sem_medulla.zarr"
    note = SAMPLES_FOLDER / ATTRIBUTION
    attribution = note.read_text(encoding="utf-8") if note.exists() else ""
    layer = image_layer(str(path), Selection(), {"sample": True, "attribution": attribution})
    if layer is None:
        raise InputError(f"the sample {path} cannot be read; install napari-unet again")
    data, options, kind = layer
    return [(data, options | {"name": "FIB-SEM medulla"}, kind)]
