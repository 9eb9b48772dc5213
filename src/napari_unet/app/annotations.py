"""Where the strokes of an image lie: in the user's own data folder, which is never read-only.

::

    STROKES/5d41402abc4b2a76/20261121-161500-3f2a/strokes.json   whose strokes these are
    STROKES/5d41402abc4b2a76/20261121-161500-3f2a/strokes.zarr   labels and classes
    STROKES/5d41402abc4b2a76/20261121-161500-3f2a/strokes.lock   held by the napari that paints

The first folder belongs to the image, the second to one annotation of it. No torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
from filelock import FileLock, Timeout

from napari_unet.core.settings import Settings
from napari_unet.errors import (
    ConfigError,
    InputError,
    LockedError,
    StorageError,
    UNetError,
)
from napari_unet.files import read_json, write_json_atomically
from napari_unet.io.annotation_buffer import AnnotationBuffer
from napari_unet.io.annotation_generations import current_generation, settle, sweep_generations
from napari_unet.io.annotation_store import create_annotation_store, open_annotation_store
from napari_unet.io.stored_objects import sweep

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_unet.core.classes import ClassInfo

logger = logging.getLogger(__name__)

STROKES_FOLDER = "NAPARI_UNET_STROKES"
"""Environment variable that names another folder for all strokes."""

RECORD_VERSION = 1
"""Version of strokes.json; others are passed over."""

_RECORD, _STORE, _LOCK = "strokes.json", "strokes.zarr", "strokes.lock"
_KEY_DIGITS = 16


class PaintedImage(Settings):
    """What tells an image from all others, as far as its strokes are concerned.

    Parameters
    ----------
    name : str
        What it is called, for people; what has no file is told apart by it, too.
    shape : tuple of int
        (z, y, x).
    dtype : str
        Type of its values.
    path : str or None
        Its file or folder; None = it exists only in memory.
    level : int
        Which level of a pyramid.
    channel : str or None
        Which channel of several.
    time : int or None
        Which point in time of several.
    checksum : int or None
        CRC-32 of some of its values, where there is no path.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    path: str | None = None
    level: int = 0
    channel: str | None = None
    time: int | None = None
    checksum: int | None = None

    @property
    def key(self) -> str:
        """Name of the folder with all its annotations."""
        facts = self.model_dump(mode="json", exclude={"dtype", "name"} if self.path else set())
        text = json.dumps(facts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]


class StrokesRecord(Settings):
    """What strokes.json says.

    Parameters
    ----------
    strokes_version : int
        `RECORD_VERSION`.
    image : PaintedImage
        What is painted on.
    created : str
        When, UTC.
    """

    strokes_version: int
    image: PaintedImage
    created: str


@dataclass(frozen=True, slots=True)
class StoredStrokes:
    """Strokes of an image on disk.

    Parameters
    ----------
    folder : Path
        Their own.
    image : PaintedImage
        What they are painted on.
    created : datetime
        When they were begun.
    changed : datetime
        When a stroke was last stored.
    classes : tuple of ClassInfo
        The k-th has the label k.
    blocks : int
        How many blocks have some label.
    """

    folder: Path
    image: PaintedImage
    created: datetime
    changed: datetime
    classes: tuple[ClassInfo, ...]
    blocks: int

    @property
    def path(self) -> Path:
        """Their annotation store."""
        return self.folder / _STORE


