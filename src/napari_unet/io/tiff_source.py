"""Images in TIFF files of every dialect: OME, BigTIFF, ImageJ, plain; read without loading them."""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any

from tifffile import TiffFile

from napari_unet.errors import InputError
from napari_unet.io.damage import input_errors
from napari_unet.io.raw_file import RawFile
from napari_unet.io.selection import plan_layout
from napari_unet.io.stored_image import ImageFacts, StoredImage, check_level
from napari_unet.io.tiff_limits import check_claims
from napari_unet.io.tiff_metadata import known_axes, tiff_levels
from napari_unet.io.tiff_pages import REMEDY, TiffPages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt
    from tifffile import TiffPageSeries

    from napari_unet.core.boxes import Box
    from napari_unet.io.selection import Selection


class TiffSource(StoredImage):
    """A TIFF series read as an image.

    Parameters
    ----------
    facts : ImageFacts
        What is known of it.
    pages : TiffPages
        Its values.
    """

    def __init__(self, facts: ImageFacts, pages: TiffPages) -> None:
        super().__init__(facts)
        self._pages = pages

    def count_missing_chunks(self, box: Box) -> int:
        """Return how many strips and tiles that overlap `box` have no data in the file."""
        return sum(self._pages.count_missing(index) for index in self._layout.reads(box))

    def close(self) -> None:
        """Close the file."""
        super().close()
        self._pages.close()

    def _fetch(self, index: tuple[slice, ...]) -> npt.NDArray[Any]:
        return self._pages.read(index)


def open_tiff(path: Path, selection: Selection) -> TiffSource:
    """Return the image in a TIFF file.

    Raises
    ------
    AxesError
        If axes, channel, time or level are ambiguous or do not exist.
    InputError
        If the file is damaged, cut off, or holds several different images.
    """
    with _opened(path) as (file, tif, series):
        first, level = series[0], selection.level
        if tif.is_ome and first.kind.lower() != "ome":
            raise InputError(
                f"{path}: its OME metadata describe other planes than the file holds; if it is one "
                "of several files, merge them, or give the folder of them as slices"
            )
        name = path.stem.removesuffix(".ome")
        check_level(level, len(first.levels) if len(series) == 1 else 1, name)
        pages = TiffPages(file, tif, [s.levels[level] for s in series])
        prefix = "I" if len(series) > 1 else ""
        axes = known_axes(prefix + first.axes)
        layout = plan_layout(pages.shape, axes, selection, name=path.name)
        shapes = [
            layout.spatial((1,) * len(prefix) + s.shape, missing=1)
            for s in first.levels
            if s.ndim == first.ndim  # a level reduced to one plane loses its axis
        ]
        levels = tiff_levels(tif, first, level, shapes)
        return TiffSource(ImageFacts(name, str(path), layout, pages.dtype, levels), pages)


def open_tiff_plane(path: Path) -> TiffPages:
    """Return the values of a TIFF that holds one plane, (y, x) or (y, x, c).

    Raises
    ------
    InputError
        If it holds more than that, or is damaged.
    """
    with _opened(path) as (file, tif, series):
        axes = known_axes(series[0].axes)
        if len(series) > 1 or axes not in {"yx", "yxc"}:
            raise InputError(
                f"{path}: a slice must be a single plane, this file has the axes "
                f"{series[0].axes} {series[0].shape}; give the file itself as input"
            )
        return TiffPages(file, tif, series)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[RawFile, TiffFile, list[TiffPageSeries]]]:
    """Open a file and find its image; close it if something goes wrong inside."""
    with input_errors(f"{path}: this TIFF cannot be read", REMEDY), ExitStack() as stack:
        file = stack.enter_context(closing(RawFile(path)))
        with _logged_errors(path):
            # Other files that an OME-TIFF names are not followed: they may lie anywhere.
            tif = stack.enter_context(closing(TiffFile(path, _multifile=False)))
            check_claims(tif, path)
            yield file, tif, _choose_series(path, tif)
        stack.pop_all()


def _choose_series(path: Path, tif: TiffFile) -> list[TiffPageSeries]:
    """Return the one series of a file, or several of equal shape, type and axes."""
    series: list[TiffPageSeries] = list(tif.series)
    if not series or 0 in series[0].shape:
        raise InputError(f"{path}: the TIFF holds no image; {REMEDY}")
    kinds = {(tuple(s.shape), str(s.dtype), s.axes, s.keyframe.hash) for s in series}
    if len(kinds) > 1:
        listed = "; ".join(f"{s.name or s.index}: {s.axes} {s.shape} {s.dtype}" for s in series[:8])
        raise InputError(
            f"{path}: the TIFF holds {len(series)} different images ({listed}); save the wanted "
            "one as a file of its own"
        )
    if series[0].dtype is None or getattr(series[0], "transform", None) is not None:
        raise InputError(f"{path}: this kind of TIFF ({series[0].kind}) is not supported; {REMEDY}")
    return series


@contextmanager
def _logged_errors(path: Path) -> Iterator[None]:
    """Raise `InputError` for damage that tifffile only logs while it opens a file."""
    handler = _ErrorCollector()
    logger = logging.getLogger("tifffile")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
    if handler.messages:
        raise InputError(f"{path}: the TIFF is damaged: {handler.messages[0][:300]}; {REMEDY}")


class _ErrorCollector(logging.Handler):
    """Keeps the errors that this thread logs."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.messages.append(record.getMessage())
