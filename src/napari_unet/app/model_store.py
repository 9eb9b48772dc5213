"""Changes to the user's own models: add, rename, remove. Nothing is ever overwritten. No torch.

A model is known by the name of its file and, for good, by the SHA-256 of its bytes. Renaming
changes no byte, so that results and fine-tuned models still name the right parent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from napari_unet.app.models import (
    COMPANION_SUFFIXES,
    SHARED_FOLDERS,
    SUFFIX,
    find_model,
    model_files,
    own_models_folder,
    take_inventory,
)
from napari_unet.core.header import ModelName
from napari_unet.errors import ConfigError, ModelFileError, StorageError
from napari_unet.files import rename_new, sync_folder, write_atomically
from napari_unet.model.file import read_model_header

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.app.models import ModelEntry, ModelInventory

_NAME: TypeAdapter[str] = TypeAdapter(ModelName)
_LONGEST_STEM = 56
_MAX_NAMES_TRIED = 1000


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A model that another one was fine-tuned from.

    Parameters
    ----------
    name : str
        What it was called when it was fine-tuned.
    sha256 : str
        Of its file.
    entry : ModelEntry or None
        The model itself, if it is in the folders of models.
    """

    name: str
    sha256: str
    entry: ModelEntry | None


def add_model(data: bytes, name: str) -> ModelEntry:
    """Write a model file into the user's folder, which is made if need be, and return it.

    Parameters
    ----------
    data : bytes
        A whole model file that has been checked.
    name : str
        What it is to be called.

    Raises
    ------
    ConfigError
        If the name cannot be used or is taken.
    StorageError
        If the folder cannot be written.
    """
    check_new_name(name)
    path = own_models_folder() / f"{name}{SUFFIX}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data, overwrite=False)
    except FileExistsError as error:
        raise _taken(name, path) from error
    except OSError as error:
        raise _not_writable(path.parent, error) from error
    return find_model(name)


def rename_model(old: str, new: str) -> ModelEntry:
    """Give one of the user's own models another name and return it; its bytes stay the same.

    Raises
    ------
    ConfigError
        If there is no own model `old`, or `new` cannot be used or is taken.
    StorageError
        If the folder cannot be written.
    """
    source = _own_file(old, "renamed")
    check_new_name(new, instead_of=old)
    target = source.with_name(f"{new}{SUFFIX}")
    try:
        rename_new(source, target)
    except FileExistsError as error:
        raise _taken(new, target) from error
    except OSError as error:
        raise _not_writable(source.parent, error) from error
    return find_model(new)


def remove_model(name: str, *, even_if_parent: bool = False) -> Path:
    """Delete one of the user's own models, sound or damaged, and return where it was.

    Parameters
    ----------
    name : str
        Its name.
    even_if_parent : bool
        Delete it although other models were fine-tuned from it.

    Raises
    ------
    ConfigError
        If there is no own model of that name, or it is a parent and that was not allowed.
    StorageError
        If the folder cannot be written.
    """
    path = _own_file(name, "removed")
    children = [] if even_if_parent else [repr(child) for child in children_of(path)]
    if children:
        raise ConfigError(
            f"model {name!r} is the parent of {', '.join(children)}, which could then no longer be "
            "compared with what they were fine-tuned from; remove it all the same with --yes"
        )
    try:
        path.unlink()
    except OSError as error:
        raise _not_writable(path.parent, error) from error
    sync_folder(path.parent)
    return path


def lineage(entry: ModelEntry, inventory: ModelInventory | None = None) -> list[Ancestor]:
    """Return the models that a model descends from, its parent first.

    The line ends at a model trained from random weights, or at one that is not there.

    Parameters
    ----------
    entry : ModelEntry
        The model.
    inventory : ModelInventory or None
        Where they are looked for; None = among the models that there are now.
    """
    inventory = inventory or take_inventory()
    known = {item.sha256: item for item in (*inventory.hidden, *inventory.models)}
    ancestors: list[Ancestor] = []
    seen = {entry.sha256}
    parent = entry.header.provenance.parent
    while parent is not None and parent.sha256 not in seen:
        seen.add(parent.sha256)
        found = known.get(parent.sha256)
        ancestors.append(Ancestor(parent.name, parent.sha256, found))
        parent = found.header.provenance.parent if found else None
    return ancestors


