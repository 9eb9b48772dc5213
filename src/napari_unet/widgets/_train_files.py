"""The folder of a fine-tune: the strokes, the image if it has no file, and what is learnt."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from napari_unet.core.annotation import Annotation
from napari_unet.core.classes import ClassInfo
from napari_unet.errors import AnnotationError, StorageError
from napari_unet.io.annotation_store import create_annotation_store
from napari_unet.widgets._annotation_layer import new_to, read_labels
from napari_unet.widgets._spool import spool
from napari_unet.widgets._strokes_data import StrokesData

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_unet.core.boxes import Shape
    from napari_unet.widgets._annotation_layer import PaintClass
    from napari_unet.widgets._spool import SpoolRequest

KEPT_FILES = ("*.pt", "*.safetensors")
"""Weights that a training leaves; a folder without any is worth nothing."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one fine-tune, in the user's cache.

    Parameters
    ----------
    path : Path
        It.
    """

    path: Path

    @property
    def run(self) -> Path:
        """The engine's run folder: settings, log, curves, checkpoints."""
        return self.path / "run"

    @property
    def annotation(self) -> Path:
        """The strokes, as they were when Fine-tune was clicked."""
        return self.path / "annotation.zarr"

    @property
    def image(self) -> Path:
        """Where a copy of the image goes, if it has no file of its own."""
        return self.path / "image"

    @property
    def model(self) -> Path:
        """The new model."""
        return self.path / "fine-tuned.safetensors"

    @property
    def has_weights(self) -> bool:
        """Whether there is anything that was learnt."""
        return any(True for pattern in KEPT_FILES for _ in self.path.rglob(pattern))

    def delete(self) -> None:
        """Delete all of it."""
        shutil.rmtree(self.path, ignore_errors=True)

    def delete_image(self) -> None:
        """Delete the copy of the image."""
        shutil.rmtree(self.image, ignore_errors=True)


def make_run_folder() -> RunFolder:
    """Return a fresh folder.

    Raises
    ------
    StorageError
        If the user's cache cannot be written.
    """
    parent = Path(platformdirs.user_cache_path("napari-unet", appauthor=False)) / "fine-tunes"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = RunFolder(Path(tempfile.mkdtemp(prefix="run-", dir=parent)))
        folder.image.mkdir()
    except OSError as error:
        raise StorageError(
            f"no folder for the training can be made in {parent}: {error}; free some space or "
            "check its permissions"
        ) from error
    return folder


@dataclass(frozen=True, slots=True)
class Strokes:
    """What was painted, still in its layer.

    Parameters
    ----------
    data : array-like
        The layer's array; of `StrokesData` all that is stored counts, not their window alone.
    shape : tuple of int
        Shape of the image, (z, y, x).
    classes : tuple of PaintClass
        The k-th class has the label k.
    parent_classes : tuple of str or None
        Those of the model that is fine-tuned; None = there is none.
    """

    data: Any
    shape: Shape
    classes: tuple[PaintClass, ...]
    parent_classes: tuple[str, ...] | None


def prepare(strokes: Strokes, path: Path, copy: SpoolRequest | None) -> Iterator[float]:
    """Store the strokes, and copy the image if it exists only in memory.

    Yields
    ------
    float
        Share that is done, 0 to 1.

    Raises
    ------
    AnnotationError
        If too little is painted to learn from.
    StorageError
        If something cannot be written.
    """
    annotation = _snapshot(strokes, path)
    check_painted(annotation, strokes.classes, strokes.parent_classes)
    yield 0.0
    if copy is not None:
        yield from spool(copy)
    yield 1.0


def _snapshot(strokes: Strokes, path: Path) -> Annotation:
    """Store the strokes as they are now, and return them; what is painted from now on is not in."""
    infos = [ClassInfo(name=each.name, color=each.color) for each in strokes.classes]
    names = [each.name for each in strokes.classes]
    if not isinstance(strokes.data, StrokesData):
        annotation = Annotation.from_blocks(
            strokes.shape, names, lambda box: read_labels(strokes.data, box)
        )
        create_annotation_store(path, strokes.shape, infos).save(annotation)
        return annotation
    store = strokes.data.strokes.buffer.copy_to(path, infos)
    annotation = Annotation(strokes.shape, names)
    for box in store.block_boxes():
        annotation.write(box, store.read(box))
    return annotation


def check_painted(
    annotation: Annotation, classes: Sequence[PaintClass], parent: Sequence[str] | None
) -> None:
    """Refuse strokes that nothing can be learnt from.

    Raises
    ------
    AnnotationError
        If nothing is painted, or a class that the model does not know has no stroke.
    """
    names = ", ".join(annotation.class_names)
    if annotation.is_empty:
        raise AnnotationError(
            f"nothing is painted; choose a class in the table and paint some strokes of {names}"
        )
    counts = dict(zip(annotation.class_names, annotation.counts, strict=True))
    missing = [name for name in new_to(classes, parent or ()) if not counts[name]]
    if missing:
        raise AnnotationError(
            f"nothing is painted of {', '.join(missing)}, which the model does not know yet; "
            "paint some strokes of it, or remove it from the table"
        )
