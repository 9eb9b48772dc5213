"""What a worker does: compute one block, make it durable, and say what its ledger is to say.

A worker opens the image, loads the model and opens the output once, when it gets its first block.
Two of its threads take a block each, and take turns at the network: while one computes, the other
reads or stores. A worker never touches the ledger: that is for the process that hands out blocks.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from napari_unet.app.device_memory import FitKeeper
from napari_unet.app.models import find_model
from napari_unet.app.plan import plan_segment
from napari_unet.app.segmenting.journal import RUN, sealed
from napari_unet.app.segmenting.shard_files import block_number
from napari_unet.app.segmenting.work_order import BlockOutcome
from napari_unet.core.events import Warned
from napari_unet.errors import InputError, StorageError, UNetError
from napari_unet.inference.control import JobControl
from napari_unet.inference.device import choose_backend
from napari_unet.inference.engine import Tally, run_tiles
from napari_unet.inference.predictor import Predictor
from napari_unet.inference.tile_input import TileRun
from napari_unet.io.ome_zarr_writer import reopen_output
from napari_unet.io.output_state import read_output_state
from napari_unet.model.weights import load_model

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from napari_unet.app.plan import SegmentPlan
    from napari_unet.app.segmenting.work_order import WorkOrder
    from napari_unet.core.arrays import LabelSink
    from napari_unet.core.boxes import Box, Shape
    from napari_unet.core.job import SegmentJob
    from napari_unet.core.tiling import Block
    from napari_unet.io.ledger import BlockEntry
    from napari_unet.io.ome_zarr_writer import OutputImage

PROBE_SECONDS = 15.0
"""How long a worker looks for the probe: a network drive shows new files after some seconds."""


@dataclass(frozen=True)
class Seat:
    """A worker's place among the others.

    Parameters
    ----------
    place : int
        Its number; with several GPUs it decides which one is its own.
    threads : int
        CPU threads that it was started with.
    is_leaving : callable
        Returns whether it was told to end; then its blocks are given to others.
    """

    place: int
    threads: int
    is_leaving: Callable[[], bool] = lambda: False


class BlockWorker:
    """What a worker keeps from block to block: image, network and output.

    Parameters
    ----------
    order : WorkOrder
        The run.
    seat : Seat
        Where it sits.

    Raises
    ------
    UNetError
        If image, model or output cannot be opened, or are not those of the run.
    """

    def __init__(self, order: WorkOrder, seat: Seat) -> None:
        self.order = order
        if order.shared:
            require_probe(order)
        job = _with_model(order)
        device, threads = own_device(job.device, seat.place), order.threads or seat.threads
        backend = choose_backend(device, job.precision, tf32=job.tf32, threads=threads)
        plan = plan_segment(job, backend.default_tile_edge)
        _require_same(plan, order)
        self._plan = replace(plan, grid=order.grid, region=order.region)
        loaded = load_model(plan.model.path, expected_sha256=plan.model.sha256)
        net = _TakingTurns(loaded.net)
        size = job.batch_size or 1
        self._predictor = Predictor(net, order.grid.net, backend, size, job.average)
        self._keeper = FitKeeper(self._plan, backend, self._predictor)
        self._output: OutputImage = reopen_output(order.output)
        self._sink: LabelSink = self._output
        if order.shared:
            self._sink = _Fenced(self._output, order, seat)

    def compute(self, index: Shape) -> BlockOutcome:
        """Compute a block and make it durable.

        Raises
        ------
        StorageError
            If the disk refuses, or the output is of another run by now.
        BackendError
            If the device or the network fails.
        """
        order = self.order
        require_run(order)
        number = block_number(order.grid, order.region, index)
        slip, tally = _Slip(self._output), Tally()
        run = TileRun(
            self._plan.source,
            self._sink,
            order.grid,
            order.region,
            order.normalization,
            order.job.stored_probabilities is not None,
            journal=slip,
            share=range(number, number + 1),
        )
        try:
            events = run_tiles(run, self._predictor, JobControl(), tally)
            notes = tuple(event.message for event in events if isinstance(event, Warned))
        except _CalledOffError:
            return BlockOutcome(index, None, called_off=True)
        return BlockOutcome(index, slip.entry, slip.cause, notes, shrunk=self._keeper.shrunk())


class _TakingTurns(nn.Module):
    """A network that computes for one thread at a time."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self._turn = threading.Lock()

    def forward(self, images: Tensor) -> Tensor:
        """Return the network's answer, when it is this thread's turn."""
        with self._turn:
            answer: Tensor = self.net(images)
        return answer


