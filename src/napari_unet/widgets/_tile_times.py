"""How long a tile took when it was measured last, so that it need not be measured again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from napari_unet.files import read_bounded, write_atomically

if TYPE_CHECKING:
    from napari_unet.core.job import SegmentJob

MAX_KEPT = 200
"""Newest occasions that are kept."""

MAX_BYTES = 2**20
"""A file of `MAX_KEPT` entries has a tenth of it; a larger one is not ours."""


@dataclass(frozen=True, slots=True)
class TileTime:
    """What was measured.

    Parameters
    ----------
    seconds : float
        For one tile.
    tile_shape : tuple of int
        Edges of its write box, (z, y, x).
    device : str
        Where, in words.
    """

    seconds: float
    tile_shape: tuple[int, ...]
    device: str


def times_path() -> Path:
    """Return the file; it may not exist."""
    folder = Path(platformdirs.user_cache_path("napari-unet", appauthor=False))
    return folder / "tile-times.json"


def occasion_of(job: SegmentJob, sha256: str) -> str:
    """Return what a tile's time depends on beside its shape: model, device, how they are used."""
    parts = (
        sha256,
        job.device,
        job.threads,
        job.precision,
        job.tf32,
        job.tile_size,
        job.batch_size,
        job.average,
        job.rescale,
        job.stored_probabilities,
    )
    return json.dumps(parts)


def recall(occasion: str) -> tuple[TileTime, ...]:
    """Return what was measured on an occasion, for tiles of each shape that there were."""
    found = []
    for entry in _read().get(occasion, {}).values():
        try:
            shape = tuple(int(n) for n in entry["tile_shape"])
            found.append(TileTime(float(entry["seconds"]), shape, str(entry["device"])))
        except (KeyError, TypeError, ValueError):
            continue
    return tuple(found)


def remember(occasion: str, time: TileTime) -> None:
    """Keep what was measured, if the file can be written."""
    entries = _read()
    shapes = entries.pop(occasion, {})
    shapes["x".join(map(str, time.tile_shape))] = {
        "seconds": time.seconds,
        "tile_shape": list(time.tile_shape),
        "device": time.device,
    }
    entries[occasion] = shapes
    newest = dict(list(entries.items())[-MAX_KEPT:])
    path = times_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"schema": 1, "times": newest}, indent=1).encode())
    except OSError:
        # It is measured again the next time.
        return


def _read() -> dict[str, dict[str, Any]]:
    """Return the entries of the file, oldest first; none if it is damaged."""
    try:
        times = json.loads(read_bounded(times_path(), MAX_BYTES))["times"]
        return {key: shapes for key, shapes in times.items() if isinstance(shapes, dict)}
    except (OSError, ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return {}
