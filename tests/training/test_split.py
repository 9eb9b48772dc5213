"""Held-out labels are apart from what is learnt from: the laws of honest validation."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import maximum_filter
from tests.training.strokes import dense_labels, paint_strokes, stroke_labels

from napari_unet.core.annotation import Annotation
from napari_unet.core.boxes import Box
from napari_unet.errors import AnnotationError
from napari_unet.metrics.bootstrap import MIN_BLOCKS
from napari_unet.training.blocks import LEAST_CUT_EDGE
from napari_unet.training.hold_out import LEAST_OF_CLASS
from napari_unet.training.split import (
    PAPER_HALO,
    SplitSettings,
    split_annotations,
    split_given,
    split_slices,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_unet.training.parts import HeldOutBlock, Split, VolumeSplit

    Labels = npt.NDArray[np.uint8]

CLASSES = ("membrane", "interior", "mitochondrion")


def annotate(labels: Labels) -> Annotation:
    return Annotation.from_array(labels, CLASSES, block_shape=(1, 64, 64))


def dense(annotation: Annotation) -> Labels:
    return annotation.read(Box.of_shape(annotation.shape))


def parts_of(volume: VolumeSplit) -> list[Labels]:
    return [dense(part) for part in (volume.train, volume.selection, volume.judging)]


def voxels(annotations: Sequence[Annotation]) -> int:
    return sum(sum(annotation.counts) for annotation in annotations)


def shares(annotations: Sequence[Annotation], split: Split) -> tuple[float, float, float]:
    """Return the shares of the annotated voxels in training, selection and judging."""
    total = voxels(annotations)
    return (
        voxels([v.train for v in split.volumes]) / total,
        voxels([v.selection for v in split.volumes]) / total,
        voxels([v.judging for v in split.volumes]) / total,
    )


def check_parts(whole: Labels, volume: VolumeSplit, gap: int, gap_slices: int) -> None:
    """Each part is a subset, and no two have voxels nearer to each other than the gap."""
    parts = parts_of(volume)
    for part in parts:
        np.testing.assert_array_equal(part[part > 0], whole[part > 0])
    for first, second in ((0, 1), (0, 2), (1, 2)):
        # Voxels whose numbers differ by the gap or less have fewer voxels than that in between.
        edges = (2 * gap_slices + 1, 2 * gap + 1, 2 * gap + 1)
        reached = maximum_filter(parts[first], size=edges, mode="constant")
        assert not (reached.astype(bool) & parts[second].astype(bool)).any()


def check_places(whole: Annotation, volume: VolumeSplit) -> None:
    """No place is split, unless it is large."""
    of_voxel = np.zeros(whole.shape, int)
    for code, part in enumerate(parts_of(volume), start=1):
        of_voxel[part > 0] = code
    for place in whole.places():
        codes = np.unique(of_voxel[place.box.slices][place.mask()])
        area = place.size / place.box.shape[0]
        assert len(codes) == 1 or area > LEAST_CUT_EDGE**2 or place.size > LEAST_CUT_EDGE**3


def check_blocks(
    volumes: Sequence[Annotation], parts: Sequence[Annotation], blocks: Sequence[HeldOutBlock]
) -> None:
    """Each voxel of a part is in one block of it, and boxes are tight."""
    counted = [np.zeros(annotation.shape, int) for annotation in volumes]
    for block in blocks:
        assert block.annotation.bounding_box() == block.box
        counted[block.volume] += dense(block.annotation)
    for labels, part in zip(counted, parts, strict=True):
        np.testing.assert_array_equal(labels, dense(part))


def check(annotations: Sequence[Annotation], split: Split) -> None:
    """All laws that hold for every split."""
    assert len(split.volumes) == len(annotations)
    for whole, volume in zip(annotations, split.volumes, strict=True):
        check_parts(dense(whole), volume, split.gap, split.gap_slices)
        check_places(whole, volume)
    check_blocks(annotations, [v.selection for v in split.volumes], split.selection_blocks)
    check_blocks(annotations, [v.judging for v in split.volumes], split.judging_blocks)
    for k in range(len(CLASSES)):
        painted = sum(annotation.counts[k] for annotation in annotations)
        assert bool(painted) == bool(sum(v.train.counts[k] for v in split.volumes))
    assert split.has_claim == bool(split.judging_blocks)
    assert ("without a claim" in split.note) == (not split.has_claim)
    if split.has_claim:
        train, selection, judging = shares(annotations, split)
        assert train >= 0.5 > 0.25 >= max(selection, judging) >= min(selection, judging) >= 0.05


@st.composite
def volumes(draw: st.DrawFn) -> list[Annotation]:
    """Return one to three small volumes with strokes, and sometimes a dense area."""
    result = []
    for _ in range(draw(st.integers(1, 3))):
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 220), st.integers(1, 220)))
        labels = stroke_labels(rng, shape, draw(st.sampled_from([0, 3, 40, 90])), classes=3)
        if draw(st.integers(0, 3)) == 0:
            corner = tuple(slice(0, -(-n // draw(st.integers(1, 2)))) for n in shape)
            labels[corner] = dense_labels(rng, shape)[corner]
        result.append(annotate(labels))
    return result


@given(volumes(), st.integers(0, 40), st.integers(0, 2), st.sampled_from([0.5, 1.0, 5.0]))
@settings(max_examples=10)
def test_the_laws_hold_for_any_annotation(
    annotations: list[Annotation], halo: int, context: int, anisotropy: float
) -> None:
    chosen = SplitSettings(halo=halo, context=context, anisotropy=anisotropy, seed=halo)
    split = split_annotations(annotations, chosen)
    check(annotations, split)
    again = split_annotations(annotations, chosen)
    for one, other in zip(split.volumes, again.volumes, strict=True):
        assert (one.train, one.selection, one.judging) == (
            other.train,
            other.selection,
            other.judging,
        )
    assert (split.note, split.gap) == (again.note, again.gap)
    if split.has_claim and split.gap:
        assert split.gap_slices >= max(1, context, split.gap / anisotropy)


@pytest.mark.parametrize("seed", range(3))
def test_sixty_strokes_on_each_of_three_slices(seed: int) -> None:
    """The reference case of fine-tuning: there is no room for the halo between the strokes."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((3, 512, 512), np.uint8)
    for z in range(3):
        paint_strokes(labels[z : z + 1], rng, 60)
    annotation = annotate(labels)
    split = split_annotations([annotation], SplitSettings(seed=seed))
    check([annotation], split)
    assert 9 <= split.gap < PAPER_HALO
    train, selection, judging = shares([annotation], split)
    assert train >= 0.7
    assert min(selection, judging) >= 0.08
    assert selection + judging <= 0.25
    strokes = len(annotation.places())
    assert len(split.volumes[0].train.places()) >= 0.7 * strokes
    for blocks, part in (
        (split.selection_blocks, split.volumes[0].selection),
        (split.judging_blocks, split.volumes[0].judging),
    ):
        assert len(blocks) >= MIN_BLOCKS
        assert all(part.counts[:2])
    assert "no room for the 92 pixels" in split.note


