"""Several predictions against one truth: ranked, with paired differences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.app.evaluation.result import HEADLINES, Comparison

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.app.evaluation.result import Run
    from napari_unet.app.evaluation.scores import Score


def compare(runs: Sequence[Run], resamples: int, seed: int) -> Comparison | None:
    """Return the comparison of several predictions; None if there is one."""
    if len(runs) < 2:
        return None
    key = next((k for k in HEADLINES if all(r.score(k) is not None for r in runs)), "")

    def merit(index: int) -> float:
        score = runs[index].score(key)
        if score is None or score.interval.value is None:
            return float("inf")
        value = score.interval.value
        return -value if score.better == "higher" else value

    ranking = sorted(range(len(runs)), key=merit)
    first = {family.name: family for family in runs[0].families}
    differences = []
    for run in runs[1:]:
        found: list[Score] = []
        for family in run.families:
            base = first.get(family.name)
            if base is not None and base.units.shape == family.units.shape:
                found += base.differences(family, resamples, seed)
        differences.append(tuple(found))
    return Comparison(key, tuple(ranking), tuple(differences))
