"""What a worker does: compute one block, make it durable, and say what its ledger is to say.

A worker opens the image, loads the model and opens the output once, when it gets its first block.
Two of its threads take a block each, and take turns at the network: while one computes, the other
reads or stores. A worker never touches the ledger: that is for the process that hands out blocks.
"""

from __future__ import annotations

import threading
import traceback
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor, nn

from napari_unet.app.plan import plan_segment
from napari_unet.app.segmenting.journal import RUN, sealed
from napari_unet.app.segmenting.shard_files import block_number
from napari_unet.core.events import Warned
from napari_unet.errors import BackendError, InputError, StorageError, UNetError
from napari_unet.inference.control import JobControl
from napari_unet.inference.device import choose_backend
from napari_unet.inference.engine import Tally, run_tiles
from napari_unet.inference.predictor import Predictor
from napari_unet.inference.tile_input import TileRun
from napari_unet.io.ome_zarr_writer import reopen_output
from napari_unet.io.output_state import read_output_state
from napari_unet.model.weights import load_model

if TYPE_CHECKING:
    from napari_unet.app.plan import SegmentPlan
    from napari_unet.core.boxes import Box, Shape
    from napari_unet.core.job import SegmentJob
    from napari_unet.core.normalization import Normalization
    from napari_unet.core.tiling import Block, TileGrid
    from napari_unet.io.ledger import BlockEntry
    from napari_unet.io.ome_zarr_writer import OutputImage
    from napari_unet.io.output_spec import OutputSpec


@dataclass(frozen=True)
class WorkOrder:
    """What is the same for all blocks of a run; small, and fit to be sent to another process.

    Parameters
    ----------
    job : SegmentJob
        With absolute paths.
    fingerprint : dict
        What the worker must find, too: the same image, and the model's SHA-256.
    grid : TileGrid
        Blocks and tiles.
    region : Box
        What is segmented.
    normalization : Normalization
        Of the volume.
    output : OutputSpec
        Where blocks go; it was created before.
    run : str
        The output must still be of this run.
    threads : int
        CPU threads of one worker.
    """

    job: SegmentJob
    fingerprint: dict[str, object]
    grid: TileGrid
    region: Box
    normalization: Normalization
    output: OutputSpec
    run: str
    threads: int


@dataclass(frozen=True)
class BlockOutcome:
    """What became of a block.

    Parameters
    ----------
    index : tuple of int
        Its position in the block grid.
    entry : BlockEntry or None
        What the ledger is to say; its data is durable. None = it could not be computed.
    cause : str
        Why not.
    notes : tuple of str
        What the user should know, in sentences.
    error : UNetError or None
        What ends the whole run, such as a disk that is full.
    errno : int or None
        Error number of the system behind `error`: causes do not travel between processes.
    """

    index: Shape
    entry: BlockEntry | None
    cause: str = ""
    notes: tuple[str, ...] = ()
    error: UNetError | None = None
    errno: int | None = None


class BlockWorker:
    """What a worker keeps from block to block: image, network and output.

    Parameters
    ----------
    order : WorkOrder
        The run.
    place : int
        Number of the worker; with several GPUs it decides which one is its own.

    Raises
    ------
    UNetError
        If image, model or output cannot be opened, or are not those of the run.
    """

    def __init__(self, order: WorkOrder, place: int) -> None:
        self.order = order
        job = order.job
        backend = choose_backend(
            own_device(job.device, place), job.precision, tf32=job.tf32, threads=order.threads
        )
        plan = plan_segment(job, backend.default_tile_edge)
        _require_same(plan, order)
        self._plan = replace(plan, grid=order.grid, region=order.region)
        loaded = load_model(plan.model.path, expected_sha256=plan.model.sha256)
        net = _TakingTurns(loaded.net)
        size = job.batch_size or 1
        self._predictor = Predictor(net, order.grid.net, backend, size, job.average)
        self._output: OutputImage = reopen_output(order.output)

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
        _require_run(order)
        number = block_number(order.grid, order.region, index)
        slip, tally = _Slip(self._output), Tally()
        run = TileRun(
            self._plan.source,
            self._output,
            order.grid,
            order.region,
            order.normalization,
            order.job.stored_probabilities is not None,
            journal=slip,
            share=range(number, number + 1),
        )
        events = run_tiles(run, self._predictor, JobControl(), tally)
        notes = tuple(event.message for event in events if isinstance(event, Warned))
        return BlockOutcome(index, slip.entry, slip.cause, notes)


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


def compute_block(order: WorkOrder, index: Shape) -> BlockOutcome:
    """Compute a block in the worker process that this is called in.

    Nothing is raised: an error whose traceback cannot be sent would never arrive.
    """
    from distributed import get_worker

    process = get_worker()
    process.log_event(BEGUN, list(index))
    try:
        with _OPENING:
            worker: BlockWorker | None = getattr(process, _KEPT, None)
            if worker is None or worker.order.run != order.run:
                worker = BlockWorker(order, int(process.name))
                setattr(process, _KEPT, worker)
        return worker.compute(index)
    except UNetError as error:
        return BlockOutcome(index, None, error=error, errno=_errno_of(error))
    except Exception as error:  # noqa: BLE001  # raised by the process that handed the block out
        text = "".join(traceback.format_exception(error))
        failed = BackendError(f"a worker failed with {type(error).__name__}: {error}\n{text}")
        return BlockOutcome(index, None, error=failed)


BEGUN = "napari-unet-block-begun"
"""Topic under which a worker says which block it has begun."""

_OPENING = threading.Lock()
"""Of the threads of a worker the first one opens what all of them need."""

_KEPT = "_napari_unet_block_worker"


def _errno_of(error: BaseException) -> int | None:
    """Return the error number of the system behind an error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            return cause.errno
        cause = cause.__cause__
    return None


def _require_same(plan: SegmentPlan, order: WorkOrder) -> None:
    if plan.fingerprint != order.fingerprint:
        plan.source.close()
        raise InputError(
            f"{plan.job.input}: a worker sees another image or model than the process that started "
            "it; leave both as they are while a job runs"
        )


def _require_run(order: WorkOrder) -> None:
    """Refuse to write into an output that was begun anew since."""
    state = read_output_state(order.output.path, order.output.name)
    if state is None or state.attributes.get(RUN) != order.run:
        raise StorageError(
            f"{order.output.path}: {order.output.name!r} was begun anew by another process; this "
            "run ends without touching it"
        )
