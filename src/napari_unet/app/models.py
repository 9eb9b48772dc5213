"""Which models there are: bundled, the user's own, and those of shared folders. No torch."""

from __future__ import annotations

import logging
import os
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

CROPS_SUFFIX = ".crops.safetensors"
"""What files of regression crops end in; they lie beside models and are none."""

REHEARSAL_SUFFIX = ".rehearsal.safetensors"
"""What files of rehearsal crops end in; the same holds for them."""

COMPANION_SUFFIXES = (CROPS_SUFFIX, REHEARSAL_SUFFIX)
"""Of all files that lie beside models and are none."""

DEFAULT_MODEL = "em-membranes"
"""The bundled model for electron microscopy."""

BUNDLED_FOLDER = Path(__file__).parent.parent / "resources" / "models"
"""Where the package keeps its own models."""

SHARED_FOLDERS = "NAPARI_UNET_MODELS"
"""Environment variable that names folders with models of others, separated as in ``PATH``."""

Origin = Literal["bundled", "own", "shared", "file"]
"""Part of the package, in the user's folder, in a shared folder, or given by path."""


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
    origin : {"bundled", "own", "shared", "file"}
        Part of the package, in the user's folder, in a shared folder, or given by path.
    """

    name: str
    path: Path
    header: ModelHeader
    sha256: str
    origin: Origin

    @property
    def argument(self) -> str:
        """What commands and jobs call it: its name, or its file if it was given by path."""
        return str(self.path) if self.origin == "file" else self.name


@dataclass(frozen=True, slots=True)
class DamagedModel:
    """A file among the models that cannot be used.

    Parameters
    ----------
    name : str
        The file's name without suffix.
    path : Path
        The file.
    origin : {"bundled", "own", "shared", "file"}
        Where it lies.
    reason : str
        What is wrong with it, naming the file.
    """

    name: str
    path: Path
    origin: Origin
    reason: str


@dataclass(frozen=True, slots=True)
class ModelInventory:
    """Everything in the folders of models.

    Parameters
    ----------
    models : tuple of ModelEntry
        Those that can be used by name: bundled, own, shared, and by name within each.
    hidden : tuple of ModelEntry
        Sound ones whose name belongs to a file before them; they can be used by path.
    damaged : tuple of DamagedModel
        Those that cannot be used.
    missing_folders : tuple of Path
        Shared folders that are named but cannot be listed.
    """

    models: tuple[ModelEntry, ...]
    hidden: tuple[ModelEntry, ...]
    damaged: tuple[DamagedModel, ...]
    missing_folders: tuple[Path, ...]


def own_models_folder() -> Path:
    """Return where the user's own models are kept; the folder may not exist."""
    return Path(platformdirs.user_data_path("napari-unet", appauthor=False)) / "models"


def shared_folders() -> tuple[Path, ...]:
    """Return the folders that the environment variable `NAPARI_UNET_MODELS` names, in its order.

    They are only ever read. A folder that is named twice, or is the user's own, counts once.
    """
    named = os.environ.get(SHARED_FOLDERS, "").split(os.pathsep)
    found = dict.fromkeys(Path(item).expanduser() for item in named if item.strip())
    return tuple(folder for folder in found if folder != own_models_folder())


def take_inventory() -> ModelInventory:
    """Return every model, hidden model and damaged file in the folders of models."""
    models: dict[str, ModelEntry] = {}
    hidden, damaged = [], []
    taken: set[str] = set()
    for origin, path in model_files():
        try:
            entry = _entry(path, origin)
        except ModelFileError as error:
            damaged.append(DamagedModel(path.stem, path, origin, str(error)))
        else:
            if path.stem in taken:
                hidden.append(entry)
            else:
                models[path.stem] = entry
        taken.add(path.stem)
    missing = tuple(folder for folder in shared_folders() if not _can_be_listed(folder))
    return ModelInventory(tuple(models.values()), tuple(hidden), tuple(damaged), missing)


def list_models() -> list[ModelEntry]:
    """Return every model that can be used by name: bundled, own, shared.

    A damaged file is left out, and said so in the log.
    """
    inventory = take_inventory()
    for item in inventory.damaged:
        logger.warning("left out of the models: %s", item.reason)
    return list(inventory.models)


def find_model(name: str) -> ModelEntry:
    """Return the model of a name, or in a file.

    Parameters
    ----------
    name : str
        Name of a bundled, own or shared model, or path of a ``.safetensors`` file.

    Raises
    ------
    ConfigError
        If there is no such model; the message lists those there are.
    ModelFileError
        If the file is damaged or not one of ours.
    """
    for origin, path in model_files():
        if path.stem == name:
            return _entry(path, origin)
    path = Path(name).expanduser()
    if path.suffix == SUFFIX or path.exists():
        return _entry(path, "file")
    known = ", ".join(dict.fromkeys(path.stem for _, path in model_files())) or "none"
    raise ConfigError(
        f"there is no model {name!r}; choose one of: {known}; or give the path of a {SUFFIX} file"
    )


def model_files() -> Iterator[tuple[Origin, Path]]:
    """Yield the files in the folders of models, unread, in the order in which names are found."""
    yield from (("bundled", path) for path in _files_in(BUNDLED_FOLDER))
    yield from (("own", path) for path in _files_in(own_models_folder()))
    for folder in shared_folders():
        yield from (("shared", path) for path in _files_in(folder))


def _files_in(folder: Path) -> list[Path]:
    try:
        found = [path for path in folder.iterdir() if path.suffix == SUFFIX]
    except OSError:
        return []
    return sorted(path for path in found if not path.name.endswith(COMPANION_SUFFIXES))


def _can_be_listed(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)


def _entry(path: Path, origin: Origin) -> ModelEntry:
    file = read_model_header(path)
    name = file.header.name if origin == "file" else path.stem
    return ModelEntry(name, path, file.header, file.sha256, origin)
