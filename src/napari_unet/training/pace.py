"""The time of a training: what is spent, what a step and a validation cost, and what is left.

Nothing here changes the weights when a training is counted in steps. When it has a budget in
seconds, it must *end* within it, the last validation and checkpoint included: their time is
reserved from the first time it is known, as is that of one more step. Only what nobody has measured
yet can overrun: the first step, and the first validation or checkpoint when it alone takes longer
than the rest of the budget.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections import deque
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Clock: TypeAlias = "Callable[[], float]"
"""Returns seconds that never run backwards."""

Duty = Literal["step", "validation", "saving"]

_CLOSING: tuple[Duty, ...] = ("validation", "saving")
"""What follows the last step."""

RECENT = 10
"""Steps that the pace is taken from: enough to even out, few enough to follow a busy machine."""

MARGIN = 1.25
"""A reserve is the longest recent duration times this: another program may slow the next one."""

VALIDATION_INTERVAL = 0.1
"""Share of a budget in seconds between two validations."""

VALIDATION_SHARE = 0.15
"""Greatest share of a budget in seconds for validations before the last; slow ones are rarer."""


class Pace:
    """Measures a training against its budget.

    Parameters
    ----------
    budget : float or None
        Seconds from the first step to the end, time before a resume included; None = no bound.
    clock : callable
        Where the time comes from.
    """

    def __init__(self, budget: float | None, clock: Clock = time.monotonic) -> None:
        self._budget = budget
        self._clock = clock
        self._start = clock()
        self._durations: dict[Duty, deque[float]] = {
            duty: deque(maxlen=RECENT) for duty in get_args(Duty)
        }
        self._ended: dict[Duty, float] = {}

    @property
    def elapsed(self) -> float:
        """Seconds spent, before a resume too."""
        return self._clock() - self._start

    def state(self) -> dict[str, float]:
        """Return what a resumed training has to know."""
        return {
            "elapsed": self.elapsed,
            "validation": self._longest("validation"),
            "saving": self._longest("saving"),
        }

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from `state`: its seconds count as elapsed, what it knows stays known."""
        spent = state["elapsed"]
        self._start -= spent
        for duty in _CLOSING:
            self._durations[duty].append(state[duty])
            self._ended[duty] = spent

    @contextlib.contextmanager
    def measured(self, duty: Duty) -> Iterator[None]:
        """Measure the block as one duty."""
        start = self._clock()
        yield
        self._durations[duty].append(self._clock() - start)
        self._ended[duty] = self.elapsed

    def since(self, duty: Duty) -> float:
        """Return the seconds since a duty ended, or since the start or resume."""
        return self.elapsed - self._ended.get(duty, 0.0)

    @property
    def has_time(self) -> bool:
        """Whether one more step fits into the budget, and after it all that ends a training."""
        if self._budget is None:
            return True
        return self.elapsed + self._longest("step") * MARGIN + self._closing <= self._budget

    @property
    def share(self) -> float:
        """Share of the time for steps that is spent, from 0 to 1; 0 without a budget."""
        if self._budget is None:
            return 0.0
        usable = self._budget - self._closing
        return min(self.elapsed / usable, 1.0) if usable > 0 else 1.0

    @property
    def is_validation_due(self) -> bool:
        """Whether a training with a budget should validate now.

        The first validation comes after a tenth of the budget, so that its time is soon known.
        """
        if self._budget is None:
            return False
        cost = self._longest("validation") / VALIDATION_SHARE
        return self.since("validation") >= max(self._budget * VALIDATION_INTERVAL, cost)

    def eta(self, steps_left: int | None, validations_left: int) -> float | None:
        """Return the seconds left; None until the pace is known.

        Parameters
        ----------
        steps_left : int or None
            None if the budget in seconds decides.
        validations_left : int
            Used with `steps_left` only.
        """
        if steps_left is None:
            return None if self._budget is None else max(self._budget - self.elapsed, 0.0)
        recent = self._durations["step"]
        if len(recent) < RECENT:
            return None
        # The median, because the very first step also prepares kernels and is no measure.
        return steps_left * statistics.median(recent) + validations_left * self._longest(
            "validation"
        )

    @property
    def _closing(self) -> float:
        return MARGIN * sum(self._longest(duty) for duty in _CLOSING)

    def _longest(self, duty: Duty) -> float:
        return max(self._durations[duty], default=0.0)
