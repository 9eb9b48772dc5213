"""DRIVE: blood vessels in color photographs of the retina.

::

    ROOT/training/images/21_training.tif           584 x 565, RGB
    ROOT/training/1st_manual/21_manual1.gif        0 = background, 255 = vessel
    ROOT/training/mask/21_training_mask.gif        255 = field of view; outside, nothing is known

Source: J. Staal et al., "Ridge-based vessel segmentation in color images of the retina", IEEE
Transactions on Medical Imaging 23(4), 2004.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.core.label_kinds import LabelRules
from napari_unet.errors import InputError
from napari_unet.io.datasets.pairs import (
    ComputedPlane,
    ImageFile,
    TrainingPair,
    need_file,
    need_folder,
    read_gray,
)
from napari_unet.io.selection import Selection

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

LAYOUT = (
    "DRIVE has training/images/21_training.tif, training/1st_manual/21_manual1.gif and "
    "training/mask/21_training_mask.gif, and so on"
)
"""For messages."""

RULES = LabelRules(
    kind="classes", class_values="0=background,255=vessel", class_names=("background", "vessel")
)
"""Meaning of the manual segmentation."""

_IMAGE = re.compile(r"(\d+)_training\.tif")


def read_drive(root: Path) -> list[TrainingPair]:
    """Return the training photographs, in the order of their numbers; outside the view is ignored.

    Raises
    ------
    InputError
        If a folder or file is missing.
    """
    folder = need_folder(root / "training", LAYOUT)
    images = need_folder(folder / "images", LAYOUT)
    pairs = []
    for path in sorted(images.iterdir()):
        match = _IMAGE.fullmatch(path.name)
        if match is None:
            continue
        number = match[1]
        manual = need_file(folder / "1st_manual" / f"{number}_manual1.gif", LAYOUT)
        mask = need_file(folder / "mask" / f"{number}_training_mask.gif", LAYOUT)
        pairs.append(
            TrainingPair(
                path.stem,
                ImageFile(path, Selection(channel="0,1,2")),
                ComputedPlane(manual.stem, partial(read_gray, manual)),
                RULES,
                ComputedPlane(mask.stem, partial(_outside, mask)),
            )
        )
    if not pairs:
        raise InputError(f"{images}: there is no training image; {LAYOUT}")
    return pairs


def _outside(mask: Path) -> npt.NDArray[np.bool_]:
    return np.equal(read_gray(mask), 0)
