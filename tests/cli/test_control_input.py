"""What may be said to a running job."""

from __future__ import annotations

import pytest

from napari_unet.cli.control_input import ControlError, obey
from napari_unet.core.boxes import Box
from napari_unet.inference.control import JobControl


def test_pause_resume_viewport_and_stop_are_obeyed() -> None:
    control = JobControl()
    obey(control, '{"command": "pause"}\n')
    assert control.paused
    obey(control, '{"command": "resume"}')
    assert not control.paused
    obey(control, '{"command": "viewport", "box": [[1, 2, 3], [4, 5, 6]]}')
    assert control.viewport == Box((1, 2, 3), (4, 5, 6))
    obey(control, '{"command": "pause"}')
    obey(control, '{"command": "stop"}')
    assert control.stopped
    assert not control.paused, "a stopped job must not wait"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "stop",
        "[]",
        "{}",
        '{"command": "explode"}',
        '{"command": ["stop"]}',
        '{"command": "viewport"}',
        '{"command": "viewport", "box": [[0, 0, 0]]}',
        '{"command": "viewport", "box": [[5, 0, 0], [1, 9, 9]]}',
        '{"command": "viewport", "box": [["a"], ["b"]]}',
        '{"command": "viewport", "box": [[0, 0, 0], [1, 1, 1e999]]}',
        "[" * 100_000,
    ],
)
def test_anything_else_is_reported_and_changes_nothing(line: str) -> None:
    control = JobControl()
    with pytest.raises(ControlError, match="not understood"):
        obey(control, line)
    assert not control.stopped
    assert not control.paused
    assert control.viewport is None
