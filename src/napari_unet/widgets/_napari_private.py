"""Every private part of napari that we use, each with a public way around it.

napari has no public call that redraws a part of a Labels layer; a full ``refresh()`` per finished
tile reads a whole plane from disk and makes the window stutter.
"""

from __future__ import annotations

import contextlib
import logging
import math
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Labels
    from napari.utils.colormaps import DirectLabelColormap

logger = logging.getLogger(__name__)

PAINTING_TOOLS = ("polygon", "brush_stroke")
"""What napari draws for painting on a Labels layer, from the layer's first moment on."""

MANY_REGIONS = 8
"""More parts of a pyramid than this are faster read as one."""


def unwrapped(viewer: Any) -> Any:
    """Return the viewer behind the proxy that napari gives to plugins, or the viewer itself.

    The proxy wraps whatever is reached through it, and warns at each private attribute that
    `PartialRefresh` needs. Should it ever hide what it wraps, that class takes its other way.
    """
    return getattr(viewer, "__wrapped__", viewer)


def plugin_settings_made() -> bool:
    """Return whether napari has made its models of the plugins' preferences in this session.

    Making them is slow. Where it cannot be told any more, the answer is yes: then they are made
    when they are asked for.
    """
    import napari.settings

    made = getattr(napari.settings, "_PLUGIN_SETTINGS", None)
    return not isinstance(made, dict) or bool(made)


def with_known_colors(colormap: DirectLabelColormap) -> DirectLabelColormap:
    """Return a colormap that knows the colors of all labels of 8 bits, without a compiler.

    napari looks them up by a dictionary of numba, and where that is installed each session
    compiles it anew for the first layer: seconds in which the window does not answer.
    """
    try:
        missing = np.asarray(colormap.default_color, np.float32)
        table = np.array(
            [colormap.color_dict.get(label, missing) for label in range(256)], np.float32
        )
        colormap._cache_mapping[np.dtype(np.uint8), np.dtype(np.uint8)] = table
    except (AttributeError, TypeError, ValueError) as error:
        # A newer napari: it does it in its own way.
        logger.info("colors are not looked up beforehand: %r", error)
    return colormap


def prepare_labels() -> None:
    """Do beforehand what napari does for the first Labels layer of a session; in any thread.

    It imports a part of scikit-image, and vispy computes how dashed lines look, for the outline of
    a polygon: together a tenth of a second, in which the window would not answer.
    """
    # Not the package alone: that imports its parts when they are used.
    import_module("skimage.color.colorconv")
    try:
        # It remembers all that it has computed.
        import_module("vispy.visuals.line.dash_atlas").DashAtlas()
    except (ImportError, AttributeError, TypeError) as error:
        logger.info("how lines are dashed is not computed beforehand: %r", error)


def spare_tools(layer: Labels) -> None:
    """Have napari draw nothing for painting on a layer before that becomes editable.

    To be called before a viewer gets the layer, which then appears in two thirds of the time.
    """
    _show_tools(layer, False)
    layer.events.editable.connect(_on_editable)


def _on_editable(event: Any) -> None:
    if event.source.editable:
        _show_tools(event.source, True)


def _show_tools(layer: Labels, visible: bool) -> None:
    # Without them napari draws what it always draws.
    tools = getattr(layer, "_overlays", {})
    for name in PAINTING_TOOLS:
        if name in tools:
            tools[name].visible = visible


def blank_like(data: Any) -> Any:
    """Return zeros of the shape of an array, which need the memory of one plane only."""
    plane = np.zeros(data.shape[-2:], data.dtype)
    strides = (0,) * (data.ndim - 2) + plane.strides
    return np.lib.stride_tricks.as_strided(plane, data.shape, strides)


def put_data(layer: Labels, data: Any, *, is_drawn: bool) -> None:
    """Have a layer read from other data of the same shape, and be editable or not as it was.

    Parameters
    ----------
    layer : Labels
        Of one scale.
    data : array-like
        What it reads from.
    is_drawn : bool
        Whether what is drawn is what they hold, so that nothing has to be read now.
    """
    block = getattr(layer, "_block_refresh", None) if is_drawn else None
    is_editable = layer.editable
    # Who hears of other data reads some of them, to learn the type that is known already. And
    # napari takes all data for data to paint on.
    with (
        layer.events.data.blocker(),
        layer.events.editable.blocker(),
        contextlib.nullcontext() if block is None else block(),
    ):
        layer.data = data
        layer.editable = is_editable


