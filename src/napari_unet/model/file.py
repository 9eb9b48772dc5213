"""Model files, read with suspicion: one `.safetensors` file whose header is checked first.

::

    | n: 8 bytes | header: n bytes of JSON | tensors, back to back to the end of the file |
                   `__metadata__` / "napari_unet" = `ModelHeader` as JSON
                   name -> dtype, shape, data_offsets

Nothing here unpickles or runs anything. Sizes are compared with the size of the file before
memory of that size is asked for, so a hostile file costs about the header's bound, 1 MiB.
The format is that of safetensors [1]_; its own reader accepts repeated names and 300,000 empty
tensors, so the header is first read here, and by that reader only when it has passed.

References
----------
.. [1] https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from napari_unet.core.header import SCHEMA_VERSION, ModelHeader
from napari_unet.errors import ConfigError, ModelFileError
from napari_unet.files import open_without_waiting
from napari_unet.model.strict_json import excerpt, parse_strict_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

METADATA_KEY = "napari_unet"
"""Entry of a safetensors file's `__metadata__` that holds our header."""

MAX_FILE_BYTES = 4 * 2**30
"""A billion parameters in fp32, far above any U-Net in use."""

MAX_HEADER_BYTES = 2**20
"""The header of the bundled model takes about 10 kB."""

MAX_TENSORS = 4096
"""The deepest architecture has about 200 tensors."""

MAX_DIMENSIONS = 8
"""Weights of a 2D convolution have 4."""

MAX_PARAMETERS = 10**9
"""Numbers in one file; the paper's net has 31 million."""

DTYPE_BYTES: dict[str, int] = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8}
"""Number types that a model file may hold, and the bytes that one number takes."""

_CHANGED = "it changed while it was read; try again when nothing writes it"
_LENGTH_BYTES = 8
_PIECE_BYTES = 2**20
_METADATA = "__metadata__"
_ALLOWED_METADATA = frozenset({METADATA_KEY, "format"})
_ENTRY_KEYS = frozenset({"dtype", "shape", "data_offsets"})

