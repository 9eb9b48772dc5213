"""Where to paint next: what is said of places is what a segmentation would say of them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import zarr
from tests.nets import save_lively_model

from napari_unet.app.segment import run_job
from napari_unet.app.suggest import run_suggest
from napari_unet.app.suggesting import looking
from napari_unet.core.boxes import Box
from napari_unet.core.classes import ClassInfo
from napari_unet.core.events import StageChanged, Warned
from napari_unet.core.job import SegmentJob
from napari_unet.core.normalization import Normalization
from napari_unet.core.suggest_events import (
    PlaceFound,
    PlacesRanked,
    SuggestCancelled,
    SuggestedPlace,
    SuggestProgress,
    SuggestStarted,
)
from napari_unet.core.suggest_job import SuggestJob
from napari_unet.errors import AnnotationError, ConfigError
from napari_unet.inference.control import JobControl
from napari_unet.io.annotation_store import create_annotation_store

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_unet.core.suggest_events import SuggestEvent

SHAPE = (3, 90, 70)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def job_of(image: str, model: str, **options: Any) -> SuggestJob:
    small = {"edge": 24, "count": 5, "threads": 1, "rank_by": "entropy", "seconds": 1000}
    return SuggestJob.parse(small | options | {"input": image, "model": model}, source="test")


def ranked(events: list[SuggestEvent]) -> PlacesRanked:
    last = events[-1]
    assert isinstance(last, PlacesRanked)
    return last


def search(job: SuggestJob) -> tuple[SuggestedPlace, ...]:
    return ranked(list(run_suggest(job))).places


def stored_probabilities(
    tmp_path: Path, image: str, model: str, **options: Any
) -> npt.NDArray[np.float32]:
    out = tmp_path / "segmented.zarr"
    job = SegmentJob(
        input=image, model=model, output=str(out), name="p", probabilities=True, **options
    )
    for _ in run_job(job):
        pass
    group: Any = zarr.open_group(out, mode="r")
    names = [name for name, _ in group.members(max_depth=None)]
    (path,) = (name for name in names if "probabilities" in name and name.endswith("/0"))
    return np.asarray(group[path])


def test_what_happens_in_order(stack_path: str, model: str) -> None:
    events = list(run_suggest(job_of(stack_path, model)))
    stages = [event.stage for event in events if isinstance(event, StageChanged)]
    assert stages == ["opening", "loading", "searching"]
    (started,) = (event for event in events if isinstance(event, SuggestStarted))
    # 90 / 24 and 70 / 24 voxels make 4 x 3 places in each of 3 slices.
    assert (started.places, started.windows, started.ranking) == (36, 3, "entropy")
    done = [event.done for event in events if isinstance(event, SuggestProgress)]
    assert done == [1, 2, 3]
    found = [event.place for event in events if isinstance(event, PlaceFound)]
    result = ranked(events)
    assert result.places_seen == 36
    assert result.places[0].entropy == max(place.entropy for place in found)
    assert [place.rank for place in result.places] == [1, 2, 3, 4, 5]
    for one, other in itertools.combinations(result.places, 2):
        assert one.box.intersection(other.box).is_empty


@pytest.mark.parametrize("kind", ["plain", "context", "rescaled"])
def test_a_place_is_as_sure_as_its_segmentation(tmp_path: Path, stack_path: str, kind: str) -> None:
    """The tile law: whatever window is looked at, its numbers are those of the whole image."""
    expects, net = ({"context": 1}, {"in_channels": 3}) if kind == "context" else ({}, {})
    path = tmp_path / "net.safetensors"
    save_lively_model(path, seed=3, expects=expects, num_classes=3, **net)
    options = {"rescale": 0.6} if kind == "rescaled" else {}
    whole = stored_probabilities(tmp_path, stack_path, str(path), **options)
    for ranking in ("random", "margin"):
        places = search(job_of(stack_path, str(path), count=36, rank_by=ranking, **options))
        assert len(places) == 36
        for place in places:
            p = whole[(slice(None), *place.box.slices)].astype(float)
            entropy = -(p * np.log(p)).sum(axis=0).mean() / np.log(3)
            assert place.entropy == pytest.approx(entropy, abs=2e-4)
            assert place.sureness == pytest.approx(p.max(axis=0).mean(), abs=2e-4)


def test_two_models_differ_where_their_classes_do(tmp_path: Path, stack_path: str) -> None:
    paths = [str(tmp_path / f"{k}.safetensors") for k in range(2)]
    for seed, path in enumerate(paths):
        save_lively_model(Path(path), seed=seed, depth=2 + seed)
    options = {"rank_by": "disagreement", "count": 36}
    places = search(job_of(stack_path, paths[0], compare_with=paths[1], **options))
    chosen = []
    for k, path in enumerate(paths):
        folder = tmp_path / str(k)
        folder.mkdir()
        chosen.append(stored_probabilities(folder, stack_path, path).argmax(axis=0))
    for place in places:
        differ = (chosen[0] != chosen[1])[place.box.slices].mean()
        assert place.disagreement == pytest.approx(differ, abs=1e-4)
    assert places[0].disagreement == max(place.disagreement or 0 for place in places)
    same = search(job_of(stack_path, paths[0], compare_with=paths[0], **options))
    assert {place.disagreement for place in same} == {0.0}


def painted(tmp_path: Path, labels: npt.NDArray[np.uint8]) -> str:
    classes = [ClassInfo(name="a", color="#ff0000"), ClassInfo(name="b", color="#00ff00")]
    store = create_annotation_store(tmp_path / "strokes.zarr", labels.shape, classes)
    store.write(Box.of_shape(labels.shape), labels)
    return str(tmp_path / "strokes.zarr")


@pytest.mark.parametrize("ranking", ["random", "entropy"])
def test_places_with_strokes_are_left_out(
    tmp_path: Path, stack_path: str, model: str, ranking: str
) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[0, :, 20] = 1
    labels[1] = 2
    labels[2, 89, 69] = 1
    path = painted(tmp_path, labels)
    job = job_of(stack_path, model, annotation=path, rank_by=ranking, count=36)
    places = search(job)
    assert len(places) == 8 + 11
    assert not any(labels[place.box.slices].any() for place in places)
    full = tmp_path / "full"
    full.mkdir()
    everywhere = painted(full, np.ones(SHAPE, np.uint8))
    events = list(run_suggest(job.model_copy(update={"annotation": everywhere})))
    assert ranked(events).places == ()
    assert "all hold strokes" in next(e.message for e in events if isinstance(e, Warned))


def test_an_annotation_of_another_image_is_refused(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    path = painted(tmp_path, np.ones((3, 90, 71), np.uint8))
    with pytest.raises(AnnotationError, match="does not fit the image"):
        search(job_of(stack_path, model, annotation=path))


@pytest.mark.parametrize("ranking", ["random", "mixed"])
def test_slice_and_region_bound_the_search(stack_path: str, model: str, ranking: str) -> None:
    options = {"scope": "slice", "slice": 2, "region": "1:3,30:,:40", "rank_by": ranking}
    places = search(job_of(stack_path, model, count=99, **options))
    inside = Box((2, 30, 0), (3, 90, 40))
    assert sum(place.box.size for place in places) == inside.size
    assert all(inside.contains(place.box) for place in places)
    with pytest.raises(ConfigError, match="slice 0 is not among the slices 1 to 2"):
        search(job_of(stack_path, model, **options | {"slice": 0}))


def test_planes_have_places_too(tmp_path: Path, model: str, rng: np.random.Generator) -> None:
    np.save(tmp_path / "plane.npy", rng.integers(0, 255, (60, 50), dtype=np.uint8))
    options = {"scope": "slice", "slice": 0, "axes": "yx"}
    places = search(job_of(str(tmp_path / "plane.npy"), model, count=99, **options))
    assert sum(place.box.size for place in places) == 60 * 50


def test_the_same_seed_gives_the_same_places(stack_path: str, model: str) -> None:
    options = {"rank_by": "entropy", "windows": 1}
    first, again, other = (
        search(job_of(stack_path, model, seed=seed, **options)) for seed in (1, 1, 2)
    )
    assert first == again
    assert {place.box.start[0] for place in first} != {place.box.start[0] for place in other}


def test_time_bounds_the_search(stack_path: str, model: str) -> None:
    seconds = itertools.count(0, 10)
    job = job_of(stack_path, model, seconds=15, count=99)
    events = list(run_suggest(job, clock=lambda: float(next(seconds))))
    # Looked at 10 and 20 s after its begin at 0: one before the time is up.
    assert sum(isinstance(event, SuggestProgress) for event in events) == 2
    assert ranked(events).places_seen == 24


def test_it_can_be_stopped(stack_path: str, model: str) -> None:
    control, events = JobControl(), []
    for event in run_suggest(job_of(stack_path, model), control):
        events.append(event)
        if isinstance(event, PlaceFound):
            control.stop()
    assert events[-1] == SuggestCancelled(1, 3)


def test_what_was_never_written_and_what_is_damaged_is_left_out(
    tmp_path: Path, model: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The damaged chunk is not among those that the intensities were measured of.
    known = Normalization(offset=(120.0,), scale=(70.0,))
    monkeypatch.setattr(looking, "measured_normalization", lambda plan: known)
    path = tmp_path / "holes.zarr"
    array = zarr.create_array(path, shape=(4, 64, 64), chunks=(1, 64, 64), dtype="uint8")
    for z in (0, 1, 3):
        array[z] = rng.integers(1, 255, (64, 64))
    chunk = path / "c" / "1" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:40])
    job = job_of(str(path), model, axes="zyx", count=99)
    events = list(run_suggest(job))
    assert {place.box.start[0] for place in ranked(events).places} == {0, 3}
    (warning,) = (event.message for event in events if isinstance(event, Warned))
    assert "was left out" in warning


@pytest.mark.parametrize("ranking", ["random", "entropy"])
def test_strokes_that_cannot_be_read_are_counted_and_their_places_left_out(
    stack_path: str, model: str, tmp_path: Path, ranking: str
) -> None:
    classes = [ClassInfo(name="a", color="#ff0000")]
    store = create_annotation_store(tmp_path / "strokes.zarr", SHAPE, classes)
    for z in (0, 1):
        store.write(Box((z, 0, 0), (z + 1, 2, 2)), np.ones((1, 2, 2), np.uint8))
    chunk = store.path / "c" / "1" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    job = job_of(stack_path, model, annotation=str(store.path), count=99, rank_by=ranking)
    events = list(run_suggest(job))
    # One place of the first slice is painted in, and maybe any of the second.
    slices = [place.box.start[0] for place in ranked(events).places]
    assert (slices.count(0), slices.count(1), slices.count(2)) == (11, 0, 12)
    (warning,) = (event.message for event in events if isinstance(event, Warned))
    assert warning.startswith("1 block of the strokes cannot be read; places there were left out")
    assert "delete the damaged chunk" in warning


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scope": "slice"}, "--scope slice --slice 12"),
        ({"slice": 3}, "--scope slice --slice 12"),
        ({"rank_by": "disagreement"}, "--compare-with"),
        ({"rank_by": "mood"}, "random"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        job_of("a.tif", "m", **options)
