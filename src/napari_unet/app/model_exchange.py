"""Models that come in as files and go out as files, of our kind and of others."""

from __future__ import annotations

import datetime
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.app.model_store import add_model, check_new_name
from napari_unet.app.models import SUFFIX, find_model
from napari_unet.core.architecture import Architecture
from napari_unet.core.classes import ClassInfo
from napari_unet.core.header import InputExpectation, ModelHeader, Provenance
from napari_unet.errors import ConfigError, OutputExistsError, StorageError
from napari_unet.files import write_atomically
from napari_unet.model.bioimageio_import import read_package
from napari_unet.model.bioimageio_package import bioimageio_package
from napari_unet.model.file import read_model_file, read_plain_file, refuse
from napari_unet.model.onnx_file import onnx_bytes
from napari_unet.model.state_dict_import import convert_state_dict
from napari_unet.model.strict_json import excerpt, parse_strict_json
from napari_unet.model.weights import load_model

if TYPE_CHECKING:
    from napari_unet.app.models import ModelEntry

FORMATS = {"safetensors": SUFFIX, "bioimageio": ".zip", "onnx": ".onnx"}
"""Kinds of files that a model can be exported as, and what such a file ends in."""

STATE_DICT_SUFFIXES = (".pth", ".pt")
"""What files of `torch.save` end in."""

PACKAGE_SUFFIX = ".zip"
"""What packages of the BioImage Model Zoo end in."""

COLORS = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999"),
)
"""Colors of classes that come without: M. Okabe and K. Ito, "Color Universal Design", 2008."""


@dataclass(frozen=True, slots=True)
class StateDictOptions:
    """What a state dict does not say about itself.

    Parameters
    ----------
    architecture : str or None
        Arguments of `napari_unet.UNet` as JSON; those left out have its defaults.
    like : str or None
        Instead: a model of the same architecture, whose classes and input count for this one.
    classes : tuple of str
        Names of the classes, in the order of the network's outputs; () = "class 1", ...
    """

    architecture: str | None = None
    like: str | None = None
    classes: tuple[str, ...] = ()


