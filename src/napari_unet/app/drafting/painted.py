"""The stored annotation that others paint into, as far as it could be read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.app.drafting.stroke_cells import StrokeCells, read_pieces
from napari_unet.errors import AnnotationError
from napari_unet.io.annotation_store import AnnotationStore, open_annotation_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.app.drafting.network_image import NetworkImage
    from napari_unet.app.drafting.stroke_cells import Change
    from napari_unet.core.boxes import Box


class Painted:
    """Strokes, read from a stored annotation whenever it is said to have changed.

    Parameters
    ----------
    path : str or None
        Of the stored annotation; nothing need be there yet. None = nothing is painted.
    image : NetworkImage
        What it lies on.
    """

    def __init__(self, path: str | None, image: NetworkImage) -> None:
        self._path = None if path is None else Path(path).expanduser()
        self._image = image
        self.cells = StrokeCells(image)

    def boxes(self) -> list[Box]:
        """Return the boxes of the image that hold all strokes, those in memory and those on disk.

        Raises
        ------
        InputError, AnnotationError
            As `read` does.
        """
        store = self._store()
        return [] if store is None else [*store.block_boxes(), *self.cells.extents()]

    def read(self, boxes: Sequence[Box]) -> list[Change]:
        """Read anew what boxes of the image touch; return what is new.

        Raises
        ------
        InputError
            If the stored annotation is damaged.
        AnnotationError
            If it is that of another image.
        """
        store = self._store()
        if store is None:
            return []
        changes = []
        for box in boxes:
            changes += read_pieces(self.cells, box, store.read)
        return changes

    def _store(self) -> AnnotationStore | None:
        """Return the annotation as it is now: it may have been replaced by another generation."""
        if self._path is None or not self._path.exists():
            return None
        store = open_annotation_store(self._path)
        if store.shape != self._image.image_shape:
            raise AnnotationError(
                f"{self._path}: an annotation of shape {store.shape} does not fit the image of "
                f"shape {self._image.image_shape}; open that of this image"
            )
        return store
