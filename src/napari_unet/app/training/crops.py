"""Crops: small images with labels that a model brings along, for those that begin with it.

::

    NAME.crops.safetensors      regression crops: a fine-tuned model is judged on them
    NAME.rehearsal.safetensors  rehearsal crops: it is trained on them, too
                                both beside NAME.safetensors, and each as follows
      image_0   (c, z, y, x) uint8    gray values, with some surroundings
      labels_0  (z, y, x) uint8       0 = does not count, k = the k-th class
      image_1, labels_1, ...
      metadata "crops"                `CropsHeader` as JSON

No slice may be in both. A model that was fine-tuned brings no crops of its own: those of its
nearest ancestor that has some are used, with classes matched by name. So a grandchild is judged on
what its grandparent could do.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import safetensors
import safetensors.numpy
from pydantic import Field

from napari_unet.app.model_store import lineage
from napari_unet.app.models import CROPS_SUFFIX, REHEARSAL_SUFFIX, SUFFIX
from napari_unet.app.training.held_out import HeldOutLabels, ImageInput
from napari_unet.core.annotation import Annotation
from napari_unet.core.boxes import Box
from napari_unet.core.classes import FIRST_CLASS, ClassName
from napari_unet.core.normalization import Normalization
from napari_unet.core.settings import Settings
from napari_unet.errors import ConfigError, ModelFileError, UNetError
from napari_unet.files import open_without_waiting
from napari_unet.io.image import Selection, wrap_array
from napari_unet.model.file import MAX_HEADER_BYTES
from napari_unet.model.strict_json import parse_strict_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from napari_unet.app.models import ModelEntry

CropsKind = Literal["regression", "rehearsal"]
"""What crops are for: to judge only, or to learn from."""

_SUFFIXES: dict[CropsKind, str] = {"regression": CROPS_SUFFIX, "rehearsal": REHEARSAL_SUFFIX}

METADATA_KEY = "crops"
"""Entry of the file's metadata that holds `CropsHeader`."""

MAX_CROPS = 256
"""Crops in one file; the bundled models have a handful."""

MAX_VOXELS = 2**27
"""Voxels of all crops together: 128 MB."""


class CropScaling(Settings):
    """Offset and scale of the volume that a crop was taken from, one number per channel."""

    offset: tuple[float, ...] | float
    scale: tuple[Annotated[float, Field(gt=0)], ...] | Annotated[float, Field(gt=0)]

    def normalization(self) -> Normalization:
        """Return the same as tuples."""
        offset, scale = (v if isinstance(v, tuple) else (v,) for v in (self.offset, self.scale))
        return Normalization(offset=offset, scale=scale)


class CropsHeader(Settings):
    """What a file of crops says about them.

    Parameters
    ----------
    schema_version : int
        Version of this header.
    class_names : tuple of str
        The k-th class has the label k.
    normalization : tuple of CropScaling
        Of each crop, in order.
    source, license : str
        Where the images come from.
    """

    schema_version: Literal[1]
    class_names: tuple[ClassName, ...]
    normalization: tuple[CropScaling, ...]
    source: Annotated[str, Field(max_length=20_000)] = ""
    license: Annotated[str, Field(max_length=200)] = ""


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """Images with labels, read from a file.

    Parameters
    ----------
    path : Path
        The file.
    sha256 : str
        Hash of the whole file.
    header : CropsHeader
        What it says about itself.
    images : tuple of numpy.ndarray
        (c, z, y, x) uint8.
    labels : tuple of numpy.ndarray
        (z, y, x) uint8.
    """

    path: Path
    sha256: str
    header: CropsHeader
    images: tuple[npt.NDArray[np.uint8], ...]
    labels: tuple[npt.NDArray[np.uint8], ...]

    def unknown(self, class_names: Sequence[str], rename: Mapping[str, str]) -> tuple[int, ...]:
        """Return the labels of those classes of another model that these labels do not know."""
        names = [rename.get(name, name) for name in self.header.class_names]
        numbered = enumerate(class_names, start=FIRST_CLASS)
        return tuple(k for k, name in numbered if name not in names)

    def labels_in(
        self, class_names: Sequence[str], rename: Mapping[str, str]
    ) -> list[HeldOutLabels]:
        """Return the crops in the classes of another model.

        Parameters
        ----------
        class_names : sequence of str
            Of that model, in order. Pixels of a class that it does not have do not count.
        rename : mapping
            Old names -> that model's names.
        """
        names = [rename.get(name, name) for name in self.header.class_names]
        table = np.zeros(len(names) + FIRST_CLASS, np.uint8)
        for k, name in enumerate(names, start=FIRST_CLASS):
            if name in class_names:
                table[k] = class_names.index(name) + FIRST_CLASS
        result = []
        rows = zip(self.images, self.labels, self.header.normalization, strict=True)
        for number, (image, labels, scaling) in enumerate(rows):
            channels = ",".join(str(k) for k in range(len(image)))
            source = wrap_array(
                image, Selection(axes="czyx", channel=channels), name=f"crop {number}"
            )
            annotation = Annotation.from_array(table[labels], class_names)
            box = Box.of_shape(labels.shape)
            result.append(
                HeldOutLabels(ImageInput(source, scaling.normalization()), annotation, box)
            )
        return result


