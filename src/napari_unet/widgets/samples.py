"""Sample images that ship with the package."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import InputError
from napari_unet.io.selection import Selection
from napari_unet.widgets.reader import image_layer

if TYPE_CHECKING:
    from napari_unet.widgets.reader import LayerData

SAMPLES_FOLDER = Path(__file__).parent.parent / "resources" / "samples"
"""Where the package keeps its sample images."""

ATTRIBUTION = "ATTRIBUTION.md"
"""File beside them that says where they come from, one section for each."""

BRIGHTEST = 99.8
"""Percentile that is shown as white: a few specks are far brighter than the nuclei."""


def open_fib_sem() -> list[LayerData]:
    """Return a FIB-SEM crop of the fly's medulla, 10 nm, as a lazy layer of three levels.

    Its source and license are in ``layer.metadata["napari-unet"]["attribution"]``, as those of
    every sample.

    Raises
    ------
    InputError
        If the installed package lacks it; so do the others.
    """
    return _sample("fib_sem_medulla", "FIB-SEM medulla")


def open_small_nuclei() -> list[LayerData]:
    """Return a fluorescence image with many small nuclei."""
    return _sample("nuclei_small", "small nuclei")


def open_large_nuclei() -> list[LayerData]:
    """Return a fluorescence image with few large nuclei."""
    return _sample("nuclei_large", "large nuclei")


def open_dense_nuclei() -> list[LayerData]:
    """Return a fluorescence image of tissue, whose nuclei touch."""
    return _sample("nuclei_dense", "dense nuclei")


def open_brightfield_nuclei() -> list[LayerData]:
    """Return a gray brightfield image, on which the bundled model needs a fine-tune."""
    return _sample("nuclei_brightfield", "brightfield nuclei")


def _sample(stem: str, name: str) -> list[LayerData]:
    """Return a sample as a layer that says where it comes from."""
    path = SAMPLES_FOLDER / f"{stem}.zarr"
    extra = {"sample": True, "attribution": attribution(stem)}
    layer = image_layer(str(path), Selection(), extra)
    if layer is None:
        raise InputError(f"the sample {path} cannot be read; install napari-unet again")
    data, options, kind = layer
    options |= {"name": name}
    if not options["multiscale"]:
        options |= {"contrast_limits": _shown_range(data)}
    return [(data, options, kind)]


def _shown_range(data: Any) -> tuple[float, float]:
    """Return the darkest and the brightest gray value that are told apart; the image is small."""
    values = np.asarray(data)
    return float(values.min()), float(np.percentile(values, BRIGHTEST))


def attribution(stem: str) -> str:
    """Return where a sample comes from, and under which license; empty if nothing is known."""
    note = SAMPLES_FOLDER / ATTRIBUTION
    text = note.read_text(encoding="utf-8") if note.exists() else ""
    for section in re.split(r"^# ", text, flags=re.MULTILINE):
        title, _, words = section.partition("\n")
        if f"{stem}.zarr" in title.split(", "):
            return words.strip()
    return ""
