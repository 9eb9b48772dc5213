"""Versions of what is installed, and the folders of models."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from napari_unet.app.examining.finding import Finding
from napari_unet.app.models import own_models_folder, shared_folders, take_inventory

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMED = ("torch", "numpy", "zarr", "napari", "qtpy", "PyQt6", "PyQt5", "PySide6", "distributed")
"""Packages whose versions are told, installed or not."""


def examine_software() -> list[Finding]:
    """Return the findings: versions, packages, models."""
    return [_versions(), judge_packages(requires("napari-unet") or []), _judge_models()]


def installed_version(name: str) -> str | None:
    """Return the version of a package; None if it is not installed. It is not imported."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def judge_packages(requirements: list[str]) -> Finding:
    """Return whether all that the base install needs is there, in a version that will do.

    Parameters
    ----------
    requirements : list of str
        As a package's metadata lists them, with those of extras, which do not count.
    """
    wrong = list(_unmet(requirements))
    if not wrong:
        return Finding("packages", "ok", "all packages that are needed are there")
    names = " ".join(f'"{requirement}"' for requirement, _ in wrong)
    text = "; ".join(
        f"{requirement} is needed, there is {found or 'none'}" for requirement, found in wrong
    )
    values = {"unmet": [{"needed": needed, "found": found} for needed, found in wrong]}
    return Finding("packages", "problem", text, f"pip install {names}", values)


def _unmet(requirements: list[str]) -> Iterator[tuple[str, str | None]]:
    for text in requirements:
        requirement = Requirement(text)
        # Markers of extras are false where no extra is named.
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = installed_version(requirement.name)
        if found is None or not requirement.specifier.contains(found, prereleases=True):
            yield f"{requirement.name}{requirement.specifier}", found


def _versions() -> Finding:
    values: dict[str, str | None] = {
        "napari-unet": installed_version("napari-unet"),
        "python": platform.python_version(),
        **{name: installed_version(name) for name in NAMED},
        "platform": platform.platform(),
    }
    text = ", ".join(f"{name} {found}" for name, found in values.items() if found is not None)
    return Finding("versions", "ok", text, values=values)


def _judge_models() -> Finding:
    inventory, own = take_inventory(), own_models_folder()
    values = {
        "models": [{"name": entry.name, "origin": entry.origin} for entry in inventory.models],
        "own_folder": str(own),
        "shared_folders": [str(folder) for folder in shared_folders()],
        "damaged": [str(item.path) for item in inventory.damaged],
        "missing_folders": [str(folder) for folder in inventory.missing_folders],
    }
    text = f"{len(inventory.models)} models; your own are kept in {own}"
    if inventory.missing_folders:
        text = f"NAPARI_UNET_MODELS names {inventory.missing_folders[0]}, which cannot be listed"
        return Finding("models", "problem", text, "mount the folder, or name another", values)
    if inventory.damaged:
        reason = inventory.damaged[0].reason
        text += f"; {len(inventory.damaged)} cannot be used: {reason}"
        return Finding("models", "problem", text, "remove the file, or copy it again", values)
    if own.is_dir() and not os.access(own, os.W_OK | os.X_OK):
        text += ", which cannot be written"
        return Finding("models", "problem", text, "ask for the permission to write it", values)
    return Finding("models", "ok", text, values=values)
