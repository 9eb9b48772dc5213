"""Runs of the command in processes of their own, in which something goes wrong."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import secrets
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from tests.faults.layer import Fault, Layer
from tests.nets import save_lively_model
from zarr.codecs import Crc32cCodec, ZstdCodec

from napari_unet.app.segmenting.journal import ledger_path
from napari_unet.io.ledger import read_ledger
from napari_unet.io.output_state import read_output_state

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.process import BaseProcess

NAME = "found"
OBJECTS = "found-objects"
METADATA = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
LEFTOVERS = (".partial", ".part", ".probe", ".old")
PATIENCE_S = 120

# One process imports torch, and each run is a copy of it. "spawn" where there is no fork.
METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
CONTEXT: Any = multiprocessing.get_context(METHOD)
if METHOD == "forkserver":
    CONTEXT.set_forkserver_preload(["napari_unet.app.verify", "napari_unet.cli.main"])


@dataclass(frozen=True)
class Ended:
    """How a process ended: exit code (below 0: signal), what it said, what it did to the disk."""

    code: int
    said: str
    steps: tuple[str, ...]


@dataclass
class Case:
    """A job: what to segment, into a new place for every attempt.

    Parameters
    ----------
    folder : Path
        Holds image, model and attempts.
    options : sequence of str
        Options of the command.
    has_objects : bool
        Whether objects are found, too.
    """

    folder: Path
    options: Sequence[str] = ()
    has_objects: bool = False
    image: Path = field(init=False)
    whole: dict[str, bytes] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.image = self.folder / "image.zarr"
        if not self.image.exists():
            make_image(self.image)
        if not (self.folder / "tiny.safetensors").exists():
            save_lively_model(self.folder / "tiny.safetensors")

    def segment(self, out: Path, *more: str) -> list[str]:
        """Return the words of the command."""
        words = ["segment", str(self.image), "--model", str(self.folder / "tiny.safetensors")]
        words += ["--output", str(out), "--name", NAME, "--device", "cpu", "--threads", "1"]
        words += ["--tile-size", "16", "--block-size", "32", "--progress", "none"]
        return [*words, *self.options, *more]

    def objects(self, out: Path, *more: str) -> list[str]:
        """Return the words of the command that finds objects."""
        return ["objects", str(out), "--method", "components", "--progress", "none", *more]

    def undisturbed(self) -> dict[str, bytes]:
        """Return the chunks of a run that nothing disturbs."""
        if not self.whole:
            with self.attempt() as out:
                ends = [run(self.segment(out))]
                if self.has_objects:
                    ends.append(run(self.objects(out)))
                if any(ended.code for ended in ends):
                    raise RuntimeError(ends[-1].said)
                self.whole = stored(out)
        return self.whole

    @contextlib.contextmanager
    def attempt(self) -> Iterator[Path]:
        """Make a new place for an output; it is gone afterwards."""
        place = self.folder / f"attempt {secrets.token_hex(4)}"
        place.mkdir()
        try:
            yield place / "out.zarr"
        finally:
            shutil.rmtree(place)

    def wrong(self, out: Path) -> list[str]:
        """Return what differs from an undisturbed run: chunks, the state, leftovers."""
        whole, now = self.undisturbed(), stored(out)
        names = whole.keys() | now.keys()
        bad = sorted(name for name in names if whole.get(name) != now.get(name))
        for label in (NAME, OBJECTS) if self.has_objects else (NAME,):
            state = read_output_state(out, label)
            if state is None or state.state != "complete":
                bad.append("state")
        # Groups that several label images share are not swept: another run may be writing there.
        shared = (out, out / "labels", out / "probabilities", out / "tables")
        left = [
            str(path)
            for path in out.parent.rglob("*")
            if path.name.endswith(LEFTOVERS)
            and not (path.parent in shared and path.name.startswith((".z", "..z")))
        ]
        return bad + left


def make_image(path: Path, shape: tuple[int, int, int] = (2, 60, 48)) -> None:
    """Write an OME-Zarr of random voxels with two levels."""
    values = np.random.default_rng(3).integers(0, 255, shape, dtype=np.uint8)
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [{"type": "scale", "scale": [1.0, step, step]}],
        }
        for level, step in enumerate((1.0, 2.0))
    ]
    axes = [{"name": letter, "type": "space"} for letter in "zyx"]
    group = zarr.create_group(
        path,
        attributes={
            "ome": {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
        },
    )
    for level, data in enumerate((values, values[:, ::2, ::2])):
        array = group.create_array(
            str(level),
            shape=data.shape,
            chunks=(1, 32, 32),
            dtype=data.dtype,
            compressors=[ZstdCodec(), Crc32cCodec()],
            dimension_names=("z", "y", "x"),
        )
        array[:] = data


def stored(out: Path) -> dict[str, bytes]:
    """Return all chunks of an output, byte by byte."""
    others = (*METADATA, *LEFTOVERS)
    files = (path for path in out.rglob("*") if path.is_file() and not path.name.endswith(others))
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def done_blocks(out: Path) -> int:
    """Return how many blocks are done, by the ledger."""
    content = read_ledger(ledger_path(out, NAME))
    return 0 if content is None else len(content.done)


def start(words: Sequence[str], said: Path, fault: Fault | None = None) -> BaseProcess:
    """Start the command in a process of its own, that writes what it says into a file."""
    # It may be killed before it says anything.
    said.touch()
    process: BaseProcess = CONTEXT.Process(target=_work, args=(list(words), said, fault))
    process.start()
    return process


def finish(process: BaseProcess, said: Path) -> Ended:
    """Wait for the end of a process.

    Raises
    ------
    TimeoutError
        If it does not come.
    """
    process.join(PATIENCE_S)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"the command hangs; it said: {said.read_text()}")
    code, log = process.exitcode, _log(said)
    steps = tuple(log.read_text().split()) if log.exists() else ()
    process.close()
    return Ended(code, said.read_text(errors="replace"), steps)


def run(words: Sequence[str], fault: Fault | None = None) -> Ended:
    """Run the command in a process of its own to its end, whatever that is."""
    # Beside the attempts: what is said is no part of the output.
    said = Path(tempfile.gettempdir()) / f"said-{os.getpid()}-{secrets.token_hex(4)}.txt"
    try:
        return finish(start(words, said, fault), said)
    finally:
        said.unlink(missing_ok=True)
        _log(said).unlink(missing_ok=True)


def _log(said: Path) -> Path:
    return said.with_suffix(".steps")


def _work(words: list[str], said: Path, fault: Fault | None) -> None:
    """Be the process."""
    # Left open: what ends the process is told after this.
    sys.stdout = sys.stderr = said.open("w", buffering=1)
    from napari_unet.cli.main import app

    if fault is None:
        app(words)
        return
    layer = Layer(fault, _log(said))
    layer.install()
    try:
        app(words)
    finally:
        layer.over()
