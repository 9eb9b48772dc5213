"""What a model tells apart: its classes, with names and colors."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from napari_unet.core.settings import Settings, matching

UNLABELED = 0
"""In predictions: not computed yet. In annotations: nothing said, ignored. As in ilastik."""

FIRST_CLASS = 1
"""Label of a model's first class; the k-th class is k, in predictions and annotations alike."""

MAX_CLASSES = 64
"""Bound on a model's classes; keeps class images in uint8 and refuses absurd files."""

ClassName = Annotated[str, StringConstraints(min_length=1, max_length=64, strip_whitespace=True)]
"""What a class is called, in the user's words."""

Color = Annotated[str, matching(r"#[0-9a-fA-F]{6}", "a color as #rrggbb, such as #3a86c8")]
"""An sRGB color as ``#rrggbb``."""


class ClassInfo(Settings):
    """One class of a model.

    Parameters
    ----------
    name : str
        What it is called, in the user's words.
    color : str
        ``#rrggbb``, used for its labels.
    """

    name: ClassName
    color: Color

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Red, green and blue, 0 to 255.

        Examples
        --------
        >>> ClassInfo(name="membrane", color="#ffb000").rgb
        (255, 176, 0)
        """
        red, green, blue = bytes.fromhex(self.color[1:])
        return red, green, blue
