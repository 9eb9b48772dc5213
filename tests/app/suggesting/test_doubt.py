"""Doubt against SciPy's entropy and a count by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import entropy

from napari_unet.app.suggesting.doubt import doubt_of, in_words, shared_numbers
from napari_unet.core.boxes import Box

WINDOW = Box((4, 10, 20), (5, 16, 29))
PLACE = Box((4, 12, 23), (5, 16, 29))


@pytest.fixture
def probabilities(rng: np.random.Generator) -> np.ndarray:
    return rng.dirichlet((0.4, 0.4, 0.4), WINDOW.shape).transpose(3, 0, 1, 2).astype(np.float32)


def test_measures_of_a_place_are_the_means_over_its_voxels(probabilities: np.ndarray) -> None:
    place = doubt_of(WINDOW, probabilities).place(PLACE)
    p = probabilities[:, 0, 2:, 3:].astype(float)
    ordered = np.sort(p, axis=0)
    assert (place.rank, place.box, place.disagreement) == (0, PLACE, None)
    assert place.entropy == pytest.approx(entropy(p, base=3, axis=0).mean(), abs=2e-4)
    assert place.margin == pytest.approx(1 - (ordered[2] - ordered[1]).mean(), abs=1e-4)
    assert place.sureness == pytest.approx(p.max(axis=0).mean(), abs=1e-4)


@pytest.mark.parametrize(("chances", "doubt"), [((1, 0, 0), 0.0), ((1 / 3,) * 3, 1.0)])
def test_the_ends_of_the_scales(chances: tuple[float, ...], doubt: float) -> None:
    p = np.broadcast_to(np.reshape(chances, (3, 1, 1, 1)), (3, *WINDOW.shape)).astype(np.float32)
    place = doubt_of(WINDOW, p).place(PLACE)
    assert (place.entropy, place.margin) == pytest.approx((doubt, doubt), abs=1e-4)


def test_one_class_leaves_no_doubt() -> None:
    place = doubt_of(WINDOW, np.ones((1, *WINDOW.shape), np.float32)).place(PLACE)
    assert (place.entropy, place.margin, place.sureness) == (0, 0, 1)


def test_disagreement_is_the_share_of_other_classes(probabilities: np.ndarray) -> None:
    mine = np.zeros(WINDOW.shape[1:], np.intp)
    theirs = mine.copy()
    theirs[2, 3:6] = 1
    place = doubt_of(WINDOW, probabilities, (mine, theirs)).place(PLACE)
    assert place.disagreement == pytest.approx(3 / PLACE.size, abs=1e-4)
    assert place.words.endswith("the models differ on 12 %")


def test_classes_of_two_models_are_the_same_if_their_names_are() -> None:
    numbers = shared_numbers(("a", "b", "c"), ("c", "x", "a"))
    assert numbers.tolist() == [2, 3, 0]


@pytest.mark.parametrize(
    ("sureness", "words"),
    [(0.699, "very unsure"), (0.7, "unsure"), (0.85, "fairly sure"), (0.95, "sure")],
)
def test_words(sureness: float, words: str) -> None:
    assert in_words(sureness, None).partition(" (")[0] == words