def import_model(
    path: str | Path,
    *,
    name: str | None = None,
    sha256: str | None = None,
    options: StateDictOptions | None = None,
) -> ModelEntry:
    """Copy a model file among the user's own models, and return it there.

    Parameters
    ----------
    path : path-like
        A `.safetensors` model file, which is copied as it is; a bioimage.io package (`.zip`) that
        `export_model` wrote; or a `.pth` or `.pt` state dict of our network. The weights of the
        latter two are opened and converted by another process.
    name : str or None
        What to call it; None = as the model file says, or like the state dict's file.
    sha256 : str or None
        Hash that the file must have; None = any.
    options : StateDictOptions or None
        Needed for a state dict, and only for one.

    Raises
    ------
    ConfigError
        If the name is taken, or the options do not fit the kind of file.
    ModelFileError
        If the file is damaged, hostile or of another kind, or has another hash.
    StorageError
        If the models folder cannot be written.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() in STATE_DICT_SUFFIXES:
        return _import_state_dict(path, name, sha256, options or StateDictOptions())
    if path.suffix.lower() not in (SUFFIX, PACKAGE_SUFFIX):
        raise ConfigError(
            f"{str(path)!r} ends in {path.suffix!r}; a model file ends in {SUFFIX}, a package in "
            f"{PACKAGE_SUFFIX}, a state dict in {' or '.join(STATE_DICT_SUFFIXES)}; other kinds "
            "cannot be imported"
        )
    if options is not None and options != StateDictOptions():
        raise ConfigError(
            f"{str(path)!r} says its architecture and classes itself; leave out --architecture, "
            "--like and --classes"
        )
    if path.suffix.lower() == PACKAGE_SUFFIX:
        return _import_package(path, name, sha256)
    file, data = read_model_file(path, expected_sha256=sha256)
    new_name = name or file.header.name
    check_new_name(new_name)
    # Its tensors are checked, too; the hash makes sure that they are those which are copied.
    load_model(path, expected_sha256=file.sha256)
    return add_model(data, new_name)


def export_model(
    name: str,
    output: str | Path,
    kind: str,
    *,
    authors: tuple[str, ...] = (),
) -> Path:
    """Write a model as a file of some kind, and return its path.

    Parameters
    ----------
    name : str
        Name of a model, or its file.
    output : path-like
        The file to write, with the suffix of its kind; it must not exist.
    kind : {"safetensors", "bioimageio", "onnx"}
        A copy of the model file; a bioimage.io package (`.zip`); or an ONNX file.
    authors : tuple of str
        Who made the model, for a bioimage.io package.

    Raises
    ------
    ConfigError
        If the kind is unknown, the suffix is another one, or there is no such model.
    OutputExistsError
        If the file exists.
    ModelFileError
        If the model is damaged.
    BackendError
        If packages for this kind are not installed.
    StorageError
        If the file cannot be written.
    """
    output = Path(output).expanduser()
    if kind not in FORMATS:
        raise ConfigError(f"there is no format {kind!r}; choose one of: {', '.join(FORMATS)}")
    if output.suffix.lower() != FORMATS[kind]:
        raise ConfigError(
            f"{str(output)!r} must end in {FORMATS[kind]}, as files of the format {kind} do"
        )
    if output.exists():
        raise _exists(output)
    entry = find_model(name)
    if kind == "safetensors":
        data = read_model_file(entry.path, expected_sha256=entry.sha256)[1]
    else:
        model = load_model(entry.path, fold=False, expected_sha256=entry.sha256)
        package = kind == "bioimageio"
        data = bioimageio_package(model, authors=authors) if package else onnx_bytes(model)
    try:
        write_atomically(output, data, overwrite=False)
    except FileExistsError as error:
        raise _exists(output) from error
    except OSError as error:
        raise StorageError(
            f"{str(output)!r} cannot be written ({error}); check the folder and its free space"
        ) from error
    return output


def _exists(output: Path) -> OutputExistsError:
    return OutputExistsError(
        f"{str(output)!r} exists and is not overwritten; choose another name, or remove it first"
    )


def _import_package(path: Path, name: str | None, sha256: str | None) -> ModelEntry:
    data, _ = _expected_bytes(path, sha256)
    header, state = read_package(data, path)
    new_name = name or header.name
    check_new_name(new_name)
    return add_model(convert_state_dict(state, header, source=str(path)), new_name)


def _expected_bytes(path: Path, sha256: str | None) -> tuple[bytes, str]:
    """Return the content of a file and its hash, which is `sha256` if that is given."""
    data = read_plain_file(path)
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and found != sha256.strip().lower():
        refuse(
            path,
            f"its SHA-256 is {found}, but {excerpt(sha256)} was expected; fetch the file again, or "
            "name the hash of the file that you mean",
        )
    return data, found


def _import_state_dict(
    path: Path, name: str | None, sha256: str | None, options: StateDictOptions
) -> ModelEntry:
    new_name = name or re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).lstrip(".-_")
    check_new_name(new_name)
    header = _header(options, path)
    data, found = _expected_bytes(path, sha256)
    provenance = Provenance(
        recipe=f"imported from the state dict {path.name!r}, SHA-256 {found}",
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )
    header = header.model_copy(update={"name": new_name, "provenance": provenance})
    return add_model(convert_state_dict(data, header, source=str(path)), new_name)


def _header(options: StateDictOptions, path: Path) -> ModelHeader:
    """Return what a state dict's model is to say, but for its name and provenance."""
    if (options.architecture is None) == (options.like is None):
        raise ConfigError(
            f"{str(path)!r} is a state dict, which does not say its network; give either "
            "--architecture '{\"base_channels\": 64, ...}' or --like MODEL"
        )
    if options.like is not None:
        like = find_model(options.like).header
        architecture, expected, given = like.architecture, like.input, like.classes
    else:
        architecture = _architecture(options.architecture or "")
        channels = (f"channel {c + 1}" for c in range(architecture.in_channels))
        expected, given = InputExpectation(channels=tuple(channels)), ()
    names = options.classes or tuple(f"class {k + 1}" for k in range(architecture.num_classes))
    classes = tuple({"name": n, "color": COLORS[k % len(COLORS)]} for k, n in enumerate(names))
    if given and not options.classes:
        classes = tuple(item.model_dump() for item in given)
    values = {
        "name": "imported",
        "description": f"imported from {path.name}",
        "architecture": architecture,
        "classes": tuple(ClassInfo.parse(item, source="--classes") for item in classes),
        "input": expected,
    }
    return ModelHeader.parse(values, source=str(path))


def _architecture(text: str) -> Architecture:
    try:
        values = parse_strict_json(text)
    except ValueError as error:
        raise ConfigError(
            f"--architecture {excerpt(text)} is no JSON object ({error}); write for example "
            '\'{"depth": 4, "base_channels": 64}\''
        ) from error
    return Architecture.parse(values, source="--architecture")
