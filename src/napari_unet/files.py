"""Writing a file so that readers see the old content or the new one, never a part."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

REPLACE_TRIES = 10
"""Attempts of a rename that Windows denies because a scanner or indexer holds the target open."""

MAX_JSON_BYTES = 2**20
"""Longest JSON of unknown origin that is read; in memory it takes up to thirty times as much."""

_LOST = (errno.EIO, errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_DENIED = (5, 32)  # ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION
_FIRST_DELAY_S = 0.01


def write_atomically(
    path: str | os.PathLike[str], data: bytes, *, backup: bool = False, overwrite: bool = True
) -> None:
    """Replace the content of a file; it survives a power cut once this returns.

    Parameters
    ----------
    path : path-like
        File to write; its folder must exist. A symbolic link is followed, not replaced.
    data : bytes
        The new content.
    backup : bool
        Keep the previous content, if any, as ``NAME.bak``.
    overwrite : bool
        If not, a file that exists is an error; see `rename_new`.

    Raises
    ------
    FileExistsError
        If there is a file and `overwrite` is False.
    OSError
        If the folder cannot be written or is full; the old content is then untouched.

    Notes
    -----
    The mode is 0666 less the umask, as for any new file: a temporary file's usual 0600 would lock
    out colleagues who share the folder.
    """
    target = Path(os.path.realpath(path))
    part = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)
        with open(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if backup and target.exists():
            _keep_copy(target)
        if overwrite:
            retry_denied(lambda: os.replace(part, target))
        else:
            rename_new(part, target)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    sync_folder(target.parent)


def rename_new(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Give a file another name in its file system; no file of that name is replaced.

    Raises
    ------
    FileExistsError
        If `target` exists; `source` is then untouched.
    OSError
        If the folder cannot be written.

    Notes
    -----
    A hard link is refused by the system if the name is taken, so that of two processes one wins.
    Where there are no hard links, a file made in the same instant may still be replaced.
    """
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(target))
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        retry_denied(lambda: os.replace(source, target))
    else:
        os.unlink(source)
    sync_folder(Path(target).parent)


def write_json_atomically(
    path: str | os.PathLike[str], value: Any, *, backup: bool = False
) -> None:
    """Replace a file by the indented UTF-8 JSON of `value`; see `write_atomically`.

    Raises
    ------
    ValueError, TypeError
        If `value` is no JSON: NaN, infinity or a foreign type.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(path, text.encode() + b"\n", backup=backup)


def read_json(path: str | os.PathLike[str], max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Return the value of a UTF-8 JSON file.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not JSON in UTF-8, is no regular file, or is longer than `max_bytes`.
    """
    try:
        return json.loads(read_bounded(path, max_bytes))
    except RecursionError as error:
        raise ValueError(f"{os.fspath(path)}: JSON is nested too deeply") from error


def read_bounded(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """Return all bytes of a regular file that has at most `max_bytes`.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is a folder, pipe or device, or is longer; at most one byte more is then read.
    """
    with open(path, "rb", opener=open_without_waiting) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise ValueError(f"{os.fspath(path)}: it is no regular file")
        data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError(f"{os.fspath(path)}: it is larger than {max_bytes / 2**20:.0f} MB")
    return data


def open_without_waiting(path: str, flags: int) -> int:
    """Return a descriptor; an `opener` of `open` for which a pipe without a writer is no trap."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def retry_denied(action: Callable[[], object]) -> None:
    """Do `action`; repeat it while Windows denies access for a moment.

    Raises
    ------
    OSError
        What `action` raised last.
    """
    delay = _FIRST_DELAY_S
    for _ in range(REPLACE_TRIES - 1):
        try:
            action()
            return
        except OSError as error:
            if getattr(error, "winerror", None) not in _DENIED:
                raise
        time.sleep(delay)
        delay *= 2
    action()


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Make the names in a folder survive a power cut, where the system offers that.

    Raises
    ------
    OSError
        If the disk fails or is full.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        # Windows cannot open folders; some network file systems refuse to sync one.
        if error.errno in _LOST:
            raise


_BINARY: int = getattr(os, "O_BINARY", 0)


def _keep_copy(target: Path) -> None:
    part = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    try:
        shutil.copyfile(target, part)
        retry_denied(lambda: os.replace(part, target.with_name(target.name + ".bak")))
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
