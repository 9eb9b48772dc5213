"""One copy on disk of an image that exists only in memory, for all engines that need it.

The copy is made once for each layer and shared: a run folder gets hard links to its files, which
take no room and stay when the copy is deleted.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from napari_unet.widgets._layers import LayerInput, find_input, shows, spatial_data, spatial_shape
from napari_unet.widgets._progress import format_bytes
from napari_unet.widgets._spool import SpoolRequest, require_space, spool, spool_request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari.layers import Image

UNASKED_BYTES = 2**29
"""Largest image (512 MB) that is copied without a click."""


@dataclass(frozen=True, slots=True)
class _Copy:
    """A finished copy, and the array that it was made of."""

    data: Any
    path: Path


class ImageCopies:
    """The copies of one panel; gone after `delete`."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._copies: WeakKeyDictionary[Image, _Copy] = WeakKeyDictionary()

    def find(self, image: Image) -> Path | None:
        """Return the copy of a layer that still shows what was copied; None = there is none."""
        copy = self._copies.get(image)
        if copy is None or copy.data is not spatial_data(image):
            return None
        return copy.path if shows(image, LayerInput(str(copy.path))) else None

    def request(self, image: Image) -> SpoolRequest:
        """Return what makes a copy of a layer, in a folder of its own.

        Raises
        ------
        StorageError
            If it does not fit on the disk.
        AxesError
            If the layer is no image that can be segmented.
        """
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="napari-unet-images-"))
        folder = Path(tempfile.mkdtemp(prefix="copy-", dir=self._folder))
        request = spool_request(image, spatial_shape(image), folder)
        require_space(request)
        return request

    def keep(self, image: Image, request: SpoolRequest) -> None:
        """Remember a finished copy."""
        self._copies[image] = _Copy(request.data, request.path)

    def delete(self) -> None:
        """Delete all copies."""
        self._copies.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


@dataclass(slots=True)
class Located:
    """Where an engine can read what a layer shows; filled in by `locate`.

    Parameters
    ----------
    source : LayerInput or None
        The place; None = nowhere.
    words : str
        Why it is nowhere, in a sentence.
    copied : SpoolRequest or None
        A copy that was made for it.
    """

    source: LayerInput | None = None
    words: str = ""
    copied: SpoolRequest | None = None


def locate(image: Image, copies: ImageCopies, found: Located) -> Iterator[float]:
    """Find the file of a layer, or its copy; make one if the image is small.

    Yields
    ------
    float
        Share that is done, 0 to 1.

    Raises
    ------
    StorageError
        If a copy cannot be written.
    AxesError
        If the layer is no image that can be segmented.
    """
    found.source = find_input(image)
    yield 0.0
    if found.source is None:
        copy = copies.find(image)
        if copy is None:
            size = math.prod(spatial_shape(image)) * np.dtype(image.dtype).itemsize
            if size > UNASKED_BYTES:
                found.words = (
                    f"No draft: {image.name!r} exists only in memory and is larger than "
                    f"{format_bytes(UNASKED_BYTES)}; save it to a file and open that."
                )
                return
            found.copied = copies.request(image)
            yield from spool(found.copied)
            copy = found.copied.path
        found.source = LayerInput(str(copy))
    yield 1.0


def link_copy(copy: Path, target: Path) -> Iterator[float]:
    """Make a folder a twin of a copy, by hard links where the disk has them.

    Yields
    ------
    float
        0.0, when it is done.
    """
    shutil.copytree(copy, target, copy_function=_link)
    yield 0.0


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        # Another disk, or one without links.
        shutil.copy2(source, target)
    return target
