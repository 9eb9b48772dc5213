"""ISBI 2012, segmentation of neuronal structures in EM stacks; the paper's first experiment.

::

    ROOT/train-volume.tif    30 pages of 512 x 512, 8 bit
    ROOT/train-labels.tif    the same; 0 = membrane, 255 = cell

Source: I. Arganda-Carreras et al., "Crowdsourcing the creation of image segmentation algorithms for
connectomics", Frontiers in Neuroanatomy 9:142, 2015.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.core.axes import VoxelSize
from napari_unet.core.label_kinds import LabelRules
from napari_unet.io.datasets.pairs import ImageFile, TrainingPair, need_file
from napari_unet.io.selection import Selection

if TYPE_CHECKING:
    from pathlib import Path

LAYOUT = "ISBI 2012 has train-volume.tif and train-labels.tif in one folder"
"""For messages."""

RULES = LabelRules(
    kind="classes", class_values="255=interior,0=membrane", class_names=("interior", "membrane")
)
"""Classes named as in the model em-membranes."""

VOXEL_SIZE = VoxelSize(50.0, 4.0, 4.0, "nanometer")
"""About 50 nm thick sections at 4 x 4 nm (Arganda-Carreras et al. 2015)."""


def read_isbi2012(root: Path) -> list[TrainingPair]:
    """Return the one stack of the training set.

    Raises
    ------
    InputError
        If a file is missing.
    """
    stack = Selection(axes="zyx")
    return [
        TrainingPair(
            "isbi2012",
            ImageFile(need_file(root / "train-volume.tif", LAYOUT), stack),
            ImageFile(need_file(root / "train-labels.tif", LAYOUT), stack),
            RULES,
            voxel_size=VOXEL_SIZE,
        )
    ]
