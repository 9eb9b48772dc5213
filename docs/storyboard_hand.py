"""The hand of the storyboard: real mouse and key events on napari's canvas, and lines to draw."""

from __future__ import annotations

import itertools
import math
import time
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

PATIENCE_S = 120.0

STEP = 8.0
"""Pixels of the canvas between two mouse events."""

EVENT_MS = 8
"""Between two mouse events; mice send 125 in a second."""

BRUSH = 3
"""Pixels wide; on what is thinner, 1."""

Line: TypeAlias = "Sequence[tuple[float, float]]"
"""Points (y, x), in pixels of the image."""

BY_HAND: dict[str, tuple[Line, ...]] = {
    "interior": (
        ((95, 60), (100, 90)),
        ((170, 108), (172, 140)),
        ((150, 165), (165, 195)),
        ((205, 150), (225, 180)),
        ((125, 155), (118, 163)),
        ((218, 28), (222, 50)),
        ((10, 42), (25, 55)),
        ((40, 140), (42, 170)),
        # Close to membranes, or they grow thick.
        ((140, 84), (152, 84), (165, 90), (176, 97)),
        ((150, 68), (168, 72)),
        ((125, 180), (130, 198), (147, 215), (163, 230)),
        ((76, 55), (77, 70), (78, 85)),
        ((20, 183), (24, 190), (18, 196)),
        ((49, 158), (48, 175), (46, 190)),
        ((190, 62), (187, 70), (191, 78)),
        ((125, 153), (132, 149), (136, 150)),
    ),
    "membrane": (
        ((137, 74), (150, 74), (167, 80), (183, 90)),
        ((120, 146), (132, 141), (143, 147)),
        ((119, 184), (123, 200), (140, 220), (157, 234)),
        ((69, 55), (70, 70), (71, 85)),
        ((15, 175), (28, 182), (34, 193), (23, 202)),
        ((55, 155), (57, 175), (55, 195)),
        ((184, 57), (181, 68), (184, 78)),
    ),
    "mitochondrion": (
        ((15, 85), (15, 110)),
        ((30, 80), (32, 108)),
        ((42, 75), (42, 95)),
        ((243, 132), (246, 142)),
        ((4, 10), (4, 22)),
    ),
}
"""Class -> lines that a person drew on slice 8 of the sample; they fit its neighbors, too."""


class Hand:
    """Draws on a viewer's canvas with the mouse, and notes what each event costs."""

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self.canvas = viewer.window._qt_viewer.canvas.native
        self.events: list[float] = []
        """Seconds that the window took for each mouse event with the brush down."""
        self.dabs: list[float] = []
        """Seconds that `Labels.paint` took, once for each place that was painted."""

    def watch(self, layer: Any) -> None:
        """Note what painting on a layer costs from now on."""
        paint = layer.paint

        def timed(*places: Any, **options: Any) -> None:
            began = time.perf_counter()
            paint(*places, **options)
            self.dabs.append(time.perf_counter() - began)

        layer.paint = timed

    def draw(self, layer: Any, line: Line) -> float:
        """Draw a line with the left button down; return when it came up."""
        places = self._places(layer, line)
        left, nothing = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        QTest.mousePress(self.canvas, left, pos=places[0])
        for place in places[1:]:
            at, on_screen = QPointF(place), QPointF(self.canvas.mapToGlobal(place))
            moved = QMouseEvent(
                QEvent.Type.MouseMove, at, on_screen, Qt.MouseButton.NoButton, left, nothing
            )
            began = time.perf_counter()
            QApplication.sendEvent(self.canvas, moved)
            self.events.append(time.perf_counter() - began)
            QTest.qWait(EVENT_MS)
        up = time.perf_counter()
        QTest.mouseRelease(self.canvas, left, pos=places[-1])
        return up

    def hold(self, key: Qt.Key, work: Callable[[], None]) -> None:
        """Do something while a key is down in the canvas."""
        QTest.keyPress(self.canvas, key)
        work()
        QTest.keyRelease(self.canvas, key)

    def _places(self, layer: Any, line: Line) -> list[QPoint]:
        """Return where the mouse passes, in pixels of the canvas."""
        camera = self._viewer.scene.camera
        middle = np.array([self.canvas.height(), self.canvas.width()]) / 2
        depth = (0.0,) * (layer.ndim - 2)
        world = np.array([layer.data_to_world((*depth, *point))[-2:] for point in line])
        corners = (world - np.array(camera.center[-2:])) * camera.zoom + middle
        places = [corners[0]]
        for begin, end in itertools.pairwise(corners):
            parts = max(1, math.ceil(float(np.linalg.norm(end - begin)) / STEP))
            places += [begin + (end - begin) * n / parts for n in range(1, parts + 1)]
        return [QPoint(round(float(x)), round(float(y))) for y, x in places]


def simulated(
    truth: npt.NDArray[np.uint8],
    numbers: Mapping[int, int],
    rng: np.random.Generator,
    wrong: npt.NDArray[np.bool_],
) -> dict[int, tuple[int, list[Line]]]:
    """Return a brush and lines for each class, as somebody might draw who knows the truth.

    Each line begins at a random pixel of its class, one that is wrong now if there are enough, and
    goes up to 10 pixels to both sides, in the one of 12 directions in which its class reaches
    farthest.

    Parameters
    ----------
    truth : array of uint8, (y, x)
        The k-th class is k.
    numbers : mapping
        Class -> how many lines.
    rng : Generator
        Chooses the places.
    wrong : array of bool, (y, x)
        Where the labels shown now are wrong.
    """
    found: dict[int, tuple[int, list[Line]]] = {}
    for label, number in numbers.items():
        mask = truth == label
        # A hand keeps off the edge of what it means, with a brush that is no wider.
        inside = ndimage.binary_erosion(mask)
        is_thin = inside.sum() < mask.sum() / 10
        inside = mask if is_thin else inside
        places = np.argwhere(inside & wrong)
        if len(places) < number:
            places = np.argwhere(inside)
        chosen = rng.permutation(places)[:number].astype(float)
        found[label] = 1 if is_thin else BRUSH, [_longest(inside, place) for place in chosen]
    return found


def _longest(inside: npt.NDArray[np.bool_], place: npt.NDArray[np.floating]) -> Line:
    lines = []
    for angle in np.arange(12) * np.pi / 12:
        step = np.array([np.sin(angle), np.cos(angle)])
        ends = [place + sign * _reach(inside, place, sign * step) * step for sign in (-1, 1)]
        lines.append(ends)
    begin, end = max(lines, key=lambda line: float(np.linalg.norm(line[1] - line[0])))
    return tuple((float(y), float(x)) for y, x in (begin, end))


def _reach(
    inside: npt.NDArray[np.bool_],
    place: npt.NDArray[np.floating],
    step: npt.NDArray[np.floating],
) -> int:
    for length in range(1, 11):
        y, x = np.rint(place + length * step).astype(int)
        if not (0 <= y < inside.shape[0] and 0 <= x < inside.shape[1] and inside[y, x]):
            return length - 1
    return 10


def wait_until(condition: Callable[[], bool]) -> None:
    """Let the window live until a condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing happened for {PATIENCE_S:.0f} s")
        QTest.qWait(5)


def rest(seconds: float) -> None:
    """Let the window live for a while."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > end)
