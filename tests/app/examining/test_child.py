"""Questions to another process: whatever it does, there is an answer in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from napari_unet.app.examining.child import ask

if TYPE_CHECKING:
    from pathlib import Path

SOURCES = {
    "print('noise'); print('{\"a\": 1}')": "",
    "print('[1]')": "an answer that is none",
    "": "an answer that is none",
    "raise SystemExit(3)": "ended with code 3",
    "raise ValueError('no such thing')": "ended with code 1: ValueError: no such thing",
    "import os, sys\nsys.stderr.write('why\\nmore\\n'); sys.stderr.flush(); os.abort()": (
        "ended by signal 6: why"
    ),
    "import time; time.sleep(60)": "no answer within 1 s",
}


@pytest.mark.parametrize(("source", "failure"), SOURCES.items(), ids=range(len(SOURCES)))
def test_every_end_is_an_answer(tmp_path: Path, source: str, failure: str) -> None:
    (tmp_path / "asked.py").write_text(source)
    answer = ask(
        "asked", environment={"PYTHONPATH": str(tmp_path)}, timeout=1 if "sleep" in source else 20
    )
    assert answer.failure == failure
    assert (answer.facts == {"a": 1}) == (failure == "")


def test_files_of_the_current_folder_are_not_taken_for_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit(9)")
    (tmp_path / "napari_unet.py").write_text("raise SystemExit(8)")
    monkeypatch.chdir(tmp_path)
    assert "ended" not in ask("napari_unet.app.examining.child").failure
