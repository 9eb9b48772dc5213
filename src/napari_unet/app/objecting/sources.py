"""What an object job reads of a segmentation, in boxes whose origin is the region's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.core.boxes import Box
from napari_unet.core.object_method import BACKGROUND_NAMES

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_unet.app.objecting.plan import ObjectsPlan


class Segmentation:
    """Classes and probabilities of a region, read from several threads.

    Parameters
    ----------
    plan : ObjectsPlan
        Which ones.

    Raises
    ------
    InputError
        If something stored is damaged.
    """

    def __init__(self, plan: ObjectsPlan) -> None:
        self._plan = plan
        self._labels = plan.stored.open_labels()
        numbers = range(1, len(plan.class_names) + 1) if plan.stored.has_probabilities else ()
        self._chances = {k: plan.stored.open_probabilities([k]) for k in numbers}
        inside = [*plan.foreground]
        name = plan.rules.boundary
        if plan.boundary is not None and name is not None and name.lower() not in BACKGROUND_NAMES:
            inside.append(plan.boundary)
        self._inside = None if len(inside) == len(plan.class_names) else inside

    def whole(self, box: Box) -> Box:
        """Return a box of the region in voxels of the image."""
        origin = self._plan.region.start
        start, stop = (
            tuple(a + o for a, o in zip(corner, origin, strict=True))
            for corner in (box.start, box.stop)
        )
        return Box(start, stop)

    def classes(self, box: Box) -> npt.NDArray[np.uint8]:
        """Return the classes (z, y, x) of a box of the region."""
        classes: npt.NDArray[np.uint8] = self._labels.read(self.whole(box))[0]
        return classes

    def chance(self, number: int, box: Box) -> npt.NDArray[np.float32]:
        """Return the probability (z, y, x) of a class; 0 and 1 where none was stored."""
        source = self._chances.get(number)
        if source is None:
            same: npt.NDArray[np.float32] = (self.classes(box) == number).astype(np.float32)
            return same
        stored: npt.NDArray[np.float32] = source.read(self.whole(box))[0].astype(np.float32)
        # NaN would sort above every boundary; it says nothing.
        stored[np.isnan(stored)] = 0
        return stored

    def mask(self, box: Box) -> npt.NDArray[np.bool_] | None:
        """Return where objects and the boundaries between them may be; None = everywhere."""
        if self._inside is None:
            return None
        return np.isin(self.classes(box), self._inside)

    def own_chance(
        self, box: Box, classes: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.float32] | None:
        """Return the probability of each voxel's own class of the foreground; None = not stored."""
        if not self._chances:
            return None
        found: npt.NDArray[np.float32] = np.zeros(box.shape, np.float32)
        for number in self._plan.foreground:
            here = classes == number
            if here.any():
                np.copyto(found, self.chance(number, box), where=here)
        return found

    def close(self) -> None:
        """Release files."""
        for source in (self._labels, *self._chances.values()):
            source.close()

    def __enter__(self) -> Segmentation:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
