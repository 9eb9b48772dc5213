"""The scores of the ISBI 2012 challenge, taken only where its published values are asked for.

The challenge judged maps of membranes, slice by slice, and took the best of its thresholds.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.app.evaluation.opening import open_pair
from napari_unet.core.boxes import Box
from napari_unet.errors import ConfigError
from napari_unet.metrics.isbi import (
    CHALLENGE_THRESHOLDS,
    cell_scores,
    pixel_scores,
    warping_scores,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from napari_unet.app.evaluation.opened import OpenedPair
    from napari_unet.app.evaluation.result import Run
    from napari_unet.core.evaluate_job import EvaluateJob

    Slice = tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]

MEMBRANE = "membrane"
"""The class of the challenge; `EvaluateJob.boundary` names another one."""


def challenge_scores(job: EvaluateJob, run: Run) -> dict[str, float]:
    """Return the challenge's scores of a prediction, the best of its thresholds each.

    Returns
    -------
    dict
        "pixel_error" (1 - F of pixels), "warping_error" (its splits and mergers) and "rand_error"
        (1 - F of pairs): as in the paper's table, of cells as they are; "v_rand", "v_info": as on
        the later leaderboard, after border thinning.

    Raises
    ------
    ConfigError
        If there is no class of membranes, or pixels are left out, which the challenge does not.
    """
    name = job.boundary or MEMBRANE
    first = run.measured[0]
    if first.classes is None or name not in first.class_names:
        raise ConfigError(
            f"--compare-paper isbi2012 needs the class {name!r}, but there are "
            f"{', '.join(first.class_names) or 'no classes'}; name it with --boundary"
        )
    thresholds = CHALLENGE_THRESHOLDS if first.probabilities else (0.5,)

    def slices() -> Iterator[Slice]:
        # Read anew for each score: whole stacks of planes would not fit into memory.
        for pair in _opened(job, run):
            yield from _slices(pair, name)

    plain = cell_scores(slices(), thresholds, thin=False)
    thin = cell_scores(slices(), thresholds, thin=True)
    warped = warping_scores(slices(), thresholds)
    return {
        "pixel_error": 1 - max(score.f1 for score in pixel_scores(slices(), thresholds)),
        "warping_error": min(score.splits_and_mergers for score in warped),
        "rand_error": 1 - max(score.v_rand for score in plain),
        "v_rand": max(score.v_rand for score in thin),
        "v_info": max(score.v_info for score in thin),
    }


def _opened(job: EvaluateJob, run: Run) -> Iterator[OpenedPair]:
    for pair in run.pairs.pairs:
        with closing(open_pair(job, pair)) as opened:
            yield opened


def _slices(pair: OpenedPair, name: str) -> Iterator[Slice]:
    """Yield how likely each pixel of a slice is cell, and where the truth has cells.

    Raises
    ------
    ConfigError
        If a pixel does not count.
    """
    number = pair.class_number(name)
    (z0, *start), (z1, *stop) = pair.region.start, pair.region.stop
    for z in range(z0, z1):
        block = pair.read(Box((z, *start), (z + 1, *stop)))
        true, predicted = block.true_classes, block.predicted_classes
        if true is None or predicted is None or not block.counted.all():
            raise ConfigError(
                f"--compare-paper isbi2012 scores every pixel, but some of {pair.name} are ignored "
                "or not annotated; leave the option out"
            )
        if block.probabilities is not None:
            cells = 1 - block.probabilities[number - 1, 0].astype(np.float64)
        else:
            cells = (predicted[0] != number).astype(np.float64)
        yield cells, true[0] != number
