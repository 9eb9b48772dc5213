"""Looking at a state dict's archive without opening what is in it, and without PyTorch.

What is no plain archive of tensors is so refused in milliseconds. What passes is still opened only
by a process of its own, see `state_dict_worker`.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from typing import TYPE_CHECKING

from napari_unet.errors import ModelFileError
from napari_unet.model.file import MAX_TENSORS, refuse
from napari_unet.model.strict_json import excerpt

if TYPE_CHECKING:
    import os

MAX_PICKLE_BYTES = 2**20
"""A state dict's own pickle, which only names its tensors; ours take about 20 kB."""

MAX_ENTRIES = 2 * MAX_TENSORS
"""Files in the zip archive: one per tensor, and a few."""

REMEDY = "save it again with torch.save(net.state_dict(), FILE)"
"""What to do about a file that is no state dict."""

_TENSOR_MODULES = frozenset(
    {"collections", "torch", "torch._utils", "torch.serialization", "torch.storage"}
)


def check_archive(data: bytes, path: str | os.PathLike[str]) -> None:
    """Refuse what is no plain zip archive of a state dict, before PyTorch sees it.

    Raises
    ------
    ModelFileError
        If it is something else, is compressed, holds a program, or names functions of modules that
        no tensor needs.
    """
    if not data.startswith(b"PK\x03\x04"):
        refuse(path, f"it is not in the format of PyTorch 1.6 and newer; {REMEDY}")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            pickled = archive.read(_checked_pickle(entries, data, path))
    except ModelFileError:
        raise
    # A hostile archive can make zipfile raise almost anything.
    except Exception as error:
        raise ModelFileError(
            f"model file {str(path)!r}: it is a damaged archive ({excerpt(str(error))}); fetch it "
            "again"
        ) from error
    _check_opcodes(pickled, path)


def _checked_pickle(
    entries: list[zipfile.ZipInfo], data: bytes, path: str | os.PathLike[str]
) -> zipfile.ZipInfo:
    """Return the entry that names the tensors, if the list of files is that of a state dict."""
    if len(entries) > MAX_ENTRIES:
        refuse(path, f"it is an archive of {len(entries):,} files; at most {MAX_ENTRIES:,} may be")
    names = [entry.filename for entry in entries]
    if len(set(names)) != len(names):
        refuse(path, f"files in it have the same name; {REMEDY}")
    if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
        refuse(path, f"it is a TorchScript program, not a state dict; {REMEDY}")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        refuse(path, f"its files are compressed, which PyTorch never does; {REMEDY}")
    if sum(entry.file_size for entry in entries) > len(data):
        refuse(path, f"its files claim to be larger than it is; {REMEDY}")
    pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
    if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE_BYTES:
        refuse(
            path,
            f"it must hold one data.pkl of at most {MAX_PICKLE_BYTES:,} bytes, not "
            f"{[entry.file_size for entry in pickles[:9]]}; {REMEDY}",
        )
    return pickles[0]


def _check_opcodes(pickled: bytes, path: str | os.PathLike[str]) -> None:
    """Refuse a pickle that names anything but what makes tensors; nothing of it is run."""
    try:
        named = {
            # PyTorch reads protocols 2 and 3, which have no names on the stack.
            "the stack" if opcode.name == "STACK_GLOBAL" else str(argument).partition(" ")[0]
            for opcode, argument, _ in pickletools.genops(pickled)
            if opcode.name in ("GLOBAL", "INST", "STACK_GLOBAL")
        }
    # Damaged opcodes raise almost anything, too.
    except Exception as error:
        raise ModelFileError(
            f"model file {str(path)!r}: its data.pkl is damaged ({excerpt(str(error))}); fetch it "
            "again"
        ) from error
    if foreign := sorted(named - _TENSOR_MODULES):
        refuse(
            path,
            f"it holds something other than tensors, of {excerpt(foreign[0])}; it was not opened; "
            f"{REMEDY}",
        )
