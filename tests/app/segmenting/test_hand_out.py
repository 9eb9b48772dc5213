"""What becomes of blocks whose workers die, also where their scheduler tries again itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from distributed.scheduler import KilledWorker

from napari_unet.app.segmenting.crew import Crew
from napari_unet.app.segmenting.hand_out import HandOut
from napari_unet.app.segmenting.work_order import BlockOutcome
from napari_unet.core.boxes import Box
from napari_unet.core.receptive import unet_geometry
from napari_unet.core.tiling import TileGrid
from napari_unet.errors import BackendError
from napari_unet.inference.control import JobControl
from napari_unet.inference.queue import BlockQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_unet.core.boxes import Shape

GRID = TileGrid((4, 32, 32), unet_geometry(2), (1, 32, 32), (1, 32, 32))


class Scheduler:
    """A client of a scheduler whose workers do at once what a table says.

    Parameters
    ----------
    does : callable
        Takes a block's index and how often it came before; returns an outcome or an exception.
    """

    status = "running"

    def __init__(self, does: Callable[[Shape, int], BlockOutcome | Exception]) -> None:
        self.does = does
        self.came: list[Shape] = []
        self.under_way: list[Shape] = []
        self.most = 0

    def submit(self, function: object, order: object, index: Shape, **_: object) -> Any:
        answer = self.does(index, self.came.count(index))
        self.came.append(index)

        def result(timeout: float) -> Any:
            if isinstance(answer, TimeoutError):
                raise answer
            return answer

        fine = isinstance(answer, BlockOutcome | TimeoutError)
        return SimpleNamespace(
            status="finished" if fine else "error",
            result=result,
            exception=lambda: answer,
            add_done_callback=lambda tell: tell(None),
        )

    def subscribe_topic(self, *_: object) -> None:
        pass

    def cancel(self, *_: object) -> None:
        pass

    def get_events(self, topic: str) -> tuple[Any, ...]:
        return ((0.0, {"action": "closing-worker"}),) if topic == "orderly" else ()

    def nthreads(self) -> dict[str, int]:
        return {"worker": 1}


def hand_out(scheduler: Scheduler) -> list[BlockOutcome]:
    """Let all blocks of a grid be computed; return the outcomes in the order they came."""
    order: Any = SimpleNamespace(token="ab", grid=GRID, region=Box.of_shape(GRID.shape))
    outcomes: list[BlockOutcome] = []

    def enter(outcome: BlockOutcome) -> Iterator[Any]:
        outcomes.append(outcome)
        yield from ()

    blocks = BlockQueue(GRID, order.region)
    list(HandOut(Crew(scheduler), order, blocks, enter, JobControl()).run())
    return outcomes


def done(index: Shape) -> BlockOutcome:
    return BlockOutcome(index, object())  # type: ignore[arg-type]


def killed(address: str, allowed: int = 0) -> KilledWorker:
    return KilledWorker("key", SimpleNamespace(address=address), allowed)  # type: ignore[arg-type]


BAD = (1, 0, 0)


@pytest.mark.parametrize(("allowed", "attempts", "deaths"), [(0, 3, 3), (3, 2, 8), (1, 2, 4)])
def test_a_block_that_always_kills_fails_alone(allowed: int, attempts: int, deaths: int) -> None:
    def does(index: Shape, before: int) -> BlockOutcome | Exception:
        return killed("killed", allowed) if index == BAD else done(index)

    scheduler = Scheduler(does)
    outcomes = hand_out(scheduler)
    assert scheduler.came.count(BAD) == attempts
    # Alone, after all others.
    assert scheduler.came[-1] == BAD
    (failed,) = (outcome for outcome in outcomes if outcome.entry is None)
    assert failed.cause.startswith(f"{deaths} workers ended while they computed it")
    assert sorted(outcome.index for outcome in outcomes) == [(k, 0, 0) for k in range(4)]


def test_workers_that_leave_in_order_are_not_held_against_a_block() -> None:
    def does(index: Shape, before: int) -> BlockOutcome | Exception:
        return killed("orderly") if index == BAD and before < 5 else done(index)

    scheduler = Scheduler(does)
    outcomes = hand_out(scheduler)
    assert scheduler.came.count(BAD) == 6
    assert [outcome.entry is None for outcome in outcomes] == [False] * 4


@pytest.mark.parametrize("lost", ["answer", "called off"])
def test_a_block_whose_answer_is_lost_is_computed_again(lost: str) -> None:
    def does(index: Shape, before: int) -> BlockOutcome | Exception:
        if index == BAD and not before:
            return TimeoutError() if lost == "answer" else BlockOutcome(BAD, None, called_off=True)
        return done(index)

    scheduler = Scheduler(does)
    outcomes = hand_out(scheduler)
    assert scheduler.came.count(BAD) == 2
    assert [outcome.entry is None for outcome in outcomes] == [False] * 4


def test_what_never_reaches_a_worker_ends_the_run() -> None:
    def does(index: Shape, before: int) -> BlockOutcome | Exception:
        return ModuleNotFoundError("No module named 'napari_unet'")

    with pytest.raises(BackendError, match="need the same napari-unet, Python and dask"):
        hand_out(Scheduler(does))


def test_a_scheduler_that_has_ended_ends_the_run() -> None:
    scheduler = Scheduler(lambda index, before: done(index))
    scheduler.status = "closed"
    with pytest.raises(BackendError, match="has ended"):
        hand_out(scheduler)
