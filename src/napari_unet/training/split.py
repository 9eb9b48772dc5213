"""Honest validation: what is learnt from, what selects the weights, and what only judges them.

::

    +---------+ gap +-----------+     train      is learnt from
    |  train  |     | selection |     selection  chooses the weights that are kept
    |         |     +-----------+     judging    is looked at once, at the end
    |         |          gap
    |         |     +-----------+     What lies in a gap is in no part: a network sees as far as its
    |         |     |  judging  |     halo, and neighboring pixels of one object are alike.
    +---------+     +-----------+

Labels that are held out are absent from the annotation that is learnt from, so no patch, however
warped, can show them to the network.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from napari_unet.core.settings import Settings
from napari_unet.errors import AnnotationError
from napari_unet.metrics.bootstrap import MIN_BLOCKS
from napari_unet.training.blocks import (
    TARGET_BLOCKS,
    VOLUME,
    Z,
    annotated_runs,
    has_large_places,
    make_pieces,
    whole_volumes,
)
from napari_unet.training.hold_out import (
    JUDGING,
    LEAST_OF_CLASS,
    NOWHERE,
    SELECTION,
    TRAIN,
    Rules,
    find_conflicts,
    halve,
    hold_out,
)
from napari_unet.training.object_width import object_width
from napari_unet.training.parts import Split, assemble, extract_part, nothing_held_out

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from napari_unet.core.annotation import Annotation
    from napari_unet.training.blocks import AnnotatedRuns, Pieces

    Ints = npt.NDArray[np.int64]

GAP_WIDTHS = 3
"""The least gap, in object widths: pixels of one object, and of its neighbor, look alike."""

PAPER_HALO = 92
"""Pixels (Ronneberger et al. 2015, Fig. 1). Objects of any width need no wider gap than this, or
than the network's own halo where that is wider."""

GAP_STEP = 0.7
"""Where there is no room for a gap, one of this share of it is tried next."""

WHOLE_IMAGES = 8
"""From so many annotated volumes on, whole volumes are held out instead of blocks."""

FEWEST_BLOCKS = 3
"""Blocks of a held-out part; with fewer it says nothing, and nothing is held out."""

BLOCKS_PER_VOLUME = 8
"""Blocks for the bootstrap that are aimed at where few whole volumes are held out."""

CUT_ABOVE = 1 / 16
"""Of all annotated voxels: half of a held-out part. A place that holds less is never cut."""

NEVER = math.inf
NO_CLAIM = "; nothing is held out, and the training runs without a claim"

ROOM = Rules(0.1, 0.75, 0.08, 0.14, MIN_BLOCKS)
"""There is room for a gap if training keeps 75 % of what is annotated and each other part 8 %."""

LITTLE_ROOM = replace(ROOM, least_train=0.65, many_groups=False)
LAST_RESORT = Rules(0.1, 0.5, 0.05, 0.25, FEWEST_BLOCKS, many_groups=False)
VOLUMES = Rules(0.125, 0.6, 0.05, 0.25, 1)


class SplitSettings(Settings):
    """How annotations are split.

    Parameters
    ----------
    halo : int
        How far the network sees along y and x, in pixels: the gap that is left where there is room.
    context : int
        How far it sees along z, in slices.
    anisotropy : float
        Distance of two slices over the voxel size along y and x; 1 where it is unknown.
    seed : int
        Of the choice; the same seed and annotations give the same split.
    """

    halo: Annotated[int, Field(ge=0)] = PAPER_HALO
    context: Annotated[int, Field(ge=0)] = 0
    anisotropy: Annotated[float, Field(gt=0)] = 1.0
    seed: Annotated[int, Field(ge=0)] = 0


