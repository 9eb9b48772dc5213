"""What is done beforehand: once in a session, and garbage only where it is due."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

from napari_unet.widgets import _idle
from napari_unet.widgets._idle import prepare_session, tidy

if TYPE_CHECKING:
    import pytest


def test_a_session_is_prepared_once() -> None:
    thread = prepare_session()
    thread.join(60)
    assert prepare_session() is thread
    assert {*_idle.FOR_RESULTS, "skimage.color.colorconv"} <= set(sys.modules)


def test_garbage_is_collected_before_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = [0, 0, 4]
    done: list[bool] = []
    monkeypatch.setattr(gc, "isenabled", lambda: True)
    monkeypatch.setattr(gc, "get_threshold", lambda: (700, 10, 10))
    monkeypatch.setattr(gc, "get_count", lambda: tuple(counts))
    monkeypatch.setattr(gc, "collect", lambda: done.append(True))
    assert not tidy()
    counts[2] = 5
    assert tidy()
    assert done == [True]
    # Where Python decides by other numbers, or not at all, nothing is done.
    monkeypatch.setattr(gc, "get_threshold", lambda: (2000, 10, 0))
    assert not tidy()
    monkeypatch.setattr(gc, "get_threshold", lambda: (700, 10, 10))
    monkeypatch.setattr(gc, "isenabled", lambda: False)
    assert not tidy()
    assert done == [True]
