"""The times of the storyboard, in one table."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.core.draft_events import StrokeScored


class Times:
    """What took how long."""

    def __init__(self) -> None:
        self._rows: dict[str, list[float]] = {}
        self.scored: list[StrokeScored] = []
        """How much of each stroke was right before it was learnt, and after."""

    def note(self, name: str, *, since: float, to: float | None = None) -> None:
        """Note the seconds since a moment, to another or to now, by `time.perf_counter`."""
        now = time.perf_counter() if to is None else to
        self._rows.setdefault(name, []).append(now - since)

    def note_all(self, name: str, values: Sequence[float]) -> None:
        """Note many values of a kind."""
        self._rows.setdefault(name, []).extend(values)

    def table(self) -> str:
        """Return all rows as a table in Markdown: median, 95th percentile and longest."""
        lines = ["| from, until | seconds, median | longest | of |", "|---|---|---|---|"]
        for name, values in self._rows.items():
            if not values:
                continue
            middle, longest = statistics.median(values), max(values)
            lines.append(f"| {name} | {middle:.2f} | {longest:.2f} | {len(values)} |")
        if self.scored:
            pixels = sum(event.pixels for event in self.scored)
            before, now = (
                sum(event.pixels * getattr(event, name) for event in self.scored) / max(pixels, 1)
                for name in ("right_before", "right_now")
            )
            lines.append("")
            lines.append(
                f"Of {len(self.scored)} strokes, {100 * before:.0f} % was right before they were "
                f"learnt, {100 * now:.0f} % after."
            )
        return "\n".join(lines)
