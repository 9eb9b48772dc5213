"""`napari-unet doctor`: findings for people and for programs, and an exit code that tells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from napari_unet.app import doctor
from napari_unet.app.examining.child import Answer
from napari_unet.app.examining.finding import Finding
from napari_unet.cli.main import app

if TYPE_CHECKING:
    from pathlib import Path


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        app(list(words))
    return int(ended.value.code or 0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes seconds and has tests of its own."""
    torch = Finding("torch", "ok", "PyTorch is well")
    monkeypatch.setattr(doctor, "examine_devices", lambda: (Answer({"threads": 1}), [torch]))
    monkeypatch.setattr(doctor, "examine_plugin", lambda: [Finding("qt", "note", "x", "do this")])


@pytest.mark.usefixtures("quick")
def test_findings_are_printed_with_their_remedies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("doctor", "--output", str(tmp_path)) == 0
    said = capsys.readouterr().out
    assert "-> do this" in said
    assert "PyTorch is well" in said
    assert said.splitlines()[-1].startswith("0 problems, ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick")
def test_the_json_has_a_stable_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("doctor", "--output", str(tmp_path), "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {"schema", "counts", "findings"}
    assert report["schema"] == 1
    assert sum(report["counts"].values()) == len(report["findings"])
    for finding in report["findings"]:
        assert set(finding) == {"name", "state", "text", "remedy", "values"}
    names = [finding["name"] for finding in report["findings"]]
    assert len(set(names)) == len(names)


@pytest.mark.usefixtures("quick")
def test_a_problem_ends_with_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NAPARI_UNET_MODELS", str(tmp_path / "gone"))
    assert call("doctor", "--output", str(tmp_path)) == 3
    assert "1 problems" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["plan", "--help"], ["doctor", "--help"]])
def test_help_loads_no_torch(words: list[str]) -> None:
    code = f"import sys\nfrom napari_unet.cli.main import app\nsys.argv[1:] = {words}\n"
    code += "try:\n    app()\nexcept SystemExit:\n    print('torch' in sys.modules)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_doctor_runs_where_torch_and_qt_are_broken(tmp_path: Path) -> None:
    for name in ("torch", "qtpy"):
        (tmp_path / f"{name}.py").write_text("import os; os.abort()")
    (tmp_path / "out").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    words = [sys.executable, "-m", "napari_unet", "doctor", "--output", str(tmp_path / "out")]
    done = subprocess.run(
        [*words, "--json"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3, done.stderr
    report = json.loads(done.stdout)
    problems = {
        item["name"]: item["text"] for item in report["findings"] if item["state"] == "problem"
    }
    assert set(problems) == {"torch", "qt"}
    assert "ended by signal 6" in problems["torch"]
