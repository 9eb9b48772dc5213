"""When the view is repainted while weights learn, and with what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.nets import lively_net

from napari_unet.app.training.held_out import ImageInput, predict_box
from napari_unet.app.training.preview import Previewer, Scene
from napari_unet.core.boxes import Box
from napari_unet.core.events import Warned
from napari_unet.core.normalization import measure_normalization
from napari_unet.core.receptive import unet_geometry
from napari_unet.core.train_events import PreviewReady
from napari_unet.errors import InputError
from napari_unet.inference.control import JobControl
from napari_unet.inference.device import choose_backend
from napari_unet.io.image import Selection, wrap_array

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (3, 100, 120)
VIEW = Box((1, 10, 20), (2, 60, 90))


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def scene(rng: np.random.Generator) -> Scene:
    source = wrap_array(rng.integers(0, 255, SHAPE, np.uint8), Selection(axes="zyx"))
    image = ImageInput(source, measure_normalization(source))
    return Scene(image, unet_geometry(2), choose_backend("cpu", threads=1), None)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def due_seconds(previewer: Previewer, clock: Clock, seconds: range) -> list[int]:
    """Return the seconds at which a preview was due, and made at once."""
    net, found, began = lively_net(1), [], clock.now
    for second in seconds:
        clock.now = began + second
        if previewer.is_due:
            assert previewer.make(net, second) is not None
            found.append(second)
    return found


def test_previews_come_after_5_10_and_20_seconds_and_then_every_10(
    tmp_path: Path, scene: Scene, clock: Clock
) -> None:
    control = JobControl()
    control.viewport = VIEW
    previewer = Previewer(tmp_path, scene, control, clock)
    assert due_seconds(previewer, clock, range(46)) == [5, 10, 20, 30, 40]


def test_nobody_looks_nothing_is_shown(tmp_path: Path, scene: Scene, clock: Clock) -> None:
    control = JobControl()
    previewer = Previewer(tmp_path, scene, control, clock)
    assert due_seconds(previewer, clock, range(31)) == []
    assert previewer.make(lively_net(1), 3) is None
    control.viewport = Box((0, 500, 0), (1, 600, 50))
    assert previewer.make(lively_net(1), 3) is None
    assert list(tmp_path.iterdir()) == []


def test_a_preview_follows_the_view(tmp_path: Path, scene: Scene, clock: Clock) -> None:
    control = JobControl()
    control.viewport = VIEW
    previewer = Previewer(tmp_path, scene, control, clock)
    net = lively_net(1)
    clock.now += 5
    previewer.make(net, 1)
    control.viewport = Box((2, 0, 0), (3, 50, 50))
    clock.now += 1
    # Not at every step of a hand that is still moving.
    assert not previewer.is_due
    clock.now += 1
    assert previewer.is_due
    event = previewer.make(net, 2)
    assert event is not None
    assert event.box == control.viewport
    assert not previewer.is_due


def test_slow_previews_are_rarer(tmp_path: Path, scene: Scene, clock: Clock) -> None:
    control = JobControl()
    control.viewport = VIEW

    class Slow(Clock):
        """Every look at it takes four seconds of somebody else's time."""

        def __call__(self) -> float:
            self.now += 4
            return self.now

    slow = Slow()
    previewer = Previewer(tmp_path, scene, control, slow)
    previewer.make(lively_net(1), 1)
    ended = slow.now
    while not previewer.is_due:
        pass
    # It took four seconds; so much may be 15 %.
    assert slow.now - ended >= 4 / 0.15 - 4


def test_old_and_new_labels_are_those_of_the_same_place(
    tmp_path: Path, scene: Scene, clock: Clock
) -> None:
    control = JobControl()
    control.viewport = VIEW
    old, new = lively_net(1), lively_net(2)
    previewer = Previewer(tmp_path, scene, control, clock, old.state_dict())
    where = scene.geometry, scene.backend
    for box in (VIEW, Box((0, 30, 30), (1, 70, 70))):
        control.viewport = box
        event = previewer.make(new, 7)
        assert isinstance(event, PreviewReady)
        assert (event.step, event.box) == (7, box)
        for path, net in ((event.path, new), (event.before, old)):
            np.testing.assert_array_equal(
                np.load(path), predict_box(net, scene.image, box, *where), strict=True
            )
        assert (np.load(event.path) != np.load(event.before)).any()


def test_from_nothing_there_is_no_before(tmp_path: Path, scene: Scene, clock: Clock) -> None:
    control = JobControl()
    control.viewport = VIEW
    event = Previewer(tmp_path, scene, control, clock).make(lively_net(1), 1)
    assert isinstance(event, PreviewReady)
    assert event.before == ""
    assert [path.name for path in tmp_path.iterdir()] == ["preview.npy"]


def test_what_is_damaged_where_the_user_looks_is_said_once_and_nothing_more(
    tmp_path: Path, scene: Scene, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = JobControl()
    control.viewport = VIEW
    old, new = lively_net(1), lively_net(2)
    previewer = Previewer(tmp_path, scene, control, clock, old.state_dict())

    def damaged(box: Box) -> None:
        raise InputError("the chunk c/2/0/0 is damaged; restore it")

    with monkeypatch.context() as patch:
        patch.setattr(scene.image.source, "read", damaged)
        said = previewer.make(new, 1)
        assert isinstance(said, Warned)
        assert "c/2/0/0 is damaged" in said.message
        assert not previewer.is_due, "it is not tried again at every step"
        assert previewer.make(new, 2) is None
    event = previewer.make(new, 3)
    assert isinstance(event, PreviewReady)
    where = scene.geometry, scene.backend
    for path, net in ((event.path, new), (event.before, old)):
        np.testing.assert_array_equal(np.load(path), predict_box(net, scene.image, VIEW, *where))
