"""Data Science Bowl 2018, stage 1: nuclei of many kinds, one mask file per nucleus.

::

    ROOT/stage1_train/ID/images/ID.png      8 bit, RGB or RGBA (its opacity is not used), or gray
    ROOT/stage1_train/ID/masks/*.png        0 or 255; one file per nucleus

Source: J. C. Caicedo et al., "Nucleus segmentation across imaging experiments: the 2018 Data
Science Bowl", Nature Methods 16, 2019; Broad Bioimage Benchmark Collection, BBBC038.
"""

from __future__ import annotations

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
from napari_unet.io.raster_source import plane_facts
from napari_unet.io.selection import Selection

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from napari_unet.core.boxes import Shape

LAYOUT = (
    "the Data Science Bowl 2018 has stage1_train/ID/images/ID.png and stage1_train/ID/masks/*.png"
)
"""For messages."""

RULES = LabelRules(kind="instances")
"""Nuclei get a border class; take other rules for a gap."""


def read_dsb2018(root: Path, rules: LabelRules = RULES) -> list[TrainingPair]:
    """Return the images of stage 1 that have masks, in the order of their names.

    Only the headers of the images are read here. By the rules of the set masks do not overlap;
    where two do, the file whose name sorts last wins.

    Raises
    ------
    InputError
        If a folder, an image or the masks of an image are missing.
    """
    train = need_folder(root / "stage1_train", LAYOUT)
    folders = sorted(f for f in train.iterdir() if f.is_dir() and not f.name.startswith("."))
    if not folders:
        raise InputError(f"{train}: there is no image; {LAYOUT}")
    return [_read_pair(folder, rules) for folder in folders]


def _read_pair(folder: Path, rules: LabelRules) -> TrainingPair:
    image = need_file(folder / "images" / f"{folder.name}.png", LAYOUT)
    masks = sorted(
        f
        for f in need_folder(folder / "masks", LAYOUT).iterdir()
        if f.suffix.lower() == ".png" and not f.name.startswith(".")
    )
    if not masks:
        raise InputError(f"{folder / 'masks'}: there is no mask; {LAYOUT}")
    shape, _ = plane_facts(image)
    selection = None if len(shape) == 2 else Selection(channel="0,1,2")
    return TrainingPair(
        folder.name,
        ImageFile(image, selection),
        ComputedPlane(f"{folder.name}/masks", partial(_number_masks, masks, shape[:2])),
        rules,
    )


def _number_masks(masks: list[Path], shape: Shape) -> npt.NDArray[np.uint16]:
    """Return the nuclei of an image, numbered from 1 in the order of their files."""
    objects = np.zeros(shape, dtype=np.uint16)
    for number, path in enumerate(masks, start=1):
        mask = read_gray(path)
        if mask.shape != objects.shape:
            raise InputError(
                f"{path}: the mask has the shape {mask.shape}, its image {objects.shape}; get the "
                "data set again"
            )
        objects[mask > 0] = number
    return objects
