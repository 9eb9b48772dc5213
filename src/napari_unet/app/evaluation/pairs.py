"""Which prediction is measured against which truth: found and not opened yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet.app.pairing import (
    absolute,
    bare_name,
    images_by_name,
    is_plain_folder,
    pair_by_name,
)
from napari_unet.errors import ConfigError, InputError

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.core.evaluate_job import EvaluateJob

_SAME_NAME = (
    "a prediction and its truth need the same name, the suffix aside (--allow-missing leaves out "
    "what has no prediction)"
)


@dataclass(frozen=True, slots=True)
class Companions:
    """What may go with a truth.

    Parameters
    ----------
    probabilities, ignore, valid, image : Path or None
        See `EvaluateJob`.
    """

    probabilities: Path | None = None
    ignore: Path | None = None
    valid: Path | None = None
    image: Path | None = None


@dataclass(frozen=True, slots=True)
class EvaluationPair:
    """A prediction and its truth.

    Parameters
    ----------
    name : str
        What the report calls it: the name of the truth.
    prediction, truth : Path
        Where they are.
    companions : Companions
        What goes with them.
    """

    name: str
    prediction: Path
    truth: Path
    companions: Companions


@dataclass(frozen=True, slots=True)
class PairList:
    """All pairs of one prediction.

    Parameters
    ----------
    label : str
        What the report calls the prediction.
    pairs : tuple of EvaluationPair
        In the order of their names.
    left_out : int
        Files of the truth's folder without a prediction, left out as the job says.
    """

    label: str
    pairs: tuple[EvaluationPair, ...]
    left_out: int = 0


def find_pair_lists(job: EvaluateJob) -> list[PairList]:
    """Return the pairs of the prediction, then those of each one to compare it with.

    Raises
    ------
    ConfigError
        If a prediction is its own truth, or predictions to compare are not of the same images.
    InputError
        If files have no partner, or are missing.
    """
    lists = [_pairs_of(job, job.predictions, with_probabilities=True)]
    lists += [_pairs_of(job, (other,), with_probabilities=False) for other in job.compare]
    names = [pair.name for pair in lists[0].pairs]
    for other in lists[1:]:
        if [pair.name for pair in other.pairs] != names:
            raise ConfigError(
                f"{other.label} has predictions of {len(other.pairs)} images, {lists[0].label} of "
                f"{len(names)}; predictions are compared on the same images"
            )
    labels = _different([each.label for each in lists])
    return [
        PairList(label, each.pairs, each.left_out)
        for label, each in zip(labels, lists, strict=True)
    ]


def _pairs_of(
    job: EvaluateJob, predictions: tuple[str, ...], *, with_probabilities: bool
) -> PairList:
    found: list[tuple[Path, Path]] = []
    left_out = 0
    for prediction, truth in zip(predictions, job.truths, strict=True):
        first, second = absolute(prediction), absolute(truth)
        for path in (first, second):
            if not _is_there(path):
                raise InputError(f"{path}: there is no such file or folder; check the path")
        both = pair_by_name(first, second, remedy=_SAME_NAME, allow_missing=job.allow_missing)
        if job.allow_missing and is_plain_folder(first) and is_plain_folder(second):
            left_out += len(images_by_name(second)) - len(both)
        found += both
    for prediction_path, truth_path in found:
        if prediction_path == truth_path:
            raise ConfigError(f"{truth_path} is given as prediction and as its own truth")
    names = _different([bare_name(truth) for _, truth in found])
    pairs = [
        EvaluationPair(name, p, t, _companions(job, t, with_probabilities))
        for name, (p, t) in zip(names, found, strict=True)
    ]
    label = bare_name(absolute(predictions[0]))
    return PairList(label, tuple(pairs), left_out)


def _companions(job: EvaluateJob, truth: Path, with_probabilities: bool) -> Companions:
    return Companions(
        _partner(job.probabilities, truth, "--probabilities") if with_probabilities else None,
        _partner(job.ignore, truth, "--ignore"),
        _partner(job.valid, truth, "--valid"),
        _partner(job.images, truth, "--images"),
    )


def _partner(given: str | None, truth: Path, option: str) -> Path | None:
    """Return the file that an option names, or that of the truth's name in its folder."""
    if given is None:
        return None
    path = absolute(given)
    if not _is_there(path):
        raise InputError(f"{option}: {path}: there is no such file or folder; check the path")
    if not is_plain_folder(path):
        return path
    name = bare_name(truth)
    found = images_by_name(path).get(name)
    if found is None:
        raise InputError(f"{option}: {path} holds no image named {name}, as the truth {truth.name}")
    return found


def _is_there(path: Path) -> bool:
    """Whether a path is a file or folder, or leads into a file, as ``image.h5/volume`` does."""
    return path.exists() or any(parent.is_file() for parent in path.parents)


def _different(names: list[str]) -> list[str]:
    """Return names that differ: those that recur get a number."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return result
