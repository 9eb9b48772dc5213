"""A search for places to paint in: every option, as the command line and the panel give it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from napari_unet.core.job import Channels, DeviceName, Rescale
from napari_unet.core.settings import Settings

Ranking = Literal["random", "entropy", "margin", "disagreement", "mixed"]
"""What decides which place comes first.

"random" spreads places evenly; "entropy" and "margin" prefer those where the model is least sure,
"disagreement" those where two models differ; "mixed" takes entropy and random in turn.
"""

Scope = Literal["slice", "volume"]
"""Whether places lie in one slice or anywhere."""

DEFAULT_RANKING: Ranking = "random"
"""None of the others was shown to be better; see docs/explanation/where-to-paint.md."""

DEFAULT_PLACE_EDGE = 96
"""Pixels: what is seen at once, and room for some strokes of 8 to 20 pixels."""

DEFAULT_WINDOWS = 60
"""Parts of an image, of a tile's size, that are looked at."""

DEFAULT_SECONDS = 20.0
"""A person waits for an answer."""


class SuggestJob(Settings):
    """Where to paint next: in which image, for which model, and how long to search.

    Parameters
    ----------
    input : str
        Path of the image.
    model : str
        Name of a model, or path of its file.
    compare_with : str or None
        Another model, such as the parent; needed by the ranking "disagreement".
    annotation : str or None
        A stored annotation (``strokes.zarr``) of the image: places that hold labels are left out.
    scope : {"volume", "slice"}
        Where to search.
    slice : int or None
        Which slice, for the scope "slice"; a plane is slice 0.
    region : str or None
        Part to search in, ``"z0:z1,y0:y1,x0:x1"`` in voxels; None = all.
    count : int
        Places to suggest.
    edge : int
        About how long the edges of a place are in y and x, in voxels of the image.
    rank_by : {"random", "entropy", "margin", "disagreement", "mixed"} or None
        What decides the order; None = `DEFAULT_RANKING`.
    windows : int
        Most parts of the image, of a tile's size, that are looked at.
    seconds : float
        No further part is looked at after so long; loading does not count.
    seed : int
        Of all chance.
    axes, channel, level, time, rescale
        Which part of the file is the image, and how the model sees it, as in `SegmentJob`.
    device, threads
        Where the network runs.
    """

    input: str
    model: str
    compare_with: str | None = None
    annotation: str | None = None
    scope: Scope = "volume"
    slice: Annotated[int, Field(ge=0)] | None = None
    region: str | None = None
    count: Annotated[int, Field(ge=1, le=1000)] = 10
    edge: Annotated[int, Field(ge=16, le=1024)] = DEFAULT_PLACE_EDGE
    rank_by: Ranking | None = None
    windows: Annotated[int, Field(ge=1, le=1_000_000)] = DEFAULT_WINDOWS
    seconds: Annotated[float, Field(gt=0, le=1_000_000)] = DEFAULT_SECONDS
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    axes: str | None = None
    channel: Channels | None = None
    level: Annotated[int, Field(ge=0)] = 0
    time: Annotated[int, Field(ge=0)] | None = None
    rescale: Rescale = "auto"
    device: DeviceName = "auto"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> SuggestJob:
        if (self.scope == "slice") != (self.slice is not None):
            raise ValueError(
                "the scope slice and the number of a slice belong together; write "
                "--scope slice --slice 12, or leave both out"
            )
        if self.rank_by == "disagreement" and self.compare_with is None:
            raise ValueError(
                "the ranking disagreement compares two models; name the other one with "
                "--compare-with"
            )
        return self

    @property
    def ranking(self) -> Ranking:
        """What decides the order.

        Examples
        --------
        >>> SuggestJob(input="a.tif", model="em-membranes").ranking == DEFAULT_RANKING
        True
        """
        return self.rank_by or DEFAULT_RANKING