def split_annotations(annotations: Sequence[Annotation], settings: SplitSettings) -> Split:
    """Return the annotations in three parts with a gap between them.

    Places are never split, except those larger than a part can hold where nothing else helps:
    they are cut at block borders. Training keeps every class, the most of all, and `LEAST_OF_CLASS`
    of each class if an assignment does that; only then each held-out part holds every class if that
    is possible. A class in a single place is learnt from. With `WHOLE_IMAGES` annotated volumes or
    more, whole volumes are held out. If too little is annotated, nothing is held out.

    Parameters
    ----------
    annotations : sequence of Annotation
        One per volume, all with the same classes.
    settings : SplitSettings
        Gap and seed.

    Raises
    ------
    AnnotationError
        If there is no volume, or classes differ.
    """
    _check_classes(annotations)
    found = annotated_runs(annotations)
    classes = found.classes
    if len(classes) < 2:
        names = ", ".join(annotations[0].class_names[k] for k in classes)
        reason = f"only the class {names} is annotated: whoever always says it, is right"
        return nothing_held_out(
            annotations, (reason if names else "nothing is annotated") + NO_CLAIM
        )
    plan = _Plan(annotations, found, settings)
    split = None
    if np.count_nonzero([not a.is_empty for a in annotations]) >= WHOLE_IMAGES:
        split = plan.hold_out_volumes()
    split = split or plan.hold_out_blocks()
    return split or nothing_held_out(annotations, plan.too_little + NO_CLAIM)


def split_given(
    annotations: Sequence[Annotation], given: Sequence[Annotation], settings: SplitSettings
) -> Split:
    """Return a split in which one half of other volumes selects and the other half judges.

    All of `annotations` is learnt from. The volumes of the result are those of `annotations`, then
    those that were given. The halves keep the least gap from each other; a single block or place
    cannot be halved and selects.

    Parameters
    ----------
    annotations, given : sequence of Annotation
        What is learnt from, and what is not; all with the same classes.
    settings : SplitSettings
        As for `split_annotations`.

    Raises
    ------
    AnnotationError
        If there is no volume on a side, classes differ, or nothing is annotated in those given.
    """
    both = (*annotations, *given)
    _check_classes(annotations)
    _check_classes(both)
    found = annotated_runs(both)
    is_given = found.runs[:, VOLUME] >= len(annotations)
    part = np.where(is_given, JUDGING, TRAIN)
    return _halved(both, found, part, settings)


def split_slices(
    annotations: Sequence[Annotation],
    slices: Mapping[int, Collection[int]],
    settings: SplitSettings,
) -> Split:
    """Return a split in which one half of named slices selects and the other half judges.

    Neighbors of these slices, as far as the network sees along z and at least one, are in no part:
    they show nearly the same. All other slices are learnt from.

    Parameters
    ----------
    annotations : sequence of Annotation
        One per volume, all with the same classes.
    slices : mapping
        Number of a volume, from 0 -> slices of it, from 0.
    settings : SplitSettings
        As for `split_annotations`.

    Raises
    ------
    AnnotationError
        If there is no volume, classes differ, a slice is not in its volume, or nothing is
        annotated in the slices.
    """
    _check_classes(annotations)
    found = annotated_runs(annotations)
    part = np.full(len(found.runs), TRAIN)
    reach = max(1, settings.context)
    for volume, named in slices.items():
        depth = annotations[volume].shape[0] if 0 <= volume < len(annotations) else 0
        for z in named:
            if not 0 <= z < depth:
                raise AnnotationError(
                    f"slice {z} of volume {volume} is not there: {len(annotations)} volume(s) are "
                    f"given, this one has {depth} slices; count both from 0"
                )
        here = found.runs[:, VOLUME] == volume
        distance = np.abs(np.subtract.outer(found.runs[:, Z], np.array(sorted(named), np.int64)))
        nearest = distance.min(axis=1, initial=np.iinfo(np.int64).max)
        part[here & (nearest <= reach)] = NOWHERE
        part[here & (nearest == 0)] = JUDGING
    return _halved(annotations, found, part, settings)


