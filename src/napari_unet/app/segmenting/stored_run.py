"""What a run has stored, opened to be compared with its ledger: needs neither image nor model."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.storage import LocalStore

from napari_unet.app.segmenting.journal import RUN, ledger_path
from napari_unet.core.boxes import Box, parse_region
from napari_unet.errors import ConfigError, InputError, StorageError, UNetError
from napari_unet.io.damage import input_errors
from napari_unet.io.label_output import StoredLabels, list_labels
from napari_unet.io.ledger import LEDGER_SUFFIX, read_ledger
from napari_unet.io.ome_documents import read_group
from napari_unet.io.ome_metadata import ome_attributes
from napari_unet.io.output_state import storage_errors
from napari_unet.io.pyramid import Reduction, split_box
from napari_unet.io.stored_objects import checksum, stored_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from napari_unet.core.boxes import Shape
    from napari_unet.io.ledger import BlockEntry

PIECE_VALUES = 2**22
"""Fine values that are held at once while coarser levels are compared."""

_REMEDY = "it has to be computed again"


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A label image of classes, and the probabilities beside it.

    Parameters
    ----------
    labels : StoredLabels
        What the metadata say.
    ledger : Path
        Where the ledger of its run lies.
    region : Box
        What the job is about, (z, y, x).
    block_edge : int
        Edge of a block in y and x.
    classes, chances : tuple of zarr.Array
        Levels of the labels and of the probabilities, from fine to coarse; no probabilities = they
        are not kept.
    """

    labels: StoredLabels
    ledger: Path
    region: Box
    block_edge: int
    classes: tuple[zarr.Array[Any], ...]
    chances: tuple[zarr.Array[Any], ...]

    @property
    def path(self) -> Path:
        """OUT, absolute."""
        return self.labels.path

    @property
    def name(self) -> str:
        """NAME of the label image."""
        return self.labels.name

    @property
    def block_count(self) -> int:
        """Number of blocks of the job."""
        return math.prod(len(r) for r in self._ranges)

    def blocks(self) -> Iterator[tuple[Shape, Box]]:
        """Yield the index of each block and its voxels inside the region, last axis fastest."""
        edges = (1, self.block_edge, self.block_edge)
        for index in itertools.product(*self._ranges):
            start = tuple(i * e for i, e in zip(index, edges, strict=True))
            cell = Box(start, tuple(a + e for a, e in zip(start, edges, strict=True)))
            yield index, cell.intersection(self.region)

    def fault(self, box: Box, entry: BlockEntry) -> str | None:
        """Return how a block differs from what was written; None if it does not."""
        chances = None
        try:
            for array in (*self.classes[:1], *self.chances[:1]):
                self._require_files(array, box)
            labels = checksum(self._read(self.classes[0], box))
            if self.chances:
                chances = checksum(self._read(self.chances[0], box))
        except UNetError as error:
            return str(error)
        if (labels, chances) == (entry.labels, entry.probabilities):
            return None
        return "what is stored has another checksum than what was written"

    def coarse_pieces(self) -> list[tuple[int, Box]]:
        """Return level and box of the pieces in which the coarser levels are compared."""
        pieces, region, shapes = [], self.region, self._shapes
        for level in range(1, len(shapes)):
            fine, coarse = shapes[level - 1], shapes[level]
            region = Reduction(fine, coarse).touched(region)
            ratio = math.prod(fine) / math.prod(coarse)
            values = PIECE_VALUES // (1 + sum(array.shape[0] for array in self.chances[:1]))
            pieces += [(level, piece) for piece in split_box(region, ratio, values)]
        return pieces

    def coarse_fault(self, level: int, box: Box) -> str | None:
        """Return how a piece of a coarser level differs from the finer one; None if it does not."""
        reduction = Reduction(self._shapes[level - 1], self._shapes[level])
        window = reduction.window(box)
        try:
            stored = self._read(self.classes[level], box)
            made: npt.NDArray[Any] = reduction.labels(
                box, self._read(self.classes[level - 1], window)
            )
            same = np.array_equal(stored, made)
            if self.chances:
                stored = self._read(self.chances[level], box)
                fine = self._read(self.chances[level - 1], window)
                made = reduction.probabilities(box, fine).astype(stored.dtype)
                same = same and np.array_equal(stored, made)
        except UNetError as error:
            return str(error)
        return None if same else f"level {level} is not what level {level - 1} says"

    def discard(self, level: int, box: Box) -> None:
        """Delete the files that hold a part of a level, so that nothing of them is kept.

        Raises
        ------
        StorageError
            If one cannot be deleted.
        """
        for array in (self.classes[level], *self.chances[level : level + 1]):
            for path in stored_files(array, self._index(array, box)):
                with storage_errors(f"{path}: it cannot be deleted"):
                    path.unlink(missing_ok=True)

    @property
    def _ranges(self) -> tuple[range, ...]:
        edges = (1, self.block_edge, self.block_edge)
        return tuple(
            range(a // e, -(-b // e))
            for a, b, e in zip(self.region.start, self.region.stop, edges, strict=True)
        )

    @property
    def _shapes(self) -> tuple[Shape, ...]:
        return tuple(_spatial(array) for array in self.classes)

    def _index(self, array: zarr.Array[Any], box: Box) -> tuple[slice, ...]:
        keep = self.classes[0].ndim
        return tuple(slice(0, n) for n in array.shape[: array.ndim - keep]) + box.slices[-keep:]

    def _require_files(self, array: zarr.Array[Any], box: Box) -> None:
        """Refuse what zarr would silently read as zeros."""
        for path in stored_files(array, self._index(array, box)):
            with input_errors(f"{path}: it cannot be read", _REMEDY):
                if not path.is_file():
                    raise InputError(f"{path} is missing; {_REMEDY}")
                if not path.stat().st_size:
                    raise InputError(f"{path} is empty; {_REMEDY}")

    def _read(self, array: zarr.Array[Any], box: Box) -> npt.NDArray[Any]:
        """Return the labels (z, y, x) or probabilities (class, z, y, x) of a box."""
        lead = array.ndim - self.classes[0].ndim
        where = f"{array.store_path}: {box.start}..{box.stop} cannot be read back"
        with input_errors(where, _REMEDY):
            data = np.asarray(array[self._index(array, box)])
            return data.reshape(data.shape[:lead] + box.shape)


def find_run(path: Path, name: str | None) -> StoredRun:
    """Return the run whose label image OUT holds under a name, or the only one.

    Parameters
    ----------
    path : Path
        OUT, absolute.
    name : str or None
        NAME; None = the only label image of classes.

    Raises
    ------
    ConfigError
        If there is no such label image, it holds objects, or several could be meant.
    InputError
        If OUT or its ledger is missing.
    StorageError
        If OUT was not made by us, or its metadata are damaged.
    """
    labels = _choose(path, name)
    with input_errors(f"{path}: the metadata of {labels.name} cannot be read", _REMEDY):
        fingerprint = labels.attributes["fingerprint"]
        block_edge, region = int(fingerprint["block_size"]), str(fingerprint["region"])
        has_chances = fingerprint["probabilities"] is not None
        classes = _open_levels(labels, "labels")
        chances = _open_levels(labels, "probabilities") if has_chances else ()
        box = parse_region(region, _spatial(classes[0]))
    return StoredRun(labels, _find_ledger(labels), box, block_edge, classes, chances)


def _choose(path: Path, name: str | None) -> StoredLabels:
    stored = list_labels(path)
    found = [s for s in stored if s.name == name or (name is None and s.kind == "classes")]
    listed = ", ".join(s.name for s in stored if s.kind == "classes") or "none"
    if len(found) != 1:
        problem = "holds no label image of classes" if name is None else f"holds no {name!r}"
        if found:
            problem = f"holds {len(found)} label images of classes"
        raise ConfigError(f"{path} {problem}; choose with --name: {listed}")
    if found[0].kind == "objects":
        raise ConfigError(
            f"{path}: {name!r} holds objects, which have no ledger. They follow from "
            f"{found[0].attributes.get('from')!r}: verify that, and find the objects again with "
            "napari-unet objects OUT --overwrite if they are in doubt"
        )
    return found[0]


def _find_ledger(labels: StoredLabels) -> Path:
    """Return the ledger of a label image, also where both were moved together."""
    path, name = labels.path, labels.name
    usual = ledger_path(path, name)
    for candidate in (usual, path.parent / f"{name}{LEDGER_SUFFIX}"):
        if not candidate.exists():
            continue
        content = read_ledger(candidate)
        if content is not None and content.settled.get(RUN) == labels.attributes.get(RUN):
            return candidate
    if usual.exists():
        raise StorageError(
            f"{usual} is the ledger of another run than the one that wrote {name!r}; look for the "
            "right one, or compute everything anew with --overwrite"
        )
    raise InputError(
        f"{usual}: there is no ledger, so nothing says what {name!r} should be. It lies beside OUT "
        "and is copied with it; outputs of versions before the ledger have none"
    )


def _open_levels(labels: StoredLabels, kind: str) -> tuple[zarr.Array[Any], ...]:
    folder = labels.path / kind / labels.name
    found = read_group(folder)
    if found is None:
        raise InputError(f"{folder} is no zarr group; {_REMEDY}")
    datasets = ome_attributes(found[1])["multiscales"][0]["datasets"]
    version: Any = found[0]
    return tuple(
        zarr.open_array(LocalStore(folder), path=item["path"], mode="r", zarr_format=version)
        for item in datasets
    )


def _spatial(array: zarr.Array[Any]) -> Shape:
    """Return the shape (z, y, x) of an array of labels."""
    return (1,) * (3 - array.ndim) + tuple(array.shape)
