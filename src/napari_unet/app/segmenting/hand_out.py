"""Handing out blocks to workers, and taking back what became of them.

At most a few blocks per worker are under way, so that a terabyte of them costs no more than a
slice. A block whose worker dies is tried again, then once more with nothing beside it, and fails if
that ends its worker, too: so it takes no other block with it.
"""

from __future__ import annotations

import itertools
import os
import queue
import time
from asyncio import CancelledError
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from napari_unet.app.segmenting.work_entry import BEGUN, compute_block
from napari_unet.app.segmenting.work_order import BlockOutcome
from napari_unet.core.events import Paused, Warned
from napari_unet.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from napari_unet.app.segmenting.crew import Crew
    from napari_unet.app.segmenting.work_order import WorkOrder
    from napari_unet.core.boxes import Shape
    from napari_unet.core.events import JobEvent
    from napari_unet.inference.control import JobControl
    from napari_unet.inference.queue import BlockQueue

    Enter: TypeAlias = Callable[[BlockOutcome], Iterator[JobEvent]]

Future: TypeAlias = Any
"""That of `distributed`, which is installed with an extra only, and typed in part."""

MAX_DEATHS = 3
"""Workers that a block may end; before the last one it is left alone with its worker."""

POLL_SECONDS = 0.1
"""How often it is looked whether the job was stopped."""

ANSWER_SECONDS = 10.0
"""How long a worker that has computed a block may take to say what became of it."""

TEND_SECONDS = 1.0
"""How often it is looked whether there are workers."""


