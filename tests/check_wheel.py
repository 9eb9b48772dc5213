"""Check a built wheel: its files, and that it works where nothing else is installed.

Run by ``tests/run``: ``python tests/check_wheel.py dist/napari_unet-*.whl``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIRED = (
    "napari_unet/__init__.py",
    "napari_unet/napari.yaml",
    "napari_unet/py.typed",
    "napari_unet/resources/models/em-membranes.safetensors",
    "napari_unet/resources/samples/ATTRIBUTION.md",
    "napari_unet/resources/samples/fib_sem_medulla.zarr/zarr.json",
)
SIZE_LIMIT = 25_000_000
"""Bytes of the whole wheel: the bundled model may have 16 MB, the sample 1.2 MB."""


def check_contents(wheel: Path) -> list[str]:
    """Return what is wrong with the files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "src/napari_unet"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    sources = {line.removeprefix("src/") for line in tracked.stdout.splitlines()}
    problems = [f"missing: {name}" for name in sorted(sources.union(REQUIRED) - names)]
    problems += [
        f"unexpected: {name}"
        for name in sorted(names)
        if not name.startswith(("napari_unet/", "napari_unet-"))
        or "__pycache__" in name
        or "/test" in name
    ]
    if (size := wheel.stat().st_size) > SIZE_LIMIT:
        problems.append(f"the wheel has {size:,} bytes, more than {SIZE_LIMIT:,}")
    return problems


def run_python(code: str, *options: str, path: Path) -> str:
    """Return what a fresh interpreter prints that finds the unpacked wheel before all else."""
    # A folder that is not the checkout, or the checkout's own package could be found instead.
    result = subprocess.run(
        [sys.executable, *options, "-c", f"import sys; sys.path.insert(0, {str(path)!r})\n{code}"],
        cwd=path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": ""},
    )
    return result.stdout.strip() if result.returncode == 0 else result.stderr.strip()


def check_behavior(wheel: Path) -> list[str]:
    """Return what is wrong with a wheel that was unpacked as pip does it."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    problems = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        # -S: no site-packages, so the import may need the standard library only.
        said = run_python(
            "import napari_unet; print(napari_unet.__version__, napari_unet.__file__)",
            "-S",
            path=folder,
        )
        if said != f"{version} {folder / 'napari_unet' / '__init__.py'}":
            problems.append(f"import from the bare wheel: {said}")
        said = run_python(
            "from napari_unet.app.models import list_models\n"
            "print(*(entry.path for entry in list_models()))",
            path=folder,
        )
        if str(folder / "napari_unet/resources/models/em-membranes.safetensors") not in said:
            problems.append(f"the wheel's model is not found: {said}")
    return problems


def main() -> int:
    """Check the wheel named on the command line."""
    wheel = Path(sys.argv[1])
    problems = check_contents(wheel) + check_behavior(wheel)
    for problem in problems:
        print(f"{wheel.name}: {problem}")
    if not problems:
        print(f"{wheel.name}: {wheel.stat().st_size:,} bytes, contents and import as they must be")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