_OTHER_KINDS = (
    (b"PK\x03\x04", "a zip archive, such as a PyTorch checkpoint (.pth, .pt) or TorchScript"),
    (b"\x80", "a pickle, such as an old PyTorch checkpoint (.pth, .pt)"),
    (b"\x89HDF", "an HDF5 file, such as Keras weights"),
    (b"\x1f\x8b", "a gzip archive"),
)


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """What a model file says about one of its tensors.

    Parameters
    ----------
    dtype : str
        A key of `DTYPE_BYTES`.
    shape : tuple of int
        Positive edge lengths; () for a single number.
    offsets : tuple of int
        (start, stop) of its bytes, counted from the end of the header.
    """

    dtype: str
    shape: tuple[int, ...]
    offsets: tuple[int, int]

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model file whose header has been checked.

    Parameters
    ----------
    path : Path
        Where it lies, links resolved.
    header : ModelHeader
        What it says about itself.
    tensors : mapping
        Name -> `TensorEntry`; together they cover the rest of the file, without gaps.
    sha256 : str
        Of all its bytes, hexadecimal; empty until they have been read.
    """

    path: Path
    header: ModelHeader
    tensors: Mapping[str, TensorEntry]
    sha256: str = ""


def read_model_header(path: str | os.PathLike[str], *, hashed: bool = True) -> ModelFile:
    """Return what a model file says about itself; its tensors are not kept in memory.

    Parameters
    ----------
    path : path-like
        The `.safetensors` file.
    hashed : bool
        Read on to the end of the file for its hash. If not, only the header is read, and
        `ModelFile.sha256` stays empty.

    Raises
    ------
    ModelFileError
        If the file is missing, not a regular file, or not a model file of ours.
    """
    with _open(path) as (stream, size):
        file, head = _read_header(stream, size, Path(path))
        if not hashed:
            return file
        digest = hashlib.sha256(head)
        rest = size - len(head)
        while piece := stream.read(min(rest, _PIECE_BYTES)):
            digest.update(piece)
            rest -= len(piece)
    if rest:
        refuse(path, _CHANGED)
    return replace(file, sha256=digest.hexdigest())


def read_model_file(
    path: str | os.PathLike[str],
    *,
    expected_sha256: str | None = None,
    check: Callable[[ModelFile], None] | None = None,
) -> tuple[ModelFile, bytes]:
    """Return a model file's header and all its bytes, which are read once and never mapped.

    Parameters
    ----------
    path : path-like
        The `.safetensors` file.
    expected_sha256 : str or None
        Hexadecimal hash that the bytes must have; None = any.
    check : callable or None
        Called with the header and the tensor table before the tensors' bytes are read; may raise
        `ModelFileError` to refuse the file at no cost.

    Returns
    -------
    file : ModelFile
        With its hash.
    data : bytes
        The whole file; a safetensors reader accepts it.

    Raises
    ------
    ModelFileError
        If the file is missing, not a regular file, not a model file of ours, or has another hash.
    """
    with _open(path) as (stream, size):
        file, head = _read_header(stream, size, Path(path))
        if check is not None:
            check(file)
        stream.seek(0)
        try:
            data = stream.read(size)
        except MemoryError:
            refuse(path, f"its {size:,} bytes do not fit into memory; free some and try again")
    # The hash and the tensors are taken from `data`; what was checked above must be the same bytes.
    if len(data) != size or not data.startswith(head):
        refuse(path, _CHANGED)
    sha256 = hashlib.sha256(data).hexdigest()
    if expected_sha256 is not None and sha256 != expected_sha256.strip().lower():
        refuse(
            path,
            f"its SHA-256 is {sha256}, but {excerpt(expected_sha256)} was expected; "
            "fetch the model again, or name the hash of the file that you mean",
        )
    return replace(file, sha256=sha256), data


def parse_model_bytes(data: bytes, *, source: str) -> ModelFile:
    """Return the checked header of a model file that is already in memory.

    Raises
    ------
    ModelFileError
        As `read_model_file` would raise if `source` held these bytes.
    """
    file, _ = _read_header(io.BytesIO(data), len(data), Path(source))
    return ModelFile(Path(source), file.header, file.tensors, hashlib.sha256(data).hexdigest())


def read_plain_file(path: str | os.PathLike[str]) -> bytes:
    """Return all bytes of a regular file no larger than a model may be, of whatever kind.

    Raises
    ------
    ModelFileError
        If the file is missing, not a regular file, empty, or too large.
    """
    with _open(path) as (stream, size):
        data = stream.read(size)
    if len(data) != size:
        refuse(path, _CHANGED)
    return data


def refuse(path: str | os.PathLike[str], reason: str) -> NoReturn:
    """Raise the `ModelFileError` that names the file and the reason."""
    raise ModelFileError(f"model file {os.fspath(path)!r}: {reason}")


@contextmanager
def _open(path: str | os.PathLike[str]) -> Iterator[tuple[BinaryIO, int]]:
    """Give a stream of a regular file, and its size."""
    try:
        stream = open(path, "rb", opener=open_without_waiting)  # noqa: SIM115  # closed below
    except FileNotFoundError:
        refuse(path, "there is no such file; check the path, or see `napari-unet models list`")
    except IsADirectoryError:
        refuse(path, "it is a folder, not a file; name the .safetensors file itself")
    except (OSError, ValueError) as error:
        refuse(path, f"it cannot be opened ({error}); check its path and permissions")
    with stream:
        try:
            yield stream, _regular_size(os.fstat(stream.fileno()), path)
        except ModelFileError:
            raise
        except OSError as error:
            refuse(path, f"it cannot be read ({error}); check the disk or fetch the model again")


def _regular_size(status: os.stat_result, path: str | os.PathLike[str]) -> int:
    if not stat.S_ISREG(status.st_mode):
        refuse(path, "it is a pipe, socket or device, not a file; name a .safetensors file")
    if status.st_size > MAX_FILE_BYTES:
        refuse(
            path,
            f"it has {status.st_size:,} bytes, more than the {MAX_FILE_BYTES:,} of the "
            "largest model that is read; is it a model?",
        )
    if status.st_size == 0:
        refuse(path, "it is empty; fetch the model again")
    return status.st_size


def _read_header(stream: BinaryIO, size: int, path: Path) -> tuple[ModelFile, bytes]:
    """Return the checked header and the bytes it was read from."""
    prefix = stream.read(_LENGTH_BYTES)
    length = int.from_bytes(prefix, "little")
    room = size - _LENGTH_BYTES
    if len(prefix) < _LENGTH_BYTES or length > min(room, MAX_HEADER_BYTES):
        refuse(path, _what_it_is(prefix, length, room))
    text = stream.read(length)
    if len(text) != length:
        refuse(path, _CHANGED)
    table = _parse_json(text, "its header", path)
    metadata = table.pop(_METADATA, None)
    tensors = _check_table(table, room - length, path)
    header = _parse_model_header(metadata, path)
    return ModelFile(path.resolve(), header, tensors), prefix + text


def _what_it_is(prefix: bytes, length: int, room: int) -> str:
    """Say what is wrong with a file that does not begin as safetensors."""
    for magic, kind in _OTHER_KINDS:
        if prefix.startswith(magic):
            return (
                f"it is {kind}, which may run code when it is opened, so it is not; "
                "save the weights as a napari-unet .safetensors model"
            )
    if room >= length:
        return (
            f"its header claims {length:,} bytes, more than the {MAX_HEADER_BYTES:,} allowed; "
            "it is no model of napari-unet"
        )
    return (
        f"its header claims {length:,} bytes, but only {max(room, 0):,} follow; "
        "it is cut short or no .safetensors file; fetch the model again"
    )


def _parse_json(data: bytes | str, what: str, path: Path) -> dict[str, Any]:
    try:
        return parse_strict_json(data)
    except ValueError as error:
        refuse(
            path,
            f"{what} cannot be read as JSON ({excerpt(str(error), 200)}); it is damaged or no "
            ".safetensors model; fetch the model again",
        )


def _check_table(table: dict[str, Any], room: int, path: Path) -> dict[str, TensorEntry]:
    """Return the tensor table, whose entries cover `room` bytes without gap or overlap."""
    if len(table) > MAX_TENSORS:
        refuse(path, f"it holds {len(table):,} tensors; at most {MAX_TENSORS:,} may be")
    tensors = {name: _check_entry(name, entry, path) for name, entry in table.items()}
    end = 0
    for name, entry in sorted(tensors.items(), key=lambda item: item[1].offsets):
        if entry.offsets[0] != end:
            refuse(path, f"tensor {excerpt(name)} starts at byte {entry.offsets[0]}, not at {end}")
        end = entry.offsets[1]
    if end != room:
        refuse(
            path,
            f"its tensors take {end:,} bytes, but {room:,} follow the header; "
            "it is cut short or damaged; fetch the model again",
        )
    total = sum(entry.size for entry in tensors.values())
    if total > MAX_PARAMETERS:
        refuse(path, f"it holds {total:,} numbers; at most {MAX_PARAMETERS:,} may be")
    return tensors


def _check_entry(name: str, entry: object, path: Path) -> TensorEntry:
    what = f"tensor {excerpt(name)}"
    if not isinstance(entry, dict) or entry.keys() != _ENTRY_KEYS:
        refuse(path, f"{what} is described by {excerpt(entry)}, not by {sorted(_ENTRY_KEYS)}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        refuse(path, f"{what} has the type {excerpt(dtype)}; only {', '.join(DTYPE_BYTES)} may be")
    if (
        not _is_integers(shape)
        or len(shape) > MAX_DIMENSIONS
        or any(not 1 <= n <= MAX_FILE_BYTES for n in shape)
    ):
        refuse(path, f"{what} has the shape {excerpt(shape)}; all edges must be positive numbers")
    if not _is_integers(offsets) or len(offsets) != 2:
        refuse(path, f"{what} has the offsets {excerpt(offsets)}; two numbers must be")
    start, stop = offsets
    size = math.prod(shape) * DTYPE_BYTES[dtype]
    if start < 0 or stop - start != size:
        refuse(
            path,
            f"{what} of type {dtype} and shape {excerpt(shape)} takes {excerpt(size)} bytes, "
            f"but its offsets are {excerpt(offsets)}",
        )
    return TensorEntry(dtype, tuple(shape), (start, stop))


def _is_integers(value: object) -> bool:
    # bool is an int to Python, but `true` is no length.
    return isinstance(value, list) and all(type(item) is int for item in value)


def _parse_model_header(metadata: object, path: Path) -> ModelHeader:
    if not isinstance(metadata, dict) or METADATA_KEY not in metadata:
        refuse(
            path,
            f"it is a .safetensors file without {METADATA_KEY!r} metadata, so nothing says which "
            "network its tensors belong to; use a model saved by napari-unet",
        )
    unknown = metadata.keys() - _ALLOWED_METADATA
    if unknown or not all(isinstance(value, str) for value in metadata.values()):
        refuse(
            path,
            f"its metadata {excerpt(sorted(metadata))} must be texts named "
            f"{', '.join(sorted(_ALLOWED_METADATA))}; use a model saved by napari-unet",
        )
    values = _parse_json(metadata[METADATA_KEY], f"its {METADATA_KEY!r} metadata", path)
    version = values.get("schema_version")
    if type(version) is not int or version != SCHEMA_VERSION:
        refuse(
            path,
            f"its schema version is {excerpt(version)}, but this version of napari-unet reads "
            f"{SCHEMA_VERSION}; update napari-unet or use another model",
        )
    try:
        return ModelHeader.parse(values, source="header")
    except ConfigError as error:
        refuse(path, f"{excerpt(str(error), 600)}; use a model saved by napari-unet")