class _Plan:
    """The ways to split some annotations, from the best to the last."""

    def __init__(
        self, annotations: Sequence[Annotation], found: AnnotatedRuns, settings: SplitSettings
    ) -> None:
        self.annotations = annotations
        self.found = found
        self.settings = settings
        self.rng = np.random.default_rng(settings.seed)
        self.width = object_width(annotations)
        self.gaps = _gaps(self.width, settings.halo)
        self._made: dict[tuple[float, int], Pieces] = {}

    @property
    def too_little(self) -> str:
        """Why nothing is held out."""
        places = int(self.found.place.max()) + 1
        return (
            f"too little is annotated to hold some of it out ({places} separate place(s), "
            f"{self.gaps[-1]} pixels apart at least): paint some dozens of strokes, well apart and "
            "of each class, or give other images or slices for validation"
        )

    def hold_out_volumes(self) -> Split | None:
        """Return a split in which whole volumes are held out, or None if there is none."""
        pieces = whole_volumes(self.found)
        conflicts = find_conflicts(pieces, 0, 0)
        some_classes = replace(VOLUMES, all_classes=False)
        for rules in (VOLUMES, some_classes, replace(some_classes, least_of_class=0)):
            part = hold_out(conflicts, rules, self.rng)
            if part is None:
                continue
            selecting, judging = (np.count_nonzero(part == p) for p in (SELECTION, JUDGING))
            note = (
                f"whole images are held out: of {len(part)} that are annotated, {selecting} to "
                f"choose the weights and {judging} to judge them"
            )
            if min(selecting, judging) < MIN_BLOCKS:
                part_of_volume = np.full(len(self.annotations), NOWHERE)
                part_of_volume[pieces.low[:, 0]] = part
                pieces = self._pieces(0.0, BLOCKS_PER_VOLUME * len(part))
                part = part_of_volume[pieces.low[:, 0]]
            return Split(*assemble(self.annotations, pieces, part), 0, 0, note)
        return None

    def hold_out_blocks(self) -> Split | None:
        """Return a split in which blocks are held out, or None if there is none."""
        for cut_above, rules, gaps in self._ways():
            pieces = self._pieces(cut_above)
            for gap in gaps:
                gap_slices = _gap_slices(gap, self.settings)
                part = hold_out(find_conflicts(pieces, gap, gap_slices), rules, self.rng)
                if part is not None:
                    parts = assemble(self.annotations, pieces, part)
                    return Split(*parts, gap, gap_slices, self._note(pieces, part, gap))
        return None

    def _ways(self) -> Iterator[tuple[float, Rules, tuple[int, ...]]]:
        """Yield above which share places are cut, the rules, and the gaps to try, best first."""
        least = self.gaps[-1:]
        cuts = (NEVER, CUT_ABOVE) if has_large_places(self.found, CUT_ABOVE) else (NEVER,)
        for all_classes in (True, False):
            for steps in (((ROOM, self.gaps), (LITTLE_ROOM, least)), ((LAST_RESORT, least),)):
                for cut_above in cuts:
                    for rules, gaps in steps:
                        yield cut_above, replace(rules, all_classes=all_classes), gaps
        starving = replace(LAST_RESORT, least_of_class=0, all_classes=False)
        yield from ((cut_above, starving, least) for cut_above in cuts)

    def _pieces(self, cut_above: float, target: int = TARGET_BLOCKS) -> Pieces:
        key = (cut_above, target)
        if key not in self._made:
            settings = self.settings
            stack = (settings.anisotropy, _gap_slices(self.gaps[-1], settings))
            self._made[key] = make_pieces(self.found, stack, cut_above=cut_above, target=target)
        return self._made[key]

    def _note(self, pieces: Pieces, part: Ints, gap: int) -> str:
        """Return what was held out, in a sentence or some."""
        sizes = pieces.counts.sum(axis=1)
        share = {p: sizes[part == p].sum() / sizes.sum() for p in (SELECTION, JUDGING, NOWHERE)}
        blocks = {p: len(np.unique(pieces.block[part == p])) for p in (SELECTION, JUDGING)}
        note = (
            f"{share[SELECTION]:.0%} of what is annotated ({blocks[SELECTION]} blocks) chooses the "
            f"weights and {share[JUDGING]:.0%} ({blocks[JUDGING]} blocks) judges them; at least "
            f"{gap} pixels lie between the parts"
        )
        if gap < self.settings.halo:
            note += (
                f", because there is no room for the {self.settings.halo} pixels that the network "
                "sees"
            )
        note += f"; {share[NOWHERE]:.0%} lies in between and is not used"
        for p, what in ((SELECTION, "chooses"), (JUDGING, "judges")):
            lacking = (pieces.counts.sum(axis=0) > 0) & (pieces.counts[part == p].sum(axis=0) == 0)
            if lacking.any():
                names = self._names(lacking)
                note += f"; too little is annotated of {names}, of which none {what}"
        learnt = pieces.counts[part == TRAIN].sum(axis=0)
        poor = learnt < LEAST_OF_CLASS * pieces.counts.sum(axis=0)
        if poor.any():
            names = self._names(poor)
            note += f"; too little is annotated to learn from {LEAST_OF_CLASS:.0%} of {names}"
        return note

    def _names(self, wanted: npt.NDArray[np.bool_]) -> str:
        names = self.annotations[0].class_names
        return ", ".join(names[k] for k in np.flatnonzero(wanted))


