"""Every private part of napari that we use, each with a public way around it.

napari has no public call that redraws a part of a Labels layer; a full ``refresh()`` per finished
tile reads a whole plane from disk and makes the window stutter.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Labels

logger = logging.getLogger(__name__)


def unwrapped(viewer: Any) -> Any:
    """Return the viewer behind the proxy that napari gives to plugins, or the viewer itself.

    The proxy wraps whatever is reached through it, and warns at each private attribute that
    `PartialRefresh` needs. Should it ever hide what it wraps, that class takes its other way.
    """
    return getattr(viewer, "__wrapped__", viewer)


class PartialRefresh:
    """Redraws parts of a Labels layer whose data changed; for the GUI's thread only.

    Parameters
    ----------
    layer : Labels
        Single scale, over data that can be read anew by slicing.
    """

    def __init__(self, layer: Labels) -> None:
        self._layer = layer
        self._works = True

    def refresh(self, regions: Sequence[tuple[slice, ...]]) -> None:
        """Show what the data now hold in `regions`, each one slice per axis of the data."""
        if self._works:
            try:
                if self._patch(regions):
                    return
            except (AttributeError, TypeError, ValueError, IndexError, KeyError) as error:
                # A newer napari: from now on the slower, public way.
                logger.info("partial refresh is off: %r", error)
                self._works = False
        self._layer.refresh(thumbnail=False, extent=False, highlight=False)

    def _patch(self, regions: Sequence[tuple[slice, ...]]) -> bool:
        """Write the regions into the drawn plane; False where only a full refresh is right."""
        layer = self._layer
        if (
            layer.multiscale
            or layer.contour
            or not layer.loaded
            or layer._slice.empty
            or layer._slice_input.ndisplay != 2
        ):
            return False
        order = list(layer._slice_input.displayed)
        if order != sorted(order):
            return False
        point, image = layer._get_pt_not_disp(), layer._slice.image
        for region in regions:
            if any(not region[d].start <= point[d] < region[d].stop for d in point):
                continue
            index = tuple(region[d] if d in order else int(point[d]) for d in range(layer.ndim))
            fresh = np.asarray(layer.data[index])
            view = tuple(region[d] for d in order)
            image.raw[view] = fresh
            image.view[view] = layer.colormap._data_to_texture(fresh)
            layer._accumulate_updated_slice(region)
        layer._partial_labels_refresh()
        return True
