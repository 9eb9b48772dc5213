"""What is in an output folder already: nothing, something of ours, or something to keep off."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_unet.errors import StorageError
from napari_unet.files import retry_denied
from napari_unet.io.ome_documents import OURS, read_group

if TYPE_CHECKING:
    from collections.abc import Iterator

State = Literal["incomplete", "complete"]
"""Whether a run over this label image has finished."""

_NO_SPACE = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


@dataclass(frozen=True, slots=True)
class OutputState:
    """A label image of ours that exists.

    Parameters
    ----------
    state : {"incomplete", "complete"}
        Whether its run has finished.
    attributes : dict
        What was given as provenance.
    labels_path : str
        Path of its array of full resolution.
    """

    state: State
    attributes: dict[str, Any]
    labels_path: str


def read_output_state(path: str | os.PathLike[str], name: str) -> OutputState | None:
    """Return what an output holds under a name; None when nothing is there.

    Parameters
    ----------
    path : path-like
        OUT.
    name : str
        NAME of the label image.

    Raises
    ------
    StorageError
        If OUT or its label image is there but was not made by us: we neither mix with it nor
        delete it.
    """
    out = Path(path)
    if not holds_our_group(out):
        return None
    labels = out / "labels" / name
    if _is_vacant(labels):
        return None
    with storage_errors(f"{labels}: its metadata cannot be read"):
        found = _read_checked(labels)
    if found is None or not isinstance(found[1].get(OURS), dict):
        raise StorageError(
            f"{labels} is there and was not made by napari-unet; choose another --name or --output"
        )
    attributes = dict(found[1][OURS])
    state: State = "complete" if attributes.pop("state", None) == "complete" else "incomplete"
    return OutputState(state, attributes, str(labels.absolute() / "0"))


ANOTHER_OUTPUT = "choose another --output; what is there is left as it is"
"""What to do about a folder that something is to be written to, and that is not ours."""


def holds_our_group(out: Path, remedy: str = ANOTHER_OUTPUT) -> bool:
    """Return whether OUT is a group of ours; False when nothing, or an empty folder, is there.

    Raises
    ------
    StorageError
        If something else is there; it ends with the remedy.
    """
    if not os.path.lexists(out):
        return False
    if not out.is_dir():
        raise StorageError(f"{out} is a file, not a zarr folder; {remedy}")
    with storage_errors(f"{out}: the folder cannot be read"):
        found = _read_checked(out)
        if found is None and _is_vacant(out):
            return False
    if found is None:
        raise StorageError(f"{out} is a folder with other content; {remedy}")
    if not isinstance(found[1].get(OURS), dict):
        raise StorageError(f"{out} is a zarr that napari-unet did not make; {remedy}")
    return True


def remove_group(path: Path) -> None:
    """Delete a group that was made by us, so that a crash in between leaves no half of it.

    Raises
    ------
    StorageError
        If it was not made by us, or cannot be deleted.
    """
    for leftover in path.parent.glob(f".{path.name}.*.old"):
        shutil.rmtree(leftover, ignore_errors=True)
    if not os.path.lexists(path):
        return
    with storage_errors(f"{path}: it cannot be replaced"):
        found = _read_checked(path)
        ours = found is not None and isinstance(found[1].get(OURS), dict)
        if not ours and not _is_vacant(path):
            raise StorageError(
                f"{path} was not made by napari-unet, so it is not deleted; choose another name"
            )
        moved = path.with_name(f".{path.name}.{secrets.token_hex(4)}.old")
        retry_denied(lambda: os.replace(path, moved))
        shutil.rmtree(moved, ignore_errors=True)


def check_writable(folder: Path) -> None:
    """Make a folder if needed, and make sure that files can be written into it.

    Raises
    ------
    StorageError
        Naming the folder and the cause.
    """
    with storage_errors(f"{folder}: this output folder cannot be written"):
        folder.mkdir(parents=True, exist_ok=True)
        # Where the system has files without a name, not even a crash leaves anything.
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"probe")
            probe.flush()
            os.fsync(probe.fileno())


@contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Raise `StorageError` for what the system refuses inside.

    Raises
    ------
    StorageError
        With the cause and the remedy: free space, or another folder.
    """
    try:
        yield
    except StorageError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        cause = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        if getattr(error, "errno", None) in _NO_SPACE:
            remedy = "free some space and run the same command again"
        elif isinstance(error, PermissionError):
            remedy = "choose a folder that you may write to, or ask for the permission"
        else:
            remedy = "check the disk, or choose another output"
        raise StorageError(f"{what}: {cause}; {remedy}") from error


def _read_checked(path: Path) -> tuple[int, dict[str, Any]] | None:
    return read_group(path) if path.is_dir() else None


def _is_vacant(path: Path) -> bool:
    """Return whether there is nothing, or only folders and what a crash leaves before a group."""
    if not os.path.lexists(path):
        return True
    if not path.is_dir():
        return False
    torn = (".partial", ".part", ".probe")
    return all(
        name.endswith(torn) or _is_half_a_group(Path(folder, name))
        for folder, _, files in os.walk(path)
        for name in files
    )


def _is_half_a_group(file: Path) -> bool:
    """Return whether a file is our attributes of a group whose ``.zgroup`` was never written."""
    if file.name != ".zattrs" or (file.parent / ".zgroup").exists():
        return False
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and isinstance(found.get(OURS), dict)