class _Slip:
    """Notes what became of the one block; a `core.arrays.BlockJournal`."""

    def __init__(self, output: OutputImage) -> None:
        self.entry: BlockEntry | None = None
        self.cause = "it was not computed"
        self._output = output

    def enter_done(self, block: Block, nonfinite: int) -> None:
        """Make the block durable, read it back, and note what the ledger is to say."""
        self.entry = sealed(self._output, block, nonfinite)

    def enter_failed(self, block: Block, cause: str) -> None:
        """Note why the block could not be computed."""
        self.cause = cause


class _CalledOffError(Exception):
    """The worker was told to end; never leaves this module."""


class _Fenced:
    """An output that a worker no longer writes into when it should not; a `LabelSink`.

    A worker on another machine may go on for a while after the process that gave it a block has
    ended, or after the block was given to another worker.
    """

    def __init__(self, output: OutputImage, order: WorkOrder, seat: Seat) -> None:
        self._output = output
        self._order = order
        self._seat = seat

    @property
    def chunk_shape(self) -> Shape:
        """Edges of the smallest stored object of the label array, (z, y, x)."""
        return self._output.chunk_shape

    def write_labels(self, box: Box, labels: npt.NDArray[np.uint8]) -> None:
        """Store classes, if the output is still this run's."""
        self._require_wanted()
        self._output.write_labels(box, labels)

    def write_probabilities(self, box: Box, probabilities: npt.NDArray[np.float32]) -> None:
        """Store probabilities, if the output is still this run's."""
        self._require_wanted()
        self._output.write_probabilities(box, probabilities)

    def _require_wanted(self) -> None:
        if self._seat.is_leaving():
            raise _CalledOffError
        require_run(self._order)


def own_device(name: str, place: int) -> str:
    """Return the device of a worker: of several GPUs, one each.

    Parameters
    ----------
    name : str
        Device of the job. One that names a number is that of all workers.
    place : int
        Number of the worker, from 0.
    """
    import torch

    if name in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda:{place % torch.cuda.device_count()}"
    return name


def require_probe(order: WorkOrder) -> None:
    """Refuse to work where the output is not the one that the handing out process writes.

    Raises
    ------
    StorageError
        Naming the output.
    """
    deadline = time.monotonic() + PROBE_SECONDS
    while True:
        try:
            if order.probe.read_text() == order.token:
                return
        except (OSError, ValueError):
            pass
        if time.monotonic() > deadline:
            raise StorageError(
                f"{order.output.path}: there is no {order.probe.name}, which the process that "
                "hands out the blocks has written there, so this is another folder than its own; "
                "choose an --output on a file system that all workers share"
            )
        time.sleep(PROBE_SECONDS / 30)


def require_run(order: WorkOrder) -> None:
    """Refuse to write into an output that was begun anew since.

    Raises
    ------
    StorageError
        If it is of another run, or gone.
    """
    state = read_output_state(order.output.path, order.output.name)
    if state is None or state.attributes.get(RUN) != order.run:
        raise StorageError(
            f"{order.output.path}: {order.output.name!r} was begun anew by another process; this "
            "run ends without touching it"
        )


def _with_model(order: WorkOrder) -> SegmentJob:
    """Return the job with the model as this machine has it: the same file, or one of equal hash."""
    path, wanted = Path(order.job.model), order.fingerprint["model_sha256"]
    if path.is_file():
        return order.job
    try:
        if find_model(order.model).sha256 == wanted:
            return order.job.model_copy(update={"model": order.model})
    except UNetError:
        pass
    raise InputError(
        f"{path}: there is no such model file, nor a model {order.model!r} with the SHA-256 "
        f"{wanted}"
    )


def _require_same(plan: SegmentPlan, order: WorkOrder) -> None:
    if plan.fingerprint != order.fingerprint:
        plan.source.close()
        raise InputError(
            f"{plan.job.input}: a worker sees another image or model than the process that started "
            "it; leave both as they are while a job runs"
        )