class PartialRefresh:
    """Redraws parts of a Labels layer whose data changed; for the GUI's thread only.

    Parameters
    ----------
    layer : Labels
        Over data that can be read anew by slicing, of one scale or several.
    """

    def __init__(self, layer: Labels) -> None:
        self._layer = layer
        self._works = True

    def refresh(self, regions: Sequence[tuple[slice, ...]]) -> None:
        """Show what the data now hold in `regions`, each one slice per axis of full resolution."""
        if self._works:
            try:
                if self._patch(regions):
                    return
            except (AttributeError, TypeError, ValueError, IndexError, KeyError) as error:
                # A newer napari: from now on the slower, public way.
                logger.info("partial refresh is off: %r", error)
                self._works = False
        self._forget_coarsest()
        self._layer.refresh(thumbnail=False, extent=False, highlight=False)

    def refresh_thumbnail(self) -> None:
        """Show in the thumbnail what is drawn; partial refreshes leave it alone."""
        try:
            self._layer._update_thumbnail()
        except AttributeError:
            self.refresh_all()

    def refresh_all(self) -> None:
        """Show what the data now hold everywhere, in the thumbnail too."""
        self._forget_coarsest()
        self._layer.refresh()

    def _patch(self, regions: Sequence[tuple[slice, ...]]) -> bool:
        """Write the regions into what is drawn; False where only a full refresh is right."""
        layer = self._layer
        if (
            layer.contour
            or not layer.loaded
            or layer._slice.empty
            or layer._slice_input.ndisplay != 2
        ):
            return False
        shown = _shown_tile(layer)
        if shown is None:
            return False
        for region in _together(regions) if layer.multiscale else regions:
            cut = shown.cut(region)
            if cut is None:
                continue
            index, there = cut
            fresh = np.asarray(shown.data[index])
            view = tuple(there[d] for d in shown.order)
            layer._slice.image.raw[view] = fresh
            layer._slice.image.view[view] = layer.colormap._data_to_texture(fresh)
            layer._accumulate_updated_slice(there)
        layer._partial_labels_refresh()
        self._forget_coarsest()
        return True

    def _forget_coarsest(self) -> None:
        """Have napari read the coarsest level again when it draws it the next time.

        Of a plane it keeps that level as it was first, also when the layer is refreshed.
        """
        if not self._layer.multiscale:
            return
        try:
            self._layer._reset_thumbnail_level_data()
        except AttributeError:
            # The public way; it begins again with the coarsest level.
            self._layer.data = list(self._layer.data)


def _together(regions: Sequence[tuple[slice, ...]]) -> Sequence[tuple[slice, ...]]:
    """Return few regions as they are, many as one around them: their voxels are in memory."""
    if len(regions) <= MANY_REGIONS:
        return regions
    return [
        tuple(
            slice(min(part.start for part in parts), max(part.stop for part in parts))
            for parts in zip(*regions, strict=True)
        )
    ]


@dataclass(frozen=True, slots=True)
class _Tile:
    """What is drawn of a layer: a part of one of its levels.

    Parameters
    ----------
    data : array-like
        The level.
    order : tuple of int
        The layer's axes that are displayed.
    point : dict
        Index of the plane on each other axis.
    scale, offset, shape : dict
        On the displayed axes: voxels of full resolution per voxel, where the part begins in its
        level, and its length.
    """

    data: Any
    order: tuple[int, ...]
    point: dict[int, int]
    scale: dict[int, float]
    offset: dict[int, int]
    shape: dict[int, int]

    def cut(self, region: tuple[slice, ...]) -> tuple[tuple[Any, ...], tuple[slice, ...]] | None:
        """Return where a region of full resolution lies in the level, and where in what is drawn.

        None: it is not drawn.
        """
        if any(not region[d].start <= p < region[d].stop for d, p in self.point.items()):
            return None
        index: list[Any] = [self.point.get(d, 0) for d in range(len(region))]
        there = [slice(0, 1)] * len(region)
        for d in self.order:
            # A voxel of a coarser level may hold a part of the region only.
            first = math.floor(region[d].start / self.scale[d])
            last = math.ceil(region[d].stop / self.scale[d]) + (self.scale[d] != 1)
            first = max(first - (self.scale[d] != 1), self.offset[d])
            last = min(last, self.offset[d] + self.shape[d])
            if first >= last:
                return None
            index[d] = slice(first, last)
            there[d] = slice(first - self.offset[d], last - self.offset[d])
        return tuple(index), tuple(there)


def _shown_tile(layer: Labels) -> _Tile | None:
    """Return what is drawn of a layer; None where it is turned or of a level that is not known."""
    order = tuple(layer._slice_input.displayed)
    if list(order) != sorted(order):
        return None
    image, point = layer._slice.image.raw, layer._get_pt_not_disp()
    shape = dict(zip(order, image.shape, strict=True))
    ones, zeros = dict.fromkeys(order, 1.0), dict.fromkeys(order, 0)
    if not layer.multiscale:
        return _Tile(layer.data, order, dict(point), ones, zeros, shape)
    # Of what is drawn, not of what napari will draw next.
    drawn = layer._slice.tile_to_data
    for factors, data in zip(layer.downsample_factors, layer.data, strict=True):
        if all(abs(factors[d] - drawn.scale[d]) < 1e-6 for d in order):
            if any(factors[d] != 1 for d in point):
                return None
            scale = {d: float(drawn.scale[d]) for d in order}
            offset = {d: round(float(drawn.translate[d] / drawn.scale[d])) for d in order}
            return _Tile(data, order, dict(point), scale, offset, shape)
    return None
