"""Numbers of publications that results are put beside; only those that were checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Sameness = Literal["same", "similar", "none"]
"""Whether the measure here is that of the publication."""

UNET_PAPER = (
    'O. Ronneberger, P. Fischer, T. Brox, "U-Net: Convolutional Networks for Biomedical Image '
    'Segmentation", MICCAI 2015'
)
R2U_NET = (
    'M. Z. Alom et al., "Recurrent Residual Convolutional Neural Network based on U-Net (R2U-Net) '
    'for Medical Image Segmentation", arXiv 1802.06955, 2018'
)
BASELINE = (
    'G. Kovacs, A. Fazekas, "A new baseline for retinal vessel segmentation", Medical Image '
    "Analysis 75, 2022"
)


@dataclass(frozen=True, slots=True)
class PublishedValue:
    """A published number.

    Parameters
    ----------
    measure : str
        What it is, in words.
    who : str
        Whose result.
    value : float
        The number.
    source : str
        Where it was published.
    """

    measure: str
    who: str
    value: float
    source: str


@dataclass(frozen=True, slots=True)
class PaperRow:
    """A published number beside the measured one.

    Parameters
    ----------
    published : PublishedValue
        The number.
    measured : float or None
        What was measured here; None = nothing like it.
    measure : {"same", "similar", "none"}
        Whether it is the same measure.
    split : str
        Whether it is of the same images, in words.
    note : str
        What differs.
    """

    published: PublishedValue
    measured: float | None
    measure: Sameness
    split: str
    note: str


ISBI2012 = tuple(
    PublishedValue(measure, who, value, UNET_PAPER)
    for measure, values in (
        ("warping error", (("U-Net", 0.000353), ("next best", 0.000355), ("human", 0.000005))),
        ("Rand error", (("U-Net", 0.0382), ("best, post-processed", 0.0305), ("human", 0.0021))),
        ("pixel error", (("U-Net", 0.0611), ("best", 0.0582), ("human", 0.0010))),
    )
    for who, value in values
)
"""Of the test stack, whose truth the organizers keep."""

CTC = (
    PublishedValue("IoU, PhC-U373", "U-Net", 0.9203, UNET_PAPER),
    PublishedValue("IoU, PhC-U373", "second best 2015", 0.83, UNET_PAPER),
    PublishedValue("IoU, DIC-HeLa", "U-Net", 0.7756, UNET_PAPER),
    PublishedValue("IoU, DIC-HeLa", "second best 2015", 0.46, UNET_PAPER),
)
"""Of the challenge's test sequences, whose truth the organizers keep."""

DRIVE = (
    PublishedValue("F1", "recurrent U-Net", 0.8155, R2U_NET),
    PublishedValue("sensitivity", "recurrent U-Net", 0.7751, R2U_NET),
    PublishedValue("specificity", "recurrent U-Net", 0.9816, R2U_NET),
    PublishedValue("accuracy", "recurrent U-Net", 0.9556, R2U_NET),
    PublishedValue("F1", "R2U-Net", 0.8171, R2U_NET),
    PublishedValue("sensitivity", "R2U-Net", 0.7792, R2U_NET),
    PublishedValue("specificity", "R2U-Net", 0.9813, R2U_NET),
    PublishedValue("accuracy", "R2U-Net", 0.9556, R2U_NET),
    PublishedValue("accuracy", "highest of 100 papers, in the field of view", 0.9582, BASELINE),
)
"""Of the 20 test images, 01 to 20. Many papers do not say whether they leave out what lies outside
the field of view, which raises specificity and accuracy (Kovacs and Fazekas)."""
