"""What the user set in napari's preferences: the choices that a new panel begins with."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.widgets._napari_private import plugin_settings_made

if TYPE_CHECKING:
    from napari_unet.core.header import ModelHeader

logger = logging.getLogger(__name__)

PLUGIN = "napari-unet"
"""Name of the plugin; the page in Preferences has its display name."""

SECTION = "defaults"
"""Key of the configuration in ``napari.yaml``."""

GIGABYTE = 10**9


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a new panel begins with.

    Parameters
    ----------
    device : str
        Where the network runs: "auto", "cpu", "cuda" or "mps".
    tile_memory : float
        Gigabytes that a tile may take on the device; 0 = as the engine chooses.
    folder : Path or None
        Where results go; None = next to the image.
    """

    device: str = "auto"
    tile_memory: float = 0.0
    folder: Path | None = None

    def tile_size(self, header: ModelHeader) -> int | None:
        """Return the `tile_size` of a job for a model, in pixels; None = as the engine chooses."""
        # Imported on demand: the panel opens without it.
        from napari_unet.app.tile_memory import tile_edge_within

        return tile_edge_within(self.tile_memory * GIGABYTE, header)


def preferred() -> Preferences:
    """Return what the preferences say now; the defaults where napari has none for plugins."""
    section = _section()
    if section is None:
        return Preferences()
    text = str(section.folder).strip()
    folder = Path(text).expanduser() if text else None
    return Preferences(str(section.device), float(section.tile_memory), folder)


def _section() -> Any:
    """Return napari's evented model of our preferences; None where all are as they were at first.

    napari makes it from the manifests of all plugins, which it reads again for that: a tenth of a
    second or more. So it is not asked as long as there is nothing to know.
    """
    try:
        from napari.settings import get_plugin_settings

        if not plugin_settings_made() and not _file_exists():
            return None
        return getattr(get_plugin_settings(PLUGIN), SECTION)
    except (ImportError, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        # napari before 0.9, our manifest not found, or another plugin's configuration is broken.
        logger.info("no preferences: %r", error)
        return None


def _file_exists() -> bool:
    """Return whether a preference of ours was ever changed: napari writes a file then."""
    from napari.settings import get_settings

    path = get_settings().config_path
    return path is not None and (Path(path).parent / f"{PLUGIN}.yaml").exists()
