"""What a segmentation looks at before it begins, and what it says of the image at its end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from napari_unet.app.fingerprint import differences
from napari_unet.core.events import Warned
from napari_unet.errors import InputError, OutputExistsError
from napari_unet.io.output_state import read_output_state

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from napari_unet.app.plan import SegmentPlan
    from napari_unet.inference.engine import Tally
    from napari_unet.io.output_state import OutputState


def read_state(plan: SegmentPlan) -> OutputState | None:
    """Return what the output holds under the job's name; refuse what this job must not touch.

    Raises
    ------
    OutputExistsError
        If that are objects, or classes that were made with other options.
    """
    state = read_output_state(plan.job.output, plan.name)
    if state is None:
        return None
    if state.attributes.get("kind") == "objects":
        # Also with --overwrite: that is meant for classes.
        raise OutputExistsError(
            f"{plan.job.output} holds objects under the name {plan.name!r}; give another --name"
        )
    before, now = state.attributes.get("fingerprint") or {}, plan.fingerprint
    if before != now and not plan.job.overwrite:
        raise OutputExistsError(what_differs(plan, before, complete=state.state == "complete"))
    return state


def what_differs(plan: SegmentPlan, before: Mapping[str, Any], *, complete: bool) -> str:
    """Return why a job cannot go on with what an output holds under its name, and what to do.

    Parameters
    ----------
    plan : SegmentPlan
        The job.
    before : mapping
        Fingerprint of what is there.
    complete : bool
        Whether that is finished.
    """
    # As it is read back: tuples become lists.
    now = json.loads(json.dumps(plan.fingerprint))
    differ = "; ".join(differences(before, now))
    what = f"{plan.job.output} already holds {plan.name!r}, "
    if not _has_other_bytes_only(before, now):
        return (
            f"{what}made with other options ({differ}). Give another --name or --output, or "
            "--overwrite to replace it"
        )
    done = "" if complete else "; which of the blocks that are done saw the old one is not known"
    return (
        f"{what}made from another image ({differ}): {plan.job.input} has changed since{done}. "
        "Where a damaged part was mended, --overwrite computes all of it anew from the image as it "
        "is now; or put back the image as it was, or give another --name or --output"
    )


def _has_other_bytes_only(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Return whether two fingerprints differ in the hash of the image alone."""
    hashes = [fingerprint.get("input") or {} for fingerprint in (before, now)]
    same = {"input": {**hashes[0], "sha256": None}}
    return {**before, **same} == {**now, "input": {**hashes[1], "sha256": None}}


def require_complete(plan: SegmentPlan) -> None:
    """Refuse an image with chunks that were never written, where the job asks for that.

    Raises
    ------
    InputError
        With their count.
    """
    if not plan.job.require_complete:
        return
    missing = plan.source.count_missing_chunks(plan.region)
    if missing:
        raise InputError(
            f"{plan.job.input}: {missing} chunks of the image were never written; complete the "
            "image, or leave out --require-complete to have them read as its fill value"
        )


def findings(tally: Tally, missing_chunks: int) -> Iterator[Warned]:
    """Yield what the user should know of the image, in sentences."""
    if tally.nonfinite:
        yield Warned(
            f"{tally.nonfinite} voxels of the image are NaN or infinite; they were replaced by "
            "the mean of the volume"
        )
    if missing_chunks:
        yield Warned(
            f"{missing_chunks} chunks of the image were never written; they read as its fill value"
        )