@given(st.integers(0, 2**32), st.integers(2, 12))
@settings(max_examples=5)
def test_most_of_a_rare_class_is_learnt_from(seed: int, places: int) -> None:
    """Strokes that hold a few pixels of a third class here and there, as on organelles."""
    rng = np.random.default_rng(seed)
    labels = stroke_labels(rng, (3, 400, 400), 150)
    for z, y, x in rng.permutation(np.argwhere(labels))[:places]:
        spot = labels[z, max(y - 3, 0) : y + 3, max(x - 3, 0) : x + 3]
        spot[spot > 0] = 3
    annotation = annotate(labels)
    split = split_annotations([annotation], SplitSettings(seed=places))
    check([annotation], split)
    assert min(len(split.selection_blocks), len(split.judging_blocks)) >= MIN_BLOCKS
    learnt = np.array(split.volumes[0].train.counts)
    assert (learnt >= LEAST_OF_CLASS * np.array(annotation.counts)).all()
    assert learnt.sum() >= 0.65 * voxels([annotation])


def test_slices_that_are_labeled_everywhere_are_cut_with_the_whole_halo(
    rng: np.random.Generator,
) -> None:
    annotation = annotate(dense_labels(rng, (3, 400, 400)))
    split = split_annotations([annotation], SplitSettings(halo=20))
    check([annotation], split)
    assert split.gap >= 20
    assert min(len(split.selection_blocks), len(split.judging_blocks)) >= MIN_BLOCKS
    for volume in split.volumes:
        for part in parts_of(volume):
            # Neighboring slices are not independent: a place is the same part in all of them.
            np.testing.assert_array_equal(part[0] > 0, part[1] > 0)
            np.testing.assert_array_equal(part[0] > 0, part[2] > 0)


