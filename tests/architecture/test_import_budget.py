"""What may be imported when: menus and --help cost no torch, the engine needs no Qt."""

from __future__ import annotations

import subprocess
import sys

GUI = ("napari", "qtpy", "magicgui", "superqt", "vispy", "npe2", "PyQt5", "PyQt6", "PySide6")

HEAVY = ("torch", "zarr", "numpy", "scipy", "skimage", "tifffile", "pydantic", "typer", *GUI)

IMPORT_ALL = """
import importlib, pkgutil
def import_all(*parts):
    found = []
    for part in parts:
        module = importlib.import_module("napari_unet." + part)
        found.append(module.__name__)
        for info in pkgutil.walk_packages(getattr(module, "__path__", []), module.__name__ + "."):
            found.append(importlib.import_module(info.name).__name__)
    return found
"""


def run(code: str, *, blocked: tuple[str, ...] = ()) -> list[str]:
    """Return the words that a fresh interpreter prints, in which some packages are missing."""
    preamble = "import sys\n" + "".join(f"sys.modules[{name!r}] = None\n" for name in blocked)
    result = subprocess.run(
        [sys.executable, "-c", preamble + code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def loaded(packages: tuple[str, ...]) -> str:
    """Return code that prints which packages have been imported, between two bars."""
    return f"\nprint('|', *[p for p in {packages!r} if p in sys.modules], '|')\n"


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert run("import napari_unet" + loaded(HEAVY)) == ["|", "|"]


def test_help_loads_neither_torch_nor_the_scientific_libraries() -> None:
    code = (
        "from napari_unet.cli.main import main\n"
        "sys.argv = ['napari-unet', 'segment', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
    )
    words = run(code + loaded(("torch", "scipy", "skimage", *GUI)))
    assert "--region" in " ".join(words)
    assert words[-2:] == ["|", "|"]


def test_the_widgets_never_load_torch() -> None:
    words = run(IMPORT_ALL + "print(*import_all('widgets'))" + loaded(("torch",)))
    assert "napari_unet.widgets.dock" in words
    assert words[-2:] == ["|", "|"]


def test_floors_without_torch_import_without_it() -> None:
    parts = ("errors", "core", "files", "io", "labels", "metrics")
    words = run(IMPORT_ALL + f"print(*import_all(*{parts!r}))", blocked=("torch",))
    assert "napari_unet.core.tiling" in words


def test_the_engine_runs_where_napari_and_qt_are_missing() -> None:
    parts = ("model", "augment", "io", "labels", "metrics", "inference", "training", "app", "cli")
    code = (
        IMPORT_ALL
        + f"import_all(*{parts!r})\n"
        + "import numpy, napari_unet\n"
        + "image = numpy.random.default_rng(0).integers(0, 255, (64, 64), dtype='uint8')\n"
        + "labels = napari_unet.segment(image, model='em-membranes', device='cpu')\n"
        + "print(*labels.shape, labels.min() >= 1)\n"
    )
    assert run(code, blocked=GUI)[-3:] == ["64", "64", "True"]
