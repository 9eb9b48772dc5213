"""How far a job is, how fast, and for how long still: numbers into words."""

from __future__ import annotations

MIN_SECONDS = 0.5
"""Before this much time a rate says nothing."""


class ProgressMeter:
    """Rate and remaining time of a job that reports pixels.

    Parameters
    ----------
    total : int
        Pixels to do, in all.
    now : float
        Seconds on any steady clock.
    before : int
        Pixels that were done before.
    """

    def __init__(self, total: int, now: float, before: int = 0) -> None:
        self._total = max(total, 1)
        self._before = self._done = before
        self._began = now
        self._now = now

    def update(self, done: int, now: float) -> None:
        """Take note of `done` pixels at the time `now`."""
        self._done, self._now = done, now

    def restarted(self, now: float) -> ProgressMeter:
        """Return a meter of what is left: it knows nothing of a wait that ends `now`."""
        return ProgressMeter(self._total, now, self._done)

    @property
    def share(self) -> float:
        """Part that is done, 0 to 1."""
        return min(self._done / self._total, 1.0)

    @property
    def rate(self) -> float | None:
        """Pixels per second since the start; None = too early to tell."""
        seconds = self._now - self._began
        done = self._done - self._before
        return done / seconds if done and seconds >= MIN_SECONDS else None

    @property
    def seconds_left(self) -> float | None:
        """Remaining seconds at the rate so far; None = too early to tell."""
        rate = self.rate
        return None if rate is None else (self._total - self._done) / rate

    def text(self) -> str:
        """Return the state in words."""
        words = f"{format_count(self._done)} of {format_count(self._total)} pixels"
        if self.rate is not None and self.seconds_left is not None:
            words += f", {format_count(self.rate)}/s, {format_duration(self.seconds_left)} left"
        return words


def format_count(number: float) -> str:
    """Return a count in three digits.

    Examples
    --------
    >>> format_count(950), format_count(1_234_567), format_count(40_000_000_000)
    ('950', '1.23 M', '40 G')
    """
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.3g} {letter}"
    return f"{number:.0f}"


def format_bytes(number: float) -> str:
    """Return a size with its unit, in three digits.

    Examples
    --------
    >>> format_bytes(1_234_567)
    '1.23 MB'
    """
    return f"{format_count(number)}B" if number >= 1000 else f"{number:.0f} B"


def format_duration(seconds: float) -> str:
    """Return a time in words.

    Examples
    --------
    >>> format_duration(8), format_duration(200), format_duration(8000)
    ('8 s', '3 min 20 s', '2 h 13 min')
    """
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
