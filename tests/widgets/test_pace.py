"""What changes is drawn together, as often as drawing allows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from napari_unet.widgets import _pace
from napari_unet.widgets._pace import Pace
from napari_unet.widgets._share_bar import STEPS, ShareBar

if TYPE_CHECKING:
    from qtpy.QtGui import QPaintEvent


def test_one_beat_for_all_who_want_it(qtbot: Any) -> None:
    pace = Pace()
    beats: list[float] = []
    pace.beat.connect(lambda: beats.append(time.monotonic()))
    for _ in range(5):
        pace.want()
    qtbot.wait(4 * _pace.SHORTEST_MS)
    assert len(beats) == 1
    pace.want()
    qtbot.waitUntil(lambda: len(beats) == 2, timeout=5000)


def test_slow_drawing_slows_the_beat_and_quick_drawing_does_not(qtbot: Any) -> None:
    pace = Pace()
    seconds = [0.06]
    pace.beat.connect(lambda: time.sleep(seconds[0]))
    pace.want()
    qtbot.waitUntil(lambda: pace.interval_ms >= 60 * _pace.REST, timeout=5000)
    assert pace.interval_ms <= _pace.LONGEST_MS
    seconds[0] = 0
    for _ in range(3):
        pace.want()
        with qtbot.waitSignal(pace.beat, timeout=5000):
            pass
        qtbot.wait(20)
    assert pace.interval_ms < 60 * _pace.REST


def test_the_bar_is_not_painted_at_once(qtbot: Any) -> None:
    painted: list[int] = []

    class Watched(ShareBar):
        def paintEvent(self, event: QPaintEvent | None) -> None:
            painted.append(self.value())
            super().paintEvent(event)

    bar = Watched()
    qtbot.addWidget(bar)
    bar.show()
    qtbot.waitExposed(bar)
    qtbot.waitUntil(lambda: bool(painted), timeout=5000)
    painted.clear()
    for share in (0.2, 0.5, 0.9):
        bar.show_share(share)
        assert not painted
    qtbot.waitUntil(lambda: painted == [round(0.9 * STEPS)], timeout=5000)
    bar.show_share(-1)
    assert bar.maximum() == 0
    bar.rest()
    assert bar.maximum() == STEPS
