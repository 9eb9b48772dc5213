"""Which models there are: the bundled ones and the user's own. No torch."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import platformdirs

from napari_unet.errors import ConfigError, ModelFileError
from napari_unet.model.file import read_model_header

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.core.header import ModelHeader

logger = logging.getLogger(__name__)

SUFFIX = ".safetensors"
"""What model files end in."""

DEFAULT_MODEL = "em-membranes"
"""The bundled model for electron microscopy."""

BUNDLED_FOLDER = Path(__file__).parent.parent / "resources" / "models"
"""Where the package keeps its own models."""


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model that can be used.

    Parameters
    ----------
    name : str
        What it is called in `--model`: the file's name without suffix.
    path : Path
        Its file.
    header : ModelHeader
        What the file says about itself.
    sha256 : str
        Hash of the whole file.
    origin : {"bundled", "own", "file"}
        Part of the package, in the user's folder, or given by path.
    """

    name: str
    path: Path
    header: ModelHeader
    sha256: str
    origin: Literal["bundled", "own", "file"]


def own_models_folder() -> Path:
    """Return where the user's own models are kept; the folder may not exist."""
    return Path(platformdirs.user_data_path("napari-unet", appauthor=False)) / "models"


def list_models() -> list[ModelEntry]:
    """Return every usable model, bundled ones first, then by name.

    A damaged file is left out, and said so in the log.
    """
    entries = []
    for origin, path in _files():
        try:
            entries.append(_entry(path, origin))
        except ModelFileError as error:
            logger.warning("left out of the models: %s", error)
    return entries


def find_model(name: str) -> ModelEntry:
    """Return the model of a name, or in a file.

    Parameters
    ----------
    name : str
        Name of a bundled or own model, or path of a ``.safetensors`` file.

    Raises
    ------
    ConfigError
        If there is no such model; the message lists those there are.
    ModelFileError
        If the file is damaged or not one of ours.
    """
    for origin, path in _files():
        if path.stem == name:
            return _entry(path, origin)
    path = Path(name).expanduser()
    if path.suffix == SUFFIX or path.exists():
        return _entry(path, "file")
    known = ", ".join(path.stem for _, path in _files()) or "none"
    raise ConfigError(
        f"there is no model {name!r}; choose one of: {known}; or give the path of a {SUFFIX} file"
    )


def _files() -> Iterator[tuple[Literal["bundled", "own"], Path]]:
    for path in sorted(BUNDLED_FOLDER.glob(f"*{SUFFIX}")):
        yield "bundled", path
    for path in sorted(own_models_folder().glob(f"*{SUFFIX}")):
        yield "own", path


def _entry(path: Path, origin: Literal["bundled", "own", "file"]) -> ModelEntry:
    file = read_model_header(path)
    name = file.header.name if origin == "file" else path.stem
    return ModelEntry(name, path, file.header, file.sha256, origin)
