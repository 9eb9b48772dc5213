"""An annotation that is painted at the speed of memory and reaches its store in the background.

Blocks are never changed in place: painting replaces them. So a snapshot of what is to be written is
a handful of references, and whoever paints never waits for the disk.

Only blocks with labels take memory, and of those that are on disk no more than `KEPT_BYTES`.
"""

from __future__ import annotations

import itertools
import math
import shutil
import time
from collections import OrderedDict
from threading import Lock, RLock
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import AnnotationError, InputError, StorageError
from napari_unet.io.annotation_blocks import Blocks, read_block, read_slice
from napari_unet.io.annotation_generations import settle, sweep_generations, write_next
from napari_unet.io.annotation_store import (
    create_annotation_store,
    open_annotation_store,
    storing_errors,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from napari_unet.core.boxes import Box, Shape
    from napari_unet.core.classes import ClassInfo
    from napari_unet.io.annotation_store import AnnotationStore

KEPT_BYTES = 2**28
"""Most memory (256 MB) for blocks that are on disk, too: four thousand of 256 x 256."""

_UNCHANGED = np.arange(256, dtype=np.uint8)


class AnnotationBuffer:
    """The labels of a stored annotation, to be read and painted from any thread.

    What is painted is at once what is read; `flush` brings it to the store.

    Parameters
    ----------
    store : AnnotationStore
        Where they lie. Nobody else writes it.
    """

    def __init__(self, store: AnnotationStore) -> None:
        self.shape: Shape = store.shape
        self._grid = Blocks(store.shape, store.block_shape)
        self._store = store
        # Held for moments by whoever reads or paints; never while something is written.
        self._lock = RLock()
        self._writing = Lock()
        self._blocks: OrderedDict[Shape, npt.NDArray[np.uint8]] = OrderedDict()
        self._stored: set[Shape] = {self._grid.position_of(box) for box in store.block_boxes()}
        self._changed: set[Shape] = set()
        self._under_way: set[Shape] = set()
        self._classes, self._origins = store.classes, store.origins
        self._written_classes = (self._classes, self._origins)
        # What labels on disk are called now, and what those of the flush under way are.
        self._numbers = _UNCHANGED
        self._numbers_since = _UNCHANGED
        self._last_change = 0.0
        self._listeners: list[Callable[[], None]] = []
        self._damage: dict[str, None] = {}

    @property
    def path(self) -> Path:
        """Folder of the store; it stays the same whatever is painted or removed."""
        return self._store.path

    @property
    def classes(self) -> tuple[ClassInfo, ...]:
        """Names and colors; the k-th class has the label k."""
        return self._classes

    @property
    def origins(self) -> tuple[str | None, ...]:
        """What the model that each class was taken from calls it; empty = nothing is known."""
        return self._origins

    @property
    def is_changed(self) -> bool:
        """Whether something is not on disk, and not being written either."""
        with self._lock:
            return bool(
                self._changed
                or self._written_classes != (self._classes, self._origins)
                or self._numbers is not _UNCHANGED
            )

    @property
    def seconds_of_rest(self) -> float:
        """How long ago the last change was made."""
        return time.monotonic() - self._last_change

    @property
    def is_empty(self) -> bool:
        """Whether there is no label, neither in memory nor on disk."""
        with self._lock:
            painted = any(labels.any() for labels in self._blocks.values())
            return not painted and not (self._stored - self._blocks.keys())

    def listen(self, listener: Callable[[], None]) -> None:
        """Have a function called after each change, in the thread that made it."""
        self._listeners.append(listener)

    def take_damage(self) -> tuple[str, ...]:
        """Return what of the store could not be read since the last call, in words."""
        with self._lock:
            found, self._damage = tuple(self._damage), {}
        return found

    def read(self, box: Box) -> npt.NDArray[np.uint8]:
        """Return the labels of a box of the image, (z, y, x), as an array of the caller's own.

        A stored block that cannot be read seems empty, see `take_damage`.
        """
        dense = np.zeros(box.shape, dtype=np.uint8)
        for position, labels in self._take(box).items():
            block = self._grid.box_at(position)
            common = block.intersection(box)
            dense[common.relative_to(box.start).slices] = labels[
                common.relative_to(block.start).slices
            ]
        return dense

    def write(self, box: Box, labels: npt.NDArray[np.uint8]) -> None:
        """Replace the labels of a box of the image; 0 erases, also whole blocks that are damaged.

        Parameters
        ----------
        box : Box
            Part of the image, (z, y, x).
        labels : numpy.ndarray
            uint8 of its shape. Numbers beyond the last class are kept as they are.

        Raises
        ------
        InputError
            If a block that the box covers in part cannot be read; nothing is changed.
        """
        with self._lock:
            known = self._take(box)
            self._check_readable(box, known)
            for position in self._grid.touching(box):
                block = self._grid.box_at(position)
                common = block.intersection(box)
                self._put(
                    position,
                    known.get(position),
                    common.relative_to(block.start).slices,
                    labels[common.relative_to(box.start).slices],
                )
            self._last_change = time.monotonic()
        self._tell()

    def set_classes(self, classes: Sequence[ClassInfo], origins: Sequence[str | None] = ()) -> None:
        """Rename or color classes, or add some behind the last; the labels stay as they are.

        Raises
        ------
        AnnotationError
            If there are fewer than before: `remove_class` erases their labels, too.
        """
        with self._lock:
            if len(classes) < len(self._classes):
                raise AnnotationError(
                    f"{len(classes)} classes cannot take the place of {len(self._classes)}, "
                    "because labels of all may be painted; remove one after the other"
                )
            self._classes, self._origins = tuple(classes), tuple(origins)
            self._last_change = time.monotonic()
        self._tell()

    def remove_class(self, label: int) -> None:
        """Erase a label everywhere, number the ones above it down, and forget its class."""
        step = np.array([0 if n == label else n - (n > label) for n in range(256)], dtype=np.uint8)
        with self._lock:
            for position, labels in self._blocks.items():
                self._blocks[position] = _frozen(step[labels])
            self._numbers = step[self._numbers]
            self._numbers_since = step[self._numbers_since]
            self._classes = self._classes[: label - 1] + self._classes[label:]
            self._origins = self._origins[: label - 1] + self._origins[label:]
            self._last_change = time.monotonic()
        self._tell()

    def flush(self) -> tuple[Box, ...]:
        """Bring everything that has changed to the store; it survives a power cut then.

        Returns
        -------
        tuple of Box
            The blocks whose labels have changed on disk, (z, y, x).

        Raises
        ------
        StorageError
            If the disk refuses. Everything is still in memory, and is tried again next time.
        """
        with self._writing:
            return self._flush()

    def copy_to(self, path: Path, classes: Sequence[ClassInfo]) -> AnnotationStore:
        """Flush, and return a copy of the store as it is then; later strokes are not in it.

        Parameters
        ----------
        path : Path
            Folder to make.
        classes : sequence of ClassInfo
            What the copy calls them.

        Raises
        ------
        StorageError
            If the disk refuses.
        """
        with self._writing:
            self._flush()
            made = create_annotation_store(path, self.shape, classes, block_shape=self._grid.edges)
            with storing_errors(path):
                if (self.path / "c").is_dir():
                    unfinished = shutil.ignore_patterns("*.partial")
                    shutil.copytree(self.path / "c", path / "c", ignore=unfinished)
            return made

    def _flush(self) -> tuple[Box, ...]:
        with self._lock:
            blocks = {position: self._blocks[position] for position in self._changed}
            self._under_way, self._changed = set(blocks), set()
            classes = (self._classes, self._origins)
            numbers, self._numbers_since = self._numbers, _UNCHANGED
        written: set[Shape] = set()
        try:
            self._check_there()
            if numbers is not _UNCHANGED:
                written = self._exchange(blocks, classes, numbers)
            else:
                if classes != self._written_classes:
                    self._store.set_classes(*classes)
                    self._written_classes = classes
                written = self._write(blocks)
        finally:
            with self._lock:
                self._changed |= self._under_way - written
                self._under_way = set()
                self._forget_erased(blocks)
                self._drop_unused()
        return tuple(self._grid.box_at(position) for position in sorted(written))

    def _check_there(self) -> None:
        """Refuse to write into a folder that is gone: what it held would seem erased."""
        if not (self.path / "zarr.json").is_file():
            raise StorageError(
                f"{self.path}: the folder of the strokes is gone; put it back, or connect its "
                "disk again"
            )

    def _write(self, blocks: dict[Shape, npt.NDArray[np.uint8]]) -> set[Shape]:
        for position, labels in blocks.items():
            self._store.put(self._grid.box_at(position), labels)
            with self._lock:
                if labels.any():
                    self._stored.add(position)
                else:
                    self._stored.discard(position)
        self._store.make_durable(self._grid.box_at(position) for position in blocks)
        return set(blocks)

    def _exchange(
        self,
        blocks: dict[Shape, npt.NDArray[np.uint8]],
        classes: tuple[tuple[ClassInfo, ...], tuple[str | None, ...]],
        numbers: npt.NDArray[np.uint8],
    ) -> set[Shape]:
        """Write all blocks anew, with other numbers; return those that are, or were, on disk."""
        names, origins = classes
        before = set(self._stored)
        kept: set[Shape] = set()

        def all_blocks() -> Iterator[tuple[Box, npt.NDArray[np.uint8]]]:
            for position in sorted(before | blocks.keys()):
                box = self._grid.box_at(position)
                labels = blocks.get(position)
                if labels is None:
                    labels = numbers[read_block(self._store, box)]
                if labels.any():
                    kept.add(position)
                    yield box, labels

        # A store has a class at least; without any there are no labels either.
        write_next(self._store, names or self._store.classes[:1], origins, all_blocks())
        with self._lock:
            settle(self.path)
            # Known before anything else can fail: labels must not be renumbered twice.
            self._stored = kept
            self._written_classes = classes
            since = self._numbers_since
            self._numbers = _UNCHANGED if np.array_equal(since, _UNCHANGED) else since
            self._store = open_annotation_store(self.path)
        sweep_generations(self.path)
        return before | blocks.keys()

    def _take(self, box: Box) -> dict[Shape, npt.NDArray[np.uint8]]:
        """Return the blocks with labels in a box, read from the store where they must be."""
        with self._lock:
            found, missing = {}, []
            for position in self._grid.touching(box):
                if position in self._blocks:
                    found[position] = self._blocks[position]
                    self._blocks.move_to_end(position)
                elif position in self._stored:
                    missing.append(position)
            if missing:
                loaded = self._load(missing)
                found |= loaded
                self._blocks.update(loaded)
                self._drop_unused()
        return found

    def _load(self, missing: list[Shape]) -> dict[Shape, npt.NDArray[np.uint8]]:
        """Return stored blocks, but for those that cannot be read."""
        loaded = {}
        for _, group in itertools.groupby(missing, key=lambda position: position[0]):
            for position, labels in read_slice(self._store, self._grid, list(group)):
                if isinstance(labels, InputError):
                    self._damage[f"{labels}; until then its place seems empty"] = None
                else:
                    loaded[position] = _frozen(self._numbers[labels])
        return loaded

    def _check_readable(self, box: Box, known: Mapping[Shape, npt.NDArray[np.uint8]]) -> None:
        """Refuse to paint into what is stored but unread: the rest of it would be lost."""
        for position in self._grid.touching(box):
            block = self._grid.box_at(position)
            if position in self._stored and position not in known and not box.contains(block):
                raise InputError(
                    f"{self.path}: strokes of {block} cannot be read, so nothing can be painted "
                    "there; restore the store from a copy, or delete that chunk"
                )

    def _put(
        self,
        position: Shape,
        old: npt.NDArray[np.uint8] | None,
        where: tuple[slice, ...],
        labels: npt.NDArray[np.uint8],
    ) -> None:
        if old is None:
            # A stored block that cannot be read is known by nobody, and may be erased as a whole.
            if not labels.any() and position not in self._stored:
                return
            new = np.zeros(self._grid.box_at(position).shape, dtype=np.uint8)
        elif np.array_equal(old[where], labels):
            return
        else:
            new = old.copy()
        new[where] = labels
        self._blocks[position] = _frozen(new)
        self._blocks.move_to_end(position)
        self._changed.add(position)

    def _forget_erased(self, positions: Iterable[Shape]) -> None:
        for position in positions:
            labels = self._blocks.get(position)
            if labels is not None and position not in self._changed and not labels.any():
                del self._blocks[position]

    def _drop_unused(self) -> None:
        """Forget what was used longest ago and is on disk, down to the bound."""
        excess = len(self._blocks) - max(KEPT_BYTES // math.prod(self._grid.edges), 1)
        if excess <= 0:
            return
        busy = self._changed | self._under_way
        unused = (position for position in self._blocks if position not in busy)
        for position in list(itertools.islice(unused, excess)):
            del self._blocks[position]

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()


def _frozen(labels: Any) -> npt.NDArray[np.uint8]:
    """Return an array that nobody changes any more, because snapshots share it."""
    labels.flags.writeable = False
    return labels  # type: ignore[no-any-return]  # as it came