def _halved(
    annotations: Sequence[Annotation], found: AnnotatedRuns, part: Ints, settings: SplitSettings
) -> Split:
    """Return a split of runs: those for judging are halved, one half selects."""
    held = found.only(part == JUDGING)
    if not len(held.runs):
        raise AnnotationError(
            "nothing is annotated in what was given for validation; give volumes or slices with "
            "labels, or let a part of the annotations be held out"
        )
    gap = _gaps(object_width(annotations), settings.halo)[-1]
    gap_slices = _gap_slices(gap, settings)
    stack = (settings.anisotropy, gap_slices)
    pieces = make_pieces(held, stack, cut_above=NEVER)
    if pieces.num_blocks < 2 * MIN_BLOCKS:
        pieces = make_pieces(held, stack, cut_above=CUT_ABOVE)
    halves = halve(find_conflicts(pieces, gap, gap_slices), pieces)
    volumes, selection, judging = assemble(annotations, pieces, halves)
    learnt = extract_part(annotations, found, part == TRAIN)
    note = (
        f"what was given for validation is not learnt from: {len(selection)} block(s) of it choose "
        f"the weights and {len(judging)} judge them, at least {gap} pixels apart"
    )
    if not judging:
        note = (
            "too little was given for validation to halve it: it chooses the weights, and the "
            "training runs without a claim"
        )
    return Split(
        tuple(replace(v, train=t) for v, t in zip(volumes, learnt, strict=True)),
        selection,
        judging,
        gap,
        gap_slices,
        note,
    )


def _gaps(width: float, halo: int) -> tuple[int, ...]:
    """Return the gaps to try: the halo, or some object widths where these are more, and smaller."""
    least = min(math.ceil(GAP_WIDTHS * width), max(halo, PAPER_HALO))
    gaps = [max(halo, least)]
    while gaps[-1] > least:
        gaps.append(max(int(gaps[-1] * GAP_STEP), least))
    return tuple(gaps)


def _gap_slices(gap: int, settings: SplitSettings) -> int:
    """Return how many slices are as far as the gap; neighbors are never far enough."""
    return max(1, settings.context, math.ceil(gap / settings.anisotropy))


def _check_classes(annotations: Sequence[Annotation]) -> None:
    names = {annotation.class_names for annotation in annotations}
    if len(names) != 1:
        shown = " and ".join(", ".join(some) for some in sorted(names)) or "none"
        raise AnnotationError(
            f"{len(annotations)} annotations with the classes {shown} cannot be split together; "
            "give at least one, all of the same classes in the same order"
        )
