"""Draft what is looked at: from a job to a stream of events, until it is told to stop."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from napari_unet.app.drafting.opened import draft_backend, open_draft, plan_draft
from napari_unet.app.drafting.session import DraftSession
from napari_unet.app.segmenting.preparation import measured_normalization
from napari_unet.core.draft_events import DraftStarted, DraftStopped
from napari_unet.core.events import StageChanged, Warned

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_unet.app.drafting.control import DraftControl
    from napari_unet.core.draft_events import DraftEvent
    from napari_unet.core.draft_job import DraftJob


def run_draft(job: DraftJob, control: DraftControl) -> Generator[DraftEvent]:
    """Draft what is looked at and painted on, until ``control.stop()``.

    Without strokes a draft is what `segment` says of the same region. Nothing but drafts in
    ``job.folder`` is written.

    Parameters
    ----------
    job : DraftJob
        What is drafted on.
    control : DraftControl
        Says where the user looks, and where she painted.

    Yields
    ------
    DraftEvent
        Ends with `DraftStopped`.

    Raises
    ------
    UNetError
        If something cannot be used, read, computed or written. What is damaged in places is left
        out there, with a warning.
    """
    yield StageChanged("opening")
    backend = draft_backend(job)
    plan = plan_draft(job, backend)
    with closing(plan.source):
        for note in plan.notes:
            yield Warned(note)
        yield StageChanged("normalizing")
        normalization = measured_normalization(plan)
        yield StageChanged("loading")
        opened = open_draft(job, plan, backend, normalization)
        session = DraftSession(opened)
        yield DraftStarted(plan.model.name, job.classes, opened.heads.features, backend.label)
        yield from session.run(control)
        yield DraftStopped(session.drafts)