def test_large_dense_slices_take_little_time(rng: np.random.Generator) -> None:
    small = dense_labels(rng, (3, 256, 256), smooth=2)
    annotation = Annotation.from_array(small.repeat(4, axis=1).repeat(4, axis=2), CLASSES)
    start = time.process_time()
    split = split_annotations([annotation], SplitSettings())
    assert time.process_time() - start < 3
    assert split.has_claim
    assert shares([annotation], split)[0] >= 0.65


def test_a_thick_stack_is_held_out_along_z_too(rng: np.random.Generator) -> None:
    """A column of 60 x 60 has no room for a gap of 12 beside it, but 400 slices have."""
    annotation = annotate(stroke_labels(rng, (400, 60, 60), 250))
    split = split_annotations([annotation], SplitSettings(halo=12))
    check([annotation], split)
    assert split.gap == split.gap_slices == 12
    blocks = (*split.selection_blocks, *split.judging_blocks)
    assert max(block.box.shape[0] for block in blocks) < 100


def test_an_anisotropic_stack_needs_fewer_slices_between(rng: np.random.Generator) -> None:
    labels = stroke_labels(rng, (40, 200, 200), 200)
    split = split_annotations([annotate(labels)], SplitSettings(halo=40, anisotropy=10))
    check([annotate(labels)], split)
    assert split.gap_slices == max(1, -(-split.gap // 10))


def spots(shape: tuple[int, int], classes: Sequence[int]) -> Labels:
    """Return spots of 3 x 3 pixels, 50 pixels apart, with these classes in turn."""
    labels = np.zeros((1, *shape), np.uint8)
    places = [(y, x) for y in range(5, shape[0], 50) for x in range(5, shape[1], 50)]
    for (y, x), k in zip(places, classes, strict=True):
        labels[0, y : y + 3, x : x + 3] = k
    return labels


@pytest.mark.parametrize("seed", range(4))
def test_a_class_in_five_places_is_in_all_three_parts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    order = rng.permutation([1] * 40 + [2] * 19 + [3] * 5).tolist()
    annotation = annotate(spots((400, 400), order))
    split = split_annotations([annotation], SplitSettings(halo=20, seed=seed))
    check([annotation], split)
    volume = split.volumes[0]
    for part in (volume.train, volume.selection, volume.judging):
        assert all(part.counts)
    assert split.gap == 20


@pytest.mark.parametrize("seed", range(4))
def test_of_a_class_in_three_places_two_are_learnt_from(seed: int) -> None:
    rng = np.random.default_rng(seed)
    order = rng.permutation([1] * 40 + [2] * 21 + [3] * 3).tolist()
    annotation = annotate(spots((400, 400), order))
    split = split_annotations([annotation], SplitSettings(halo=20, seed=seed))
    check([annotation], split)
    assert split.volumes[0].train.counts[2] >= 2 * 9
    assert "too little is annotated of mitochondrion" in split.note


def test_a_class_of_which_too_little_can_be_learnt_is_named() -> None:
    """Interior is in nine places alike, and six are the fewest that can be held out."""
    labels = spots((100, 250), [1] * 10)
    labels[0, 5:25, 5:25] = 1
    labels[0, 3:10, 50:] += labels[0, 3:10, 50:]
    labels[0, 53:60] += labels[0, 53:60]
    labels[labels == 2] -= np.arange(np.count_nonzero(labels == 2), dtype=np.uint8) % 3 == 0
    annotation = annotate(labels)
    split = split_annotations([annotation], SplitSettings(halo=20))
    check([annotation], split)
    assert split.has_claim
    assert split.volumes[0].train.counts[1] < LEAST_OF_CLASS * annotation.counts[1]
    assert "too little is annotated to learn from 60% of interior" in split.note


def test_the_only_assignment_that_gives_each_part_each_class_is_found() -> None:
    """Of four places of a class two are too near to be apart: they go together."""
    labels = spots((400, 400), [1] * 30 + [3] + [2] * 20 + [3] + [1] * 11 + [3])
    labels[0, 5:8, 12:15] = 3
    labels[0, 5:8, 20:23] = 3
    labels[0, 305:308, 5:8] = 2
    annotation = annotate(labels)
    split = split_annotations([annotation], SplitSettings(halo=30))
    check([annotation], split)
    volume = split.volumes[0]
    assert all(all(p.counts) for p in (volume.train, volume.selection, volume.judging))


def test_a_class_in_one_place_is_learnt_and_the_note_says_so() -> None:
    annotation = annotate(spots((400, 400), [1] * 40 + [2] * 23 + [3]))
    split = split_annotations([annotation], SplitSettings(halo=20))
    check([annotation], split)
    assert split.has_claim
    assert "too little is annotated of mitochondrion, of which none judges" in split.note


def test_of_many_images_whole_ones_are_held_out() -> None:
    rng = np.random.default_rng(0)
    annotations = [annotate(dense_labels(rng, (1, 70, 50))) for _ in range(48)]
    split = split_annotations(annotations, SplitSettings())
    check(annotations, split)
    assert split.gap == 0
    assert len(split.judging_blocks) == 6
    for whole, volume in zip(annotations, split.volumes, strict=True):
        assert whole in (volume.train, volume.selection, volume.judging)
    assert "of 48 that are annotated, 6 to choose" in split.note


def test_a_class_that_few_images_have_is_in_all_parts() -> None:
    rng = np.random.default_rng(0)
    annotations = []
    for number in range(24):
        labels = dense_labels(rng, (1, 40, 40))
        labels[0, :6, :6] = 3 if number in (2, 5, 11, 17, 20) else 1
        annotations.append(annotate(labels))
    split = split_annotations(annotations, SplitSettings())
    check(annotations, split)
    for part in ("train", "selection", "judging"):
        assert any(getattr(volume, part).counts[2] for volume in split.volumes)


def test_eight_images_give_blocks_enough_for_a_verdict() -> None:
    rng = np.random.default_rng(0)
    annotations = [annotate(dense_labels(rng, (1, 130, 130))) for _ in range(8)]
    split = split_annotations(annotations, SplitSettings())
    for whole, volume in zip(annotations, split.volumes, strict=True):
        assert whole in (volume.train, volume.selection, volume.judging)
    check_blocks(annotations, [v.judging for v in split.volumes], split.judging_blocks)
    assert len(split.judging_blocks) >= MIN_BLOCKS
    assert len({block.volume for block in split.judging_blocks}) == 1


def one_stroke() -> Labels:
    labels = np.zeros((1, 100, 100), np.uint8)
    labels[0, 50:53, 40:55] = 1
    labels[0, 50:53, 40:44] = 2
    return labels


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (np.zeros((2, 30, 30), np.uint8), "nothing is annotated"),
        (np.ones((1, 1, 1), np.uint8), "only the class membrane is annotated"),
        (np.ones((1, 300, 300), np.uint8), "only the class membrane is annotated"),
        (one_stroke(), "too little is annotated to hold some of it out (1 separate place(s)"),
        (spots((150, 100), [1, 2, 1, 2, 1, 2]), "6 separate place(s)"),
        (np.arange(4, dtype=np.uint8).reshape(1, 2, 2) % 3, "too little is annotated"),
    ],
    ids=["nothing", "one pixel", "one class", "one stroke", "six spots", "2 x 2"],
)
def test_too_little_is_said_and_all_of_it_is_learnt_from(labels: Labels, reason: str) -> None:
    annotation = annotate(labels)
    split = split_annotations([annotation], SplitSettings())
    check([annotation], split)
    assert split.note.startswith(reason) or reason in split.note
    assert split.volumes[0].train == annotation
    assert (split.has_selection, split.has_claim) == (False, False)


