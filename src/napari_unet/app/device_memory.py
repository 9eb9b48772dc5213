"""What fitted into the memory of a device: remembered, so that the next run begins with it.

The file ``device-memory.json`` in the user's cache folder holds, for a kind of device, a network
and a precision, the tile and batch with which a run went on after the device had not enough memory.
It is a convenience: it may be deleted, damaged or out of reach, and nothing but time is lost.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import platformdirs
from pydantic import Field

from napari_unet.app.models import find_model
from napari_unet.core.job import Precision  # pydantic reads the annotations
from napari_unet.core.settings import Settings
from napari_unet.errors import ConfigError
from napari_unet.files import write_atomically
from napari_unet.inference.device import default_tile_edge

if TYPE_CHECKING:
    from napari_unet.app.plan import SegmentPlan
    from napari_unet.core.architecture import Architecture
    from napari_unet.core.job import SegmentJob
    from napari_unet.inference.device import Backend
    from napari_unet.inference.predictor import Predictor

MAX_KEPT = 200
"""Newest entries that are kept."""

MAX_BYTES = 2**20
"""A file of `MAX_KEPT` entries has a tenth of it; a larger one is not ours."""


class Occasion(Settings):
    """On what a tile fits or not.

    Parameters
    ----------
    device : str
        Its kind, such as "NVIDIA H100".
    memory_bytes : int
        What it has in all; 0 = unknown.
    architecture : str
        The network's settings, as JSON.
    precision : {"fp32", "bf16", "fp16"}
        Arithmetic of the network.
    """

    device: str
    memory_bytes: Annotated[int, Field(ge=0)]
    architecture: str
    precision: Precision


class Fit(Settings):
    """What fitted.

    Parameters
    ----------
    tile_edge : int
        Edge of a write box, in pixels as the network sees them.
    batch_size : int
        Tiles computed together.
    """

    tile_edge: Annotated[int, Field(ge=1, le=16384)]
    batch_size: Annotated[int, Field(ge=1, le=1024)]


class _Entry(Settings):
    """A line of the memory."""

    occasion: Occasion
    fit: Fit


def memory_path() -> Path:
    """Return the file; it may not exist."""
    folder = Path(platformdirs.user_cache_path("napari-unet", appauthor=False))
    return folder / "device-memory.json"


def occasion_of(backend: Backend, architecture: Architecture) -> Occasion:
    """Return on what a tile of a network on a device fits or not."""
    settings = json.dumps(architecture.model_dump(), sort_keys=True)
    return Occasion(
        device=backend.name,
        memory_bytes=backend.total_memory,
        architecture=settings,
        precision=backend.precision,
    )


def recall(occasion: Occasion) -> Fit | None:
    """Return what fitted last; None = nothing is known. Never raises for what the file holds."""
    for entry in reversed(_read()):
        if entry.occasion == occasion:
            return entry.fit
    return None


def remember(occasion: Occasion, fit: Fit) -> None:
    """Keep what fitted, if the file can be written."""
    entries = [entry for entry in _read() if entry.occasion != occasion]
    entries.append(_Entry(occasion=occasion, fit=fit))
    kept = [entry.model_dump() for entry in entries[-MAX_KEPT:]]
    path = memory_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"schema": 1, "fits": kept}, indent=1).encode())
    except OSError:
        # The next run will find out again.
        return


def first_tile_edge(job: SegmentJob, backend: Backend) -> tuple[int, tuple[str, ...]]:
    """Return the tile edge of a job that names none, and a sentence if the memory decided it.

    Raises
    ------
    ConfigError, ModelFileError
        If the job's model cannot be used.
    """
    if job.computes_elsewhere:
        # What this machine's device fits says nothing.
        return default_tile_edge("cpu" if job.device == "auto" else job.device), ()
    usual = backend.default_tile_edge
    if job.tile_size is not None:
        return usual, ()
    fit = recall(occasion_of(backend, find_model(job.model).header.architecture))
    if fit is None or fit.tile_edge >= usual:
        return usual, ()
    note = (
        f"tiles of {fit.tile_edge} instead of {usual} pixels, because an earlier run found that "
        f"{backend.name} has not enough memory for larger ones; --tile-size {usual} tries again"
    )
    return fit.tile_edge, (note,)


@dataclass(frozen=True)
class Shrunk:
    """What fits into the memory of a device, where that is less than was planned.

    Parameters
    ----------
    occasion : Occasion
        On what.
    fit : Fit
        What fits.
    provenance : dict
        The same for the record, see `FitKeeper.provenance`.
    """

    occasion: Occasion
    fit: Fit
    provenance: dict[str, Any]

    def is_less_than(self, other: Shrunk | None) -> bool:
        """Return whether less fits than elsewhere; None = there nothing was too large."""
        if other is None:
            return True
        own, theirs = self.fit, other.fit
        return (own.tile_edge, own.batch_size) < (theirs.tile_edge, theirs.batch_size)


class FitKeeper:
    """Remembers what fits while a job runs.

    Parameters
    ----------
    plan : SegmentPlan
        The job.
    backend : Backend
        Its device.
    predictor : Predictor
        Knows what fits so far.
    """

    def __init__(self, plan: SegmentPlan, backend: Backend, predictor: Predictor) -> None:
        self._grid = plan.grid
        self._predictor = predictor
        self._occasion = occasion_of(backend, plan.model.header.architecture)
        self._planned = self._fit()
        self._kept: Fit | None = None

    def note(self) -> None:
        """Remember what fits, if that is news; call it when a block is done."""
        fit = self._fit()
        if fit == self._kept:
            return
        self._kept = fit
        if fit == self._planned:
            # Of a device that was never too small nothing need be remembered. But where a person
            # has tried larger tiles than those remembered, there is room again.
            known = recall(self._occasion)
            if known is None or fit.tile_edge <= known.tile_edge:
                return
        remember(self._occasion, fit)

    def shrunk(self) -> Shrunk | None:
        """Return what fits if it is less than was planned, for whoever remembers it; else None."""
        fit = self._fit()
        return None if fit == self._planned else Shrunk(self._occasion, fit, self.provenance())

    def provenance(self) -> dict[str, Any]:
        """Return which tile and batch fitted in the end; and what was planned, if that is more."""
        planned = {
            "tile_shape": list(self._grid.tile_shape),
            "batch_size": self._planned.batch_size,
        }
        fitted = {
            "tile_shape": list(self._predictor.largest_tile or self._grid.tile_shape),
            "batch_size": self._predictor.batch_size,
        }
        return fitted | {"shrunk_from": None if fitted == planned else planned}

    def _fit(self) -> Fit:
        tile = self._predictor.largest_tile or self._grid.full_tile().write.shape
        factors = (1.0, 1.0) if self._grid.resampling is None else self._grid.resampling.factors
        edge = max(math.ceil(n * f) for n, f in zip(tile[1:], factors, strict=True))
        return Fit(tile_edge=edge, batch_size=self._predictor.batch_size)


def _read() -> list[_Entry]:
    """Return the entries of the file, oldest first; what is damaged is left out."""
    path = memory_path()
    try:
        if path.stat().st_size > MAX_BYTES:
            return []
        content = json.loads(path.read_bytes())
        found = content["fits"]
    except (OSError, ValueError, RecursionError, TypeError, KeyError):
        return []
    entries = []
    for values in found if isinstance(found, list) else ():
        try:
            entries.append(_Entry.parse(values, source=path.name))
        except ConfigError:
            continue
    return entries
