"""Every hostile file is refused in a sentence that names it: fast, in little memory, unrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.hostile.corpus import CASES

from napari_unet.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
MAX_CPU_SECONDS = 1.0
"""Processor time, for the machine may be busy with other things."""

MAX_MEGABYTES = 100
MAX_MESSAGE = 6000
HERE = [case for case in CASES if not case.worker]
"""Those that another process opens, which imports PyTorch first, are left to the benchmark."""


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, Any]]:
    """Return what came of opening each file, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.hostile.measure", "-"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {f"{item['kind']}: {item['name']}": item for item in found}


def test_names_are_different_and_many() -> None:
    assert len({str(case) for case in CASES}) == len(CASES) > 400
    # What may be read instead is the exception, each with its reason in its name or nearby.
    assert sum(case.legal for case in CASES) < 30


@pytest.mark.parametrize("case", HERE, ids=str)
def test_it_is_refused(case: Any, outcomes: dict[str, dict[str, Any]]) -> None:
    outcome = outcomes[str(case)]
    assert outcome["ended"] in ({"refused", "read"} if case.legal else {"refused"}), outcome
    assert not outcome["ran_code"], outcome
    assert outcome["cpu_seconds"] < MAX_CPU_SECONDS, outcome
    assert outcome["megabytes"] < MAX_MEGABYTES, outcome
    if outcome["ended"] == "refused":
        assert outcome["names_file"], outcome
        assert len(outcome["message"]) < MAX_MESSAGE, outcome
        assert "Traceback" not in outcome["message"], outcome


def test_the_command_line_says_it_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    wanted = ("zarr 3: a bomb of Zstandard", "safetensors: a header of 100 MB")
    image, model = (
        next(case for case in CASES if str(case) == name).make(tmp_path) for name in wanted
    )
    monkeypatch.chdir(tmp_path)
    for given in ("em-membranes", str(model)):
        words = ["segment", "--model", given, "--output", "out.zarr", "--progress", "none"]
        with pytest.raises(SystemExit) as ended:
            app([*words, str(image)])
        said = capfd.readouterr().err
        assert ended.value.code in (2, 3), said
        assert "hostile" in said
        assert "Traceback" not in said
