"""Where a block enters a worker process.

The scheduler loads this module, too, to pass the work on. So torch is loaded by workers alone.
"""

from __future__ import annotations

import re
import socket
import threading
import traceback
from typing import TYPE_CHECKING, Any

from napari_unet.app.segmenting.work_order import BlockOutcome
from napari_unet.errors import BackendError, UNetError

if TYPE_CHECKING:
    from napari_unet.app.segmenting.block_work import BlockWorker
    from napari_unet.app.segmenting.work_order import WorkOrder
    from napari_unet.core.boxes import Shape

BEGUN = "napari-unet-block-begun"
"""Topic under which a worker says which block it has begun."""

_OPENING = threading.Lock()
"""Of the threads of a worker the first one opens what all of them need."""

_KEPT = "_napari_unet_block_worker"


def compute_block(order: WorkOrder, index: Shape) -> BlockOutcome:
    """Compute a block in the worker process that this is called in.

    Nothing is raised: an error whose traceback cannot be sent would never arrive.
    """
    from distributed import get_worker

    process = get_worker()
    process.log_event(BEGUN, [order.token, *index])
    try:
        return _worker_of(process, order).compute(index)
    except UNetError as error:
        return BlockOutcome(index, None, error=_located(error, order), errno=_errno_of(error))
    except Exception as error:  # noqa: BLE001  # raised by the process that handed the block out
        text = "".join(traceback.format_exception(error))
        failed = BackendError(f"a worker failed with {type(error).__name__}: {error}\n{text}")
        return BlockOutcome(index, None, error=_located(failed, order))


def forget_run(token: str, dask_worker: Any) -> None:
    """Let go of what a worker process, which dask names, has kept for a run.

    A block that is still being computed holds on to it to its end.
    """
    with _OPENING:
        kept: BlockWorker | None = getattr(dask_worker, _KEPT, None)
        if kept is not None and kept.order.token == token:
            delattr(dask_worker, _KEPT)


def place_of(name: object) -> int:
    """Return the number at the end of a worker's name, which tells it from others beside it.

    Examples
    --------
    >>> [place_of(name) for name in (3, "SLURMCluster-2", "tls://node-7:40001")]
    [3, 2, 0]
    """
    match = re.search(r"(?:^|-)(\d+)$", str(name))
    return int(match.group(1)) if match else 0


def _worker_of(process: Any, order: WorkOrder) -> BlockWorker:
    """Return what the process keeps for a run; made for the first block of it."""
    from distributed.core import Status

    from napari_unet.app.segmenting.block_work import BlockWorker, Seat

    leaving = (Status.closing, Status.closing_gracefully, Status.closed, Status.failed)
    with _OPENING:
        kept: BlockWorker | None = getattr(process, _KEPT, None)
        if kept is None or kept.order.token != order.token:
            seat = Seat(
                place_of(process.name), process.state.nthreads, lambda: process.status in leaving
            )
            kept = BlockWorker(order, seat)
            setattr(process, _KEPT, kept)
    return kept


def _located(error: UNetError, order: WorkOrder) -> UNetError:
    """Return an error that says on which machine it happened, where that is not plain."""
    if not order.shared:
        return error
    return type(error)(
        f"the worker on {socket.gethostname()}: {error} (workers must see image, model and output "
        "under the same paths)"
    )


def _errno_of(error: BaseException) -> int | None:
    """Return the error number of the system behind an error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            return cause.errno
        cause = cause.__cause__
    return None
