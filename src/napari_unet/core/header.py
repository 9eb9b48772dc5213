"""What a model file says about itself, beside its tensors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from napari_unet.core.architecture import Architecture
from napari_unet.core.classes import FIRST_CLASS, ClassInfo
from napari_unet.core.intensities import IntensityRange
from napari_unet.core.normalization import NormalizationMethod
from napari_unet.core.object_method import ObjectDefaults, suited_method
from napari_unet.core.receptive import NetGeometry, unet_geometry
from napari_unet.core.settings import Settings, matching

SCHEMA_VERSION: Literal[1] = 1
"""Version of `ModelHeader`; a file with another one is refused, not guessed at."""

ModelName = Annotated[
    str,
    matching(
        r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
        "at most 64 letters, digits, '.', '_' and '-', a letter or digit first",
    ),
]
"""A name that is also a file name and a zarr group's name."""

MAX_CONTEXT = 8
"""Most slices on each side that a network may take as channels."""

COLOR_CHANNELS = ("red", "green", "blue")
"""Channels of a model for color images."""

Text = Annotated[str, Field(max_length=20_000)]
"""Free text; bounded because it comes from a file."""


class InputExpectation(Settings):
    """What images a model was trained on.

    Parameters
    ----------
    channels : tuple of str
        Meaning of each input channel, e.g. ``("FIB-SEM",)``.
    voxel_size : tuple of float or None
        (y, x) length of a pixel in training, in `unit`; None = unknown.
    unit : str or None
        Name of the unit as OME-Zarr spells it.
    normalization : {"standardize"}
        How intensities are mapped to network input, over the whole volume.
    context : int
        k: each slice is seen with the k slices before and the k after it, as further channels.
        Beyond the ends of the stack they are mirrored.
    intensities : tuple of IntensityRange or None
        Of each channel, where the gray values of the training images lie around their mean; None =
        unknown, and not written.
    """

    channels: tuple[Annotated[str, Field(max_length=64)], ...]
    voxel_size: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] | None = None
    unit: Annotated[str, Field(max_length=32)] | None = None
    normalization: NormalizationMethod = "standardize"
    context: Annotated[int, Field(ge=0, le=MAX_CONTEXT)] = 0
    intensities: tuple[IntensityRange, ...] | None = None

    @model_serializer(mode="wrap")
    def _without_nothing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        # Versions of this package that do not know the field refuse it, even empty.
        if values.get("intensities") is None:
            values.pop("intensities", None)
        return values

    @property
    def takes_colors(self) -> bool:
        """Whether the channels are those of a color image; then a gray one will do, too."""
        return self.channels == COLOR_CHANNELS

    def network_channels(self) -> tuple[str, ...]:
        """Return the meaning of each input of the network, in its order.

        Channel by channel, and for each channel the slices in the order of z; see
        `napari_unet.core.tiling.slices_as_channels`.

        Examples
        --------
        >>> InputExpectation(channels=("EM",), context=1).network_channels()
        ('EM z-1', 'EM', 'EM z+1')
        """
        offsets = range(-self.context, self.context + 1)
        return tuple(f"{c} z{k:+d}" if k else c for c in self.channels for k in offsets)


class ParentModel(Settings):
    """The model whose weights a training began with.

    Parameters
    ----------
    name : str
        What it was called then.
    sha256 : str
        Of its file, hexadecimal; it stays the same when the file is renamed or copied.
    """

    name: ModelName
    sha256: Annotated[str, matching(r"[0-9a-f]{64}", "64 hexadecimal digits in lower case")]


class Provenance(Settings):
    """Where a model comes from.

    Parameters
    ----------
    recipe : str
        The script and settings that made it.
    seed : int or None
        Seed of all its random numbers.
    data : str
        What it was trained on, with source and attribution.
    created : str
        UTC date.
    versions : dict
        Versions of the libraries it was trained with.
    scores : dict
        Measured on data it has not seen; see `score_conditions`.
    score_conditions : str
        What exactly was measured, and on what.
    parent : ParentModel or None
        What it was fine-tuned from; None = trained from random weights, or unknown.
    """

    recipe: Text = ""
    seed: int | None = None
    data: Text = ""
    created: Text = ""
    versions: dict[str, Annotated[str, Field(max_length=200)]] = Field(default_factory=dict)
    scores: dict[str, float] = Field(default_factory=dict)
    score_conditions: Text = ""
    parent: ParentModel | None = None


class ModelHeader(Settings):
    """Everything a model file holds but its tensors.

    Parameters
    ----------
    schema_version, name, description, architecture, classes, input, provenance, license
        See docs/reference/model-file.md.
    objects : ObjectDefaults or None
        How its classes become objects; None = as their names suggest, see `object_defaults`. A file
        without it is as good as before, and None is not written.

    Raises
    ------
    ConfigError
        If the classes or channels do not fit the architecture, or objects are made of others.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    name: ModelName
    description: Text = ""
    architecture: Architecture
    classes: tuple[ClassInfo, ...]
    input: InputExpectation
    provenance: Provenance = Provenance()
    license: Annotated[str, Field(max_length=200)] = ""
    objects: ObjectDefaults | None = None

    @model_validator(mode="after")
    def _fits(self) -> ModelHeader:
        if len(self.classes) != self.architecture.num_classes:
            raise ValueError(
                f"{len(self.classes)} classes are named, but the network has "
                f"{self.architecture.num_classes} outputs"
            )
        seen = 2 * self.input.context + 1
        if len(self.input.channels) * seen != self.architecture.in_channels:
            raise ValueError(
                f"{len(self.input.channels)} channels are named, and the network sees {seen} "
                f"slices of each, but it has {self.architecture.in_channels} inputs"
            )
        names = [item.name for item in self.classes]
        if len(set(names)) != len(names):
            raise ValueError(f"class names {names} are not all different")
        if self.objects is not None:
            self.objects.check_names(names)
        return self

    @model_serializer(mode="wrap")
    def _without_nothing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        # Versions of this package that do not know the field refuse it, even empty.
        if values.get("objects") is None:
            values.pop("objects", None)
        return values

    def geometry(self) -> NetGeometry:
        """Return halo, stride and legal sizes on (z, y, x) volumes; the halo along z is `context`.

        A tile of one slice reads ``2 * context + 1`` slices.
        """
        net = self.architecture
        return unet_geometry(net.depth, padding=net.padding, context=self.input.context)

    def labels(self) -> dict[int, ClassInfo]:
        """Return label value -> class: the k-th class has the label k."""
        return dict(enumerate(self.classes, start=FIRST_CLASS))

    def object_defaults(self) -> ObjectDefaults:
        """Return how the classes become objects: as the file says, or as their names suggest."""
        return self.objects or suited_method([item.name for item in self.classes])

    def summary(self) -> dict[str, Any]:
        """Return the header as plain data, ready for JSON."""
        return self.model_dump(mode="json")
