"""Suggest where to paint next: from a job to ranked places, as a stream of events."""

from __future__ import annotations

import itertools
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.app.models import find_model
from napari_unet.app.plan import selection_of
from napari_unet.app.suggesting.looking import (
    Lookout,
    PaintedParts,
    open_view,
    segment_job,
)
from napari_unet.app.suggesting.places import PlaceGrid
from napari_unet.app.suggesting.ranking import (
    APART,
    TRIES,
    RankingRules,
    rank_places,
    score_of,
    spread_places,
)
from napari_unet.core.boxes import Box
from napari_unet.core.events import StageChanged, Warned
from napari_unet.core.suggest_events import (
    PlaceFound,
    PlacesRanked,
    SuggestCancelled,
    SuggestedPlace,
    SuggestProgress,
    SuggestStarted,
)
from napari_unet.errors import ConfigError, InputError, NonFiniteError
from napari_unet.inference.control import JobControl
from napari_unet.io.image import open_image
from napari_unet.io.sampling import spread_order

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from napari_unet.app.suggesting.doubt import Doubt
    from napari_unet.core.arrays import ImageSource
    from napari_unet.core.suggest_events import SuggestEvent
    from napari_unet.core.suggest_job import SuggestJob

Part = tuple[Box, list[Box]]
"""A window, and the places in it."""


def run_suggest(
    job: SuggestJob,
    control: JobControl | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Generator[SuggestEvent]:
    """Search an image for places to paint in, yielding what happens.

    One window is in memory at a time, however large the image is. Closing the generator or
    ``control.stop()`` ends it at the next window.

    Parameters
    ----------
    job : SuggestJob
        Where to search, and what decides.
    control : JobControl or None
        To stop and pause.
    clock : callable
        Returns seconds that never run backwards.

    Yields
    ------
    SuggestEvent
        Ends with `PlacesRanked` or `SuggestCancelled`.

    Raises
    ------
    UNetError
        If image, model, annotation or an option cannot be used.
    """
    yield StageChanged("opening")
    header = find_model(job.model).header
    selection = selection_of(segment_job(job, job.model), header)
    with closing(open_image(Path(job.input).expanduser(), selection)) as source:
        painted = PaintedParts.of(job.annotation, source)
        yield StageChanged("loading")
        model = open_view(job, job.model, source)
        for note in model.plan.notes:
            yield Warned(note)
        other = None
        if job.compare_with is not None:
            other = open_view(job, job.compare_with, source, model)
        search = _Search(job, Lookout(model, other), painted, clock)
        yield search.started()
        yield StageChanged("searching")
        yield from search.run(control or JobControl())


class _Search:
    """One search; its time begins when the first window is looked at."""

    def __init__(
        self, job: SuggestJob, lookout: Lookout, painted: PaintedParts, clock: Callable[[], float]
    ) -> None:
        self._job, self._lookout, self._painted, self._clock = job, lookout, painted, clock
        self._source: ImageSource = lookout.model.plan.source
        self._chance = np.random.default_rng(job.seed)
        region = _within(lookout.model.plan.region, job)
        self._grid = PlaceGrid(region, job.edge)
        self._across = self._grid.windows_across(lookout.model.tile_edge)
        by_chance = job.ranking == "random"
        windows = len(self._grid) if by_chance else self._grid.count_windows(self._across)
        self._total = min(windows, job.count if by_chance else job.windows)

    def started(self) -> SuggestStarted:
        lookout = self._lookout
        return SuggestStarted(
            input=self._job.input,
            model=lookout.model.plan.model.name,
            compared_with=None if lookout.other is None else lookout.other.plan.model.name,
            ranking=self._job.ranking,
            places=len(self._grid),
            windows=self._total,
            device=lookout.model.device,
        )

    def run(self, control: JobControl) -> Generator[SuggestEvent]:
        """Look at windows until their number or the time is used up; then rank."""
        found: list[SuggestedPlace] = []
        began, done = self._clock(), 0
        for window, boxes in self._parts():
            control.wait_while_paused()
            if control.ending:
                yield SuggestCancelled(done, self._total)
                return
            if done and self._clock() - began > self._job.seconds:
                break
            for answer in self._look(window):
                if isinstance(answer, Warned):
                    yield answer
                    continue
                places = [answer.place(box) for box in boxes]
                found += places
                best = max(places, key=lambda place: score_of(place, self._job.ranking))
                yield PlaceFound(best)
            done += 1
            yield SuggestProgress(done, self._total)
        if self._painted.damaged:
            yield Warned(self._damage())
        if not found:
            yield Warned(self._why_nothing())
        ranked = rank_places(found, self._rules(), self._chance)
        seconds = round(self._clock() - began, 2)
        yield PlacesRanked(ranked, self._job.ranking, len(found), seconds)

    def _parts(self) -> Iterator[Part]:
        """Yield windows with the places in them that may be suggested."""
        if self._job.ranking == "random":
            for box in spread_places(self._grid, self._job.count, self._is_free, self._chance):
                yield box, [box]
            return
        count = self._grid.count_windows(self._across)
        offset, taken = int(self._chance.integers(count)), 0
        for step in itertools.islice(spread_order(count), TRIES * self._total):
            number = (offset + step) % count
            places = [self._grid.box(k) for k in self._grid.numbers(number, self._across)]
            free = [box for box in places if self._is_free(box)]
            if free:
                yield self._grid.window_box(number, self._across), free
                taken += 1
            if taken == self._total:
                return

    def _is_free(self, box: Box) -> bool:
        """Return whether nobody has painted in a place, and all of it was ever written."""
        return not self._painted.holds(box) and not self._source.count_missing_chunks(box)

    def _look(self, window: Box) -> Iterator[Warned | Doubt]:
        """Yield what is known of a window; of a damaged one, only why not."""
        try:
            yield from self._lookout.look(window)
        except (InputError, NonFiniteError) as error:
            yield Warned(f"{window.start}..{window.stop} was left out: {error}")

    def _rules(self) -> RankingRules:
        size = self._source.levels[0].voxel_size
        anisotropy = size.z / size.y if size.unit else 1.0
        job = self._job
        return RankingRules(job.ranking, job.count, APART * job.edge, anisotropy)

    def _damage(self) -> str:
        reasons = list(self._painted.damaged.values())
        counted = "1 block" if len(reasons) == 1 else f"{len(reasons)} blocks"
        return f"{counted} of the strokes cannot be read; places there were left out: {reasons[0]}"

    def _why_nothing(self) -> str:
        return (
            f"of {len(self._grid)} places none can be suggested: all hold strokes, or nothing of "
            "the image; choose another slice or region, or smaller places"
        )


def _within(region: Box, job: SuggestJob) -> Box:
    """Return the part of a region that is searched.

    Raises
    ------
    ConfigError
        If the job's slice is not in it.
    """
    if job.slice is None:
        return region
    first, stop = region.start[0], region.stop[0]
    if not first <= job.slice < stop:
        raise ConfigError(
            f"slice {job.slice} is not among the slices {first} to {stop - 1} of the image; choose "
            "one of them"
        )
    return replace(
        region,
        start=(job.slice, *region.start[1:]),
        stop=(job.slice + 1, *region.stop[1:]),
    )
