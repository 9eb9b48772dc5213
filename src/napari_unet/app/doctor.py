"""Whether this machine is fit for the work, and what to do where it is not."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from napari_unet.app.examining.devices import examine_devices
from napari_unet.app.examining.disk import examine_folder
from napari_unet.app.examining.machine import examine_machine
from napari_unet.app.examining.plugin import examine_plugin
from napari_unet.app.examining.software import examine_software

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from napari_unet.app.examining.finding import Finding

SCHEMA_VERSION = 1


def examine(folder: Path) -> Iterator[Finding]:
    """Yield what there is to say of this machine: software, devices, memory, disk, plugin.

    Nothing is installed, changed or left behind, and nothing listens. What may crash or hang
    (PyTorch, GPU drivers, Qt, OpenGL) is asked in other processes.

    Parameters
    ----------
    folder : Path
        Where outputs are to go; a file is written there, read, and removed.
    """
    yield from examine_software()
    answer, findings = examine_devices()
    yield from findings
    yield from examine_machine(answer.facts)
    yield from examine_folder(folder)
    yield from examine_plugin()


def to_json(findings: Iterable[Finding]) -> dict[str, Any]:
    """Return findings, ready for JSON; see docs/reference/doctor.md."""
    listed = list(findings)
    counts = {
        state: sum(finding.state == state for finding in listed)
        for state in ("ok", "note", "problem")
    }
    return {
        "schema": SCHEMA_VERSION,
        "counts": counts,
        "findings": [asdict(finding) for finding in listed],
    }