def test_everything_in_one_corner_of_a_large_image_is_split_there() -> None:
    labels = np.zeros((1, 900, 900), np.uint8)
    labels[:, 100:300, 650:850] = stroke_labels(np.random.default_rng(2), (1, 200, 200), 60)
    annotation = annotate(labels)
    split = split_annotations([annotation], SplitSettings())
    check([annotation], split)
    assert split.has_claim
    assert split.gap >= 9


def test_another_seed_holds_out_other_labels(rng: np.random.Generator) -> None:
    annotation = annotate(stroke_labels(rng, (1, 300, 300), 80))
    one, other = (split_annotations([annotation], SplitSettings(seed=s)) for s in (0, 1))
    assert one.volumes[0].judging != other.volumes[0].judging


def test_given_volumes_select_and_judge_by_halves(rng: np.random.Generator) -> None:
    learnt = [annotate(stroke_labels(rng, (1, 200, 200), 20)) for _ in range(2)]
    held = annotate(stroke_labels(rng, (2, 300, 300), 60))
    split = split_given(learnt, [held], SplitSettings())
    assert [volume.train for volume in split.volumes[:2]] == learnt
    assert split.volumes[2].train.is_empty
    check_parts(dense(held), split.volumes[2], split.gap, split.gap_slices)
    check_places(held, split.volumes[2])
    parts = [split.volumes[2].selection, split.volumes[2].judging]
    check_blocks([held], [parts[1]], [replace(block, volume=0) for block in split.judging_blocks])
    for part in parts:
        assert voxels([part]) >= 0.35 * voxels([held])
        assert all(part.counts[:2])
    assert min(len(split.selection_blocks), len(split.judging_blocks)) >= MIN_BLOCKS
    assert {block.volume for block in split.judging_blocks} == {2}