class HandOut:
    """Hands out blocks and takes back what became of them.

    Parameters
    ----------
    crew : Crew
        The workers.
    order : WorkOrder
        The run.
    blocks : BlockQueue
        What is to be computed.
    enter : callable
        Enters an outcome, and yields the events of that.
    control : JobControl
        To stop, pause, and say where the user is looking.
    """

    def __init__(
        self,
        crew: Crew,
        order: WorkOrder,
        blocks: BlockQueue,
        enter: Enter,
        control: JobControl,
    ) -> None:
        self._crew = crew
        self._order = order
        self._blocks = blocks
        self._enter = enter
        self._control = control
        self._under_way: dict[Shape, Future] = {}
        self._begun: set[Shape] = set()
        self._again: list[Shape] = []
        self._alone: list[Shape] = []
        self._left_alone: set[Shape] = set()
        self._deaths: dict[Shape, int] = {}
        self._said: set[str] = set()
        self._attempts = itertools.count()
        self._news: queue.SimpleQueue[Shape] = queue.SimpleQueue()
        self._tended = float("-inf")
        crew.client.subscribe_topic(BEGUN, self._note_begun)

    def run(self) -> Generator[JobEvent]:
        """Have every block computed, until there is none left or the job is to end.

        Raises
        ------
        BackendError
            If there are no workers for too long, or they cannot compute.
        UNetError
            What a worker ran into that ends the run.
        """
        paused = False
        while not self._control.stopped:
            if self._control.paused != paused:
                paused = self._control.paused
                yield Paused(paused)
            if self._control.winding_down:
                self._call_off_waiting()
            elif not paused:
                self._hand_out()
            if not self._under_way and not paused:
                return
            yield from self._tend()
            try:
                index = self._news.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            future = self._under_way.pop(index, None)
            if future is not None:
                yield from self._take_back(index, future)

    def _tend(self) -> Iterator[JobEvent]:
        now = time.monotonic()
        if now - self._tended >= TEND_SECONDS:
            self._tended = now
            for sentence in self._crew.tend():
                yield Warned(sentence)

    def _hand_out(self) -> None:
        self._blocks.look_at(self._control.viewport)
        while len(self._under_way) < self._crew.window:
            index = self._next()
            if index is None:
                break
            self._submit(index)
        if not self._under_way and self._alone:
            index = self._alone.pop()
            self._left_alone.add(index)
            self._submit(index)

    def _next(self) -> Shape | None:
        if self._again:
            return self._again.pop()
        block = self._blocks.pop()
        return None if block is None else block.index

    def _submit(self, index: Shape) -> None:
        order = self._order
        key = f"block-{order.token}-{'.'.join(map(str, index))}-{next(self._attempts)}"
        future = self._crew.client.submit(compute_block, order, index, key=key, pure=False)
        self._under_way[index] = future
        future.add_done_callback(partial(self._tell, index))

    def _tell(self, index: Shape, future: Future) -> None:
        self._news.put(index)

    def _note_begun(self, event: tuple[float, Any]) -> None:
        token, *index = event[1]
        # A scheduler may serve others, too.
        if token == self._order.token:
            self._begun.add(tuple(index))

    def _call_off_waiting(self) -> None:
        """Take back the blocks that no worker has begun."""
        waiting = [index for index in self._under_way if index not in self._begun]
        self._crew.client.cancel([self._under_way.pop(index) for index in waiting])

    def _take_back(self, index: Shape, future: Future) -> Iterator[JobEvent]:
        self._begun.discard(index)
        if future.status == "finished":
            outcome = _answer(future)
            if outcome is not None:
                yield from self._take(outcome)
                return
        error = future.exception() if future.status == "error" else None
        if error is None:
            # It was lost, or its worker died with the answer: it is computed again.
            self._crew.require_connection()
            self._crew.client.cancel([future])
            self._again.append(index)
        elif type(error).__name__ in ("NoWorkerError", "NoValidWorkerError"):
            raise BackendError(self._crew.absence()) from error
        elif not _is_death(error):
            raise BackendError(
                f"a block could not be handed to a worker: {type(error).__name__}: {error}; "
                "scheduler and workers need the same napari-unet, Python and dask as this process"
            ) from error
        elif self._crew.left_in_order(error.last_worker):
            # Such as at the end of a job's time: that says nothing of the block.
            self._again.append(index)
        else:
            yield from self._bury(index, error.allowed_failures + 1)

    def _take(self, outcome: BlockOutcome) -> Iterator[JobEvent]:
        if outcome.error is not None:
            raise outcome.error from _system_error(outcome.errno)
        if outcome.called_off:
            self._again.append(outcome.index)
            return
        for note in outcome.notes:
            if note not in self._said:
                self._said.add(note)
                yield Warned(note)
        self._crew.note_progress()
        yield from self._enter(outcome)

    def _bury(self, index: Shape, deaths: int) -> Iterator[JobEvent]:
        """Decide what becomes of a block whose worker has died."""
        deaths = self._deaths[index] = self._deaths.get(index, 0) + deaths
        if index in self._left_alone:
            cause = (
                f"{deaths} workers ended while they computed it, the last one with nothing beside "
                "it; look for a lack of memory in the system's log"
            )
            yield from self._enter(BlockOutcome(index, None, cause))
            return
        alone = deaths >= MAX_DEATHS - 1
        (self._alone if alone else self._again).append(index)
        when = "at the end, with nothing beside it" if alone else "again"
        box = self._order.grid.block(index, self._order.region).write
        where = f"block {box.start}..{box.stop}"
        yield Warned(f"a worker ended while it had {where}, which is computed {when}")


def _answer(future: Future) -> BlockOutcome | None:
    """Return what a worker says of a block; None if it has died since.

    Its scheduler would compute it again, and the answer be waited for, while no one looks after the
    workers.
    """
    from distributed.scheduler import KilledWorker

    try:
        answer: BlockOutcome = future.result(timeout=ANSWER_SECONDS)
    except (OSError, CancelledError, KilledWorker):
        return None
    return answer


def _system_error(number: int | None) -> OSError | None:
    return None if number is None else OSError(number, os.strerror(number))


def _is_death(error: BaseException) -> bool:
    from distributed.scheduler import KilledWorker

    return isinstance(error, KilledWorker)
