"""Weights from ``.pth`` and ``.pt`` files, opened by a process that can be lost."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.errors import ModelFileError
from napari_unet.model.file import refuse
from napari_unet.model.state_dict_archive import check_archive
from napari_unet.model.state_dict_worker import NO_MEMORY, REFUSED
from napari_unet.model.strict_json import excerpt

if TYPE_CHECKING:
    from napari_unet.core.header import ModelHeader

WORKER = "napari_unet.model.state_dict_worker"
"""The module that is run."""

TIMEOUT_S = 300
"""Longest that a file may take, in seconds; the import of PyTorch included."""


def convert_state_dict(data: bytes, header: ModelHeader, *, source: str) -> bytes:
    """Return the bytes of a model file with the weights of a state dict, in fp32.

    Parameters
    ----------
    data : bytes
        Content of a file that `torch.save` wrote from a state dict of our network.
    header : ModelHeader
        What the model file is to say about itself.
    source : str
        Name of the file, for messages.

    Raises
    ------
    ModelFileError
        If the file is anything but a state dict of the header's architecture, or took too much
        memory or time.
    """
    check_archive(data, source)
    with tempfile.TemporaryDirectory(prefix="napari-unet-") as folder:
        # A copy: what is opened is what was hashed, whatever happens to the file meanwhile.
        copy, target = Path(folder) / "state_dict", Path(folder) / "model.safetensors"
        copy.write_bytes(data)
        try:
            done = subprocess.run(
                # -P: no module of the current folder may pass for one of ours.
                [sys.executable, "-P", "-m", WORKER, str(copy), str(target)],
                input=header.model_dump_json(),
                capture_output=True,
                text=True,
                encoding="utf-8",
                errors="replace",
                timeout=TIMEOUT_S,
                env=_environment(),
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ModelFileError(
                f"model file {source!r}: reading it took more than {TIMEOUT_S} s, so it was given "
                "up; is it a state dict?"
            ) from error
        if done.returncode != 0:
            refuse(source, _reason(done, folder))
        return target.read_bytes()


def _environment() -> dict[str, str]:
    settings = dict(os.environ) | {"PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1"}
    # It would make PyTorch run the file's code after all.
    settings.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    return settings


def _reason(done: subprocess.CompletedProcess[str], folder: str) -> str:
    """Say why the process that read a file gave up."""
    if done.returncode == REFUSED:
        # Its messages name the copies in the folder, which is gone by now.
        return re.sub(rf"model file '{re.escape(folder)}[^']*': ", "", done.stderr)
    if done.returncode == NO_MEMORY:
        return "reading it took more memory than a state dict of its size needs; is it one?"
    end = done.stderr.strip().splitlines()[-1:] or ["no message"]
    return (
        f"the process that read it ended with {done.returncode} ({excerpt(end[0], 200)}); "
        "is it a state dict?"
    )