def test_a_dense_image_that_is_given_is_halved_by_a_cut(rng: np.random.Generator) -> None:
    learnt = annotate(stroke_labels(rng, (1, 100, 100), 9))
    held = annotate(dense_labels(rng, (1, 200, 200)))
    split = split_given([learnt], [held], SplitSettings(halo=12))
    check_parts(dense(held), split.volumes[1], split.gap, split.gap_slices)
    parts = (split.volumes[1].selection, split.volumes[1].judging)
    assert min(voxels([part]) for part in parts) >= 0.3 * voxels([held])


def test_a_single_place_that_is_given_selects_and_claims_nothing() -> None:
    learnt = annotate(spots((400, 400), [1] * 40 + [2] * 24))
    split = split_given([learnt], [annotate(one_stroke())], SplitSettings())
    assert split.volumes[1].selection == annotate(one_stroke())
    assert (split.has_selection, split.has_claim) == (True, False)
    assert "too little was given" in split.note


def test_named_slices_and_their_neighbors_are_not_learnt_from(rng: np.random.Generator) -> None:
    annotation = annotate(np.repeat(spots((300, 300), [1] * 18 + [2] * 18), 7, axis=0))
    split = split_slices([annotation], {0: [3]}, SplitSettings(halo=20))
    train, selection, judging = parts_of(split.volumes[0])
    whole = dense(annotation)
    for z in (0, 1, 5, 6):
        np.testing.assert_array_equal(train[z], whole[z])
    assert not train[2:5].any()
    np.testing.assert_array_equal(selection[3] + judging[3], whole[3])
    assert not np.delete(selection + judging, 3, axis=0).any()
    wider = split_slices([annotation], {0: [3]}, SplitSettings(halo=20, context=2))
    assert not dense(wider.volumes[0].train)[1:6].any()


def test_what_cannot_be_split_is_refused() -> None:
    annotation = annotate(one_stroke())
    other = Annotation((1, 5, 5), ["cell"])
    with pytest.raises(AnnotationError, match="cannot be split together"):
        split_annotations([], SplitSettings())
    with pytest.raises(AnnotationError, match="all of the same classes"):
        split_annotations([annotation, other], SplitSettings())
    with pytest.raises(AnnotationError, match="given for validation"):
        split_given([annotation], [Annotation((1, 5, 5), CLASSES)], SplitSettings())
    with pytest.raises(AnnotationError, match="given for validation"):
        split_given([annotation], [], SplitSettings())
    with pytest.raises(AnnotationError, match="slice 4 of volume 0"):
        split_slices([annotation], {0: [4]}, SplitSettings())
    with pytest.raises(AnnotationError, match="slice 0 of volume 7"):
        split_slices([annotation], {7: [0]}, SplitSettings())