def check_new_name(name: str, *, instead_of: str | None = None) -> None:
    """Check that a model may be called `name`.

    Parameters
    ----------
    name : str
        The name.
    instead_of : str or None
        Name of an own model that is being renamed and so does not count as taken.

    Raises
    ------
    ConfigError
        If it is no legal name, or there is such a model in any folder of models. Names that differ
        in upper and lower case only count as the same, because some file systems think so.
    """
    try:
        _NAME.validate_python(name)
    except ValidationError as error:
        raise ConfigError(
            f"{name!r} cannot be a model's name; use at most 64 letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit"
        ) from error
    if f"{name}{SUFFIX}".endswith(COMPANION_SUFFIXES):
        raise ConfigError(
            f"{name!r} would be taken for a file of crops beside a model; choose another name"
        )
    for origin, path in model_files():
        is_renamed = origin == "own" and path.stem == instead_of and path.stem != name
        if path.stem.casefold() == name.casefold() and not is_renamed:
            raise _taken(path.stem, path)


def free_name(base: str) -> str:
    """Return a name that no model has: `base` made fit for one, or that with a number.

    Examples
    --------
    >>> free_name("em-membranes")
    'em-membranes-2'
    """
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", base).strip("._-")[:_LONGEST_STEM] or "model"
    for name in (stem, *(f"{stem}-{number}" for number in range(2, _MAX_NAMES_TRIED))):
        try:
            check_new_name(name)
        except ConfigError:
            continue
        return name
    return ""


def children_of(path: Path, inventory: ModelInventory | None = None) -> list[str]:
    """Return the names of the models that were fine-tuned from the model in a file.

    Parameters
    ----------
    path : Path
        The file, which may be damaged.
    inventory : ModelInventory or None
        Where they are looked for; None = among the models that there are now.
    """
    try:
        sha256 = read_model_header(path).sha256
    except ModelFileError:
        sha256 = None
    inventory = inventory or take_inventory()
    found = []
    for item in (*inventory.models, *inventory.hidden):
        parent = item.header.provenance.parent
        # The hash of a damaged file says nothing; its name is all there is to go by.
        if parent and (parent.sha256 == sha256 or (sha256 is None and parent.name == path.stem)):
            found.append(item.name)
    return found


def _own_file(name: str, done: str) -> Path:
    """Return the file of an own model, which may be damaged or hidden."""
    places = {origin: path for origin, path in model_files() if path.stem == name}
    if "own" in places:
        return places["own"]
    if "bundled" in places:
        raise ConfigError(
            f"model {name!r} is part of napari-unet and cannot be {done}; "
            "choose one of your own, which `napari-unet models list` calls own"
        )
    if "shared" in places:
        raise ConfigError(
            f"model {name!r} lies in the shared folder {str(places['shared'].parent)!r} of "
            f"{SHARED_FOLDERS} and cannot be {done} from here; ask who keeps that folder"
        )
    own = ", ".join(path.stem for origin, path in model_files() if origin == "own") or "none"
    raise ConfigError(f"there is no model {name!r} of your own to be {done}; your own are: {own}")


def _taken(name: str, path: Path) -> ConfigError:
    return ConfigError(
        f"there is already a model {name!r} ({str(path)!r}), and none is overwritten; choose "
        "another name, or remove that one first"
    )


def _not_writable(folder: Path, error: OSError) -> StorageError:
    return StorageError(
        f"the models folder {str(folder)!r} cannot be written ({error}); check its permissions and "
        "free space"
    )
