"""The import contracts of pyproject.toml hold, and they are sharp enough to notice a breach."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINT = "from importlinter.cli import lint_imports_command as command; command()"


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the contracts of a checkout on its own sources."""
    return subprocess.run(
        [sys.executable, "-c", LINT, "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "src")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a copy of the sources and the configuration that a test may spoil."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(
        ROOT / "src",
        tmp_path / "src",
        ignore=lambda _, names: [n for n in names if n in {"resources", "__pycache__"}],
    )
    return tmp_path


def test_all_import_contracts_hold() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "planted", "broken"),
    [
        ("inference/__init__.py", "def f():\n    import napari\n", "without napari or Qt"),
        ("io/__init__.py", "def f():\n    import torch\n", "labels and metrics run without torch"),
        ("widgets/__init__.py", "def f():\n    import napari_unet.app.segment\n", "panel runs"),
        ("core/__init__.py", "def f():\n    import zarr\n", "numpy and pydantic only"),
        ("model/__init__.py", "import napari_unet.app.segment\n", "floors below it"),
        ("labels/__init__.py", "import napari_unet.metrics\n", "floors below it"),
        ("utils.py", "", "floors below it"),
        (
            "app/__init__.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import qtpy\n",
            "without napari or Qt",
        ),
    ],
)
def test_a_planted_breach_is_noticed(
    checkout: Path, module: str, planted: str, broken: str
) -> None:
    path = checkout / "src" / "napari_unet" / module
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" + planted)
    result = lint_imports(checkout)
    assert result.returncode == 1, result.stdout + result.stderr
    assert any(broken in line and "BROKEN" in line for line in result.stdout.splitlines()), (
        result.stdout
    )