def find_crops(model: ModelEntry, kind: CropsKind) -> Crops | None:
    """Return the crops of a model, or of its nearest ancestor that has some; None = there are none.

    Parameters
    ----------
    model : ModelEntry
        Where to begin.
    kind : {"regression", "rehearsal"}
        Which of its files.

    Raises
    ------
    ModelFileError
        If a file of crops is damaged.
    """
    for path in _places(model, _SUFFIXES[kind]):
        if path.is_file():
            return read_crops(path)
    return None


def read_crops(path: Path) -> Crops:
    """Return the crops in a file.

    Raises
    ------
    ModelFileError
        If it is missing, damaged, or not a file of crops.
    """
    try:
        header, data = _read_checked(path)
        tensors: dict[str, npt.NDArray[Any]] = safetensors.numpy.load(data)
        images, labels = _checked(header, tensors)
    except (
        OSError,
        safetensors.SafetensorError,
        UNetError,
        ValueError,
        KeyError,
        TypeError,
    ) as error:
        raise ModelFileError(
            f"the crops {str(path)!r} cannot be used ({error}); fetch the model again"
        ) from error
    return Crops(path, hashlib.sha256(data).hexdigest(), header, images, labels)


def _places(model: ModelEntry, suffix: str) -> Iterator[Path]:
    entries = [model, *(ancestor.entry for ancestor in lineage(model))]
    for entry in entries:
        if entry is not None:
            yield entry.path.with_name(entry.path.name.removesuffix(SUFFIX) + suffix)


def _read_checked(path: Path) -> tuple[CropsHeader, bytes]:
    """Return the header and all bytes of a file, which are read only if the header makes sense.

    The reader of safetensors takes headers of 100 MB, and seconds for what they name.
    """
    with open(path, "rb", opener=open_without_waiting) as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is no regular file")
        prefix = stream.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length > min(MAX_HEADER_BYTES, status.st_size):
            raise ValueError("it does not begin as a .safetensors file of ours does")
        if status.st_size > MAX_VOXELS + MAX_HEADER_BYTES:
            raise ValueError(f"it has {status.st_size:,} bytes, too many")
        head = stream.read(length)
        table = parse_strict_json(head)
        header = CropsHeader.parse(
            parse_strict_json(table.pop("__metadata__")[METADATA_KEY]), source="crops"
        )
        if len(table) != 2 * len(header.normalization):
            count = len(header.normalization)
            raise ConfigError(f"{len(table)} tensors are not images and labels of {count} crops")
        return header, prefix + head + stream.read(MAX_VOXELS)


def _checked(
    header: CropsHeader, tensors: Mapping[str, npt.NDArray[Any]]
) -> tuple[tuple[npt.NDArray[np.uint8], ...], tuple[npt.NDArray[np.uint8], ...]]:
    """Return images and labels."""
    count = len(header.normalization)
    if not 1 <= count <= MAX_CROPS or len(tensors) != 2 * count:
        raise ConfigError(f"{len(tensors)} tensors are not images and labels of {count} crops")
    if sum(t.size for t in tensors.values()) > MAX_VOXELS:
        raise ConfigError("they are too large")
    images = tuple(tensors[f"image_{k}"] for k in range(count))
    labels = tuple(tensors[f"labels_{k}"] for k in range(count))
    for image, label, scaling in zip(images, labels, header.normalization, strict=True):
        channels = len(scaling.normalization().offset)
        fits = image.ndim == 4 and image.shape == (channels, *label.shape)
        if not fits or {image.dtype, label.dtype} != {np.dtype(np.uint8)}:
            raise ConfigError(
                f"an image of shape {image.shape} and type {image.dtype} does not fit labels of "
                f"shape {label.shape} and type {label.dtype}"
            )
        if label.max(initial=0) > len(header.class_names):
            raise ConfigError(f"the label {label.max()} is no class")
    return images, labels