class OpenStrokes:
    """Strokes that can be painted: a buffer over their store, under a lock of the system.

    The lock ends with the process, however that ends.

    Parameters
    ----------
    folder : Path
        Their own.
    image : PaintedImage
        What they are painted on.
    buffer : AnnotationBuffer
        The labels.
    lock : FileLock or None
        Held; None = another program paints them, and here they are only looked at.

    See Also
    --------
    create_strokes, open_strokes, look_at_strokes
    """

    def __init__(
        self, folder: Path, image: PaintedImage, buffer: AnnotationBuffer, lock: FileLock | None
    ) -> None:
        self.folder, self.image, self.buffer = folder, image, buffer
        self._lock = lock

    @property
    def path(self) -> Path:
        """The annotation store; the same for as long as the strokes exist."""
        return self.folder / _STORE

    @property
    def is_writable(self) -> bool:
        """Whether the lock is held."""
        return self._lock is not None

    def close(self) -> None:
        """Let go of the lock; what is not flushed is lost. Without any label, all is deleted."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        is_empty = self.buffer.is_empty
        lock.release()
        if is_empty:
            _delete(self.folder)


def strokes_root() -> Path:
    """Return the folder with the strokes of all images; it may not exist."""
    chosen = os.environ.get(STROKES_FOLDER, "").strip()
    if chosen:
        return Path(chosen).expanduser()
    return Path(platformdirs.user_data_path("napari-unet", appauthor=False)) / "strokes"


def find_strokes(image: PaintedImage) -> list[StoredStrokes]:
    """Return the stored strokes of an image, those that changed last first.

    Those without any label are left out, and so is what cannot be read, which the log tells.
    """
    found = []
    for folder in _folders_of(image):
        try:
            strokes = _describe(folder)
        except (InputError, ConfigError, OSError, ValueError) as error:
            logger.warning("left out of the strokes: %s: %s", folder, error)
        else:
            if strokes.blocks:
                found.append(strokes)
    return sorted(found, key=lambda strokes: strokes.changed, reverse=True)


def create_strokes(
    image: PaintedImage, classes: Sequence[ClassInfo], origins: Sequence[str | None] = ()
) -> OpenStrokes:
    """Return new, empty strokes of an image, open for painting.

    Parameters
    ----------
    image : PaintedImage
        What is painted on.
    classes : sequence of ClassInfo
        The k-th has the label k.
    origins : sequence of (str or None)
        What the model that each class was taken from calls it.

    Raises
    ------
    StorageError
        If the folder of strokes cannot be written, or its file system has no locks.
    """
    _sweep_unpainted(image)
    now = datetime.now(UTC)
    name = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    folder = strokes_root() / image.key / name
    with _refusals(folder):
        folder.mkdir(parents=True)
    lock = _lock(folder)
    try:
        record = StrokesRecord(
            strokes_version=RECORD_VERSION, image=image, created=now.isoformat(timespec="seconds")
        )
        store = create_annotation_store(folder / _STORE, image.shape, classes, origins=origins)
        with _refusals(folder):
            # Last: what has a record is whole.
            write_json_atomically(folder / _RECORD, record.model_dump(mode="json"))
    except BaseException:
        lock.release()
        _delete(folder)
        raise
    return OpenStrokes(folder, image, AnnotationBuffer(store), lock)


def open_strokes(strokes: StoredStrokes) -> OpenStrokes:
    """Return stored strokes, open for painting; what a crash has left half done is put right.

    Raises
    ------
    LockedError
        If they are open already, in this program or another.
    InputError
        If they are damaged.
    StorageError
        If the folder cannot be written, or its file system has no locks.
    """
    lock = _lock(strokes.folder)
    try:
        settle(strokes.path)
        sweep_generations(strokes.path)
        with _refusals(strokes.folder):
            sweep(strokes.path)
        buffer = AnnotationBuffer(open_annotation_store(strokes.path))
    except BaseException:
        lock.release()
        raise
    return OpenStrokes(strokes.folder, strokes.image, buffer, lock)


def look_at_strokes(strokes: StoredStrokes) -> OpenStrokes:
    """Return stored strokes as they are now, to be looked at only.

    Raises
    ------
    InputError
        If they are damaged.
    """
    store = open_annotation_store(current_generation(strokes.path))
    return OpenStrokes(strokes.folder, strokes.image, AnnotationBuffer(store), None)


def _folders_of(image: PaintedImage) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        for folder in sorted((strokes_root() / image.key).iterdir()):
            if (folder / _RECORD).is_file():
                yield folder


def _describe(folder: Path) -> StoredStrokes:
    record = StrokesRecord.parse(read_json(folder / _RECORD), source=str(folder / _RECORD))
    if record.strokes_version != RECORD_VERSION:
        raise InputError(
            f"it has version {record.strokes_version}, this program reads {RECORD_VERSION}; use "
            "the program that wrote it"
        )
    store = open_annotation_store(current_generation(folder / _STORE))
    chunks = [store.path.joinpath("c", *map(str, p)) for p in store.positions()]
    times = [path.stat().st_mtime for path in (store.path, *chunks) if path.exists()]
    return StoredStrokes(
        folder,
        record.image,
        datetime.fromisoformat(record.created),
        datetime.fromtimestamp(max(times), tz=UTC),
        store.classes,
        len(chunks),
    )


def _lock(folder: Path) -> FileLock:
    # It may be let go of by another thread than took it.
    lock = FileLock(folder / _LOCK, timeout=0, thread_local=False)
    with _refusals(folder):
        try:
            lock.acquire()
        except Timeout:
            raise LockedError(
                f"the strokes in {folder} are open already, in another napari or another layer; "
                "close them there, or look at them only"
            ) from None
        except NotImplementedError as error:
            raise StorageError(
                f"{folder}: this file system has no locks, and two programs painting at once "
                f"would lose strokes; name another folder in {STROKES_FOLDER}"
            ) from error
    return lock


@contextlib.contextmanager
def _refusals(folder: Path) -> Iterator[None]:
    """Raise `StorageError` for what the system refuses inside."""
    try:
        yield
    except UNetError:
        raise
    except OSError as error:
        raise StorageError(
            f"{folder}: no strokes can be stored there: {error.strerror or error}; free some space "
            f"there, or name another folder in the environment variable {STROKES_FOLDER} and "
            "restart napari"
        ) from error


def _sweep_unpainted(image: PaintedImage) -> None:
    """Delete annotations of an image that a crash has left before the first stroke."""
    for folder in _folders_of(image):
        if not _is_unpainted(folder):
            continue
        with contextlib.suppress(StorageError):
            lock = _lock(folder)
            # Another program may have painted since.
            unpainted = _is_unpainted(folder)
            lock.release()
            if unpainted:
                _delete(folder)


def _is_unpainted(folder: Path) -> bool:
    """Return whether there is no label for sure; what cannot be read may have some."""
    try:
        return not _describe(folder).blocks
    except (UNetError, OSError, ValueError):
        return False


def _delete(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        # Of the image, if this was its only one.
        folder.parent.rmdir()
