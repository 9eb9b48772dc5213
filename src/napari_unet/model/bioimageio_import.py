"""Packages of the BioImage Model Zoo that we wrote, read with suspicion and without PyTorch.

A package's description (``rdf.yaml``) holds the model's own header, so a package of ours comes back
whole. Other packages bring networks of their own as programs, which are not run: they are refused.
"""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any

import yaml

from napari_unet.core.header import ModelHeader
from napari_unet.errors import ConfigError, ModelFileError
from napari_unet.model.file import refuse
from napari_unet.model.strict_json import excerpt

if TYPE_CHECKING:
    import os

DESCRIPTION_NAME = "rdf.yaml"
"""Name of the description in a package."""

WEIGHTS_NAME = "weights.pt"
"""Name of the state dict in a package of ours."""

MAX_DESCRIPTION_BYTES = 2**18
"""That of a bundled model takes about 20 kB."""

MAX_ALIASES = 64
"""References inside a description; ours have some for sizes that axes share."""

MAX_ENTRIES = 64
"""Files in a package; ours have 7."""

MAX_EXPANSION = 20
"""How many times larger than the package its weights may be: weights hardly shrink."""


class _PlainLoader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """YAML with few aliases, none inside what one stands for: else a few lines expand for ever."""

    def __init__(self, stream: bytes) -> None:
        super().__init__(stream)
        self._aliases = 0
        self._anchored = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        is_alias = self.check_event(yaml.AliasEvent)
        self._aliases += is_alias
        if is_alias and (self._anchored or self._aliases > MAX_ALIASES):
            raise yaml.YAMLError("its aliases could stand for a text without end")
        has_anchor = not is_alias and self.peek_event().anchor is not None
        self._anchored += has_anchor
        node: yaml.Node | None = super().compose_node(parent, index)
        self._anchored -= has_anchor
        return node


def read_package(data: bytes, path: str | os.PathLike[str]) -> tuple[ModelHeader, bytes]:
    """Return the header and the state dict of a package that `bioimageio_package` made.

    Parameters
    ----------
    data : bytes
        The whole package.
    path : path-like
        Its name, for messages.

    Returns
    -------
    header : ModelHeader
        As the model's own file has it.
    state : bytes
        A file of `torch.save`, unopened.

    Raises
    ------
    ModelFileError
        If it is damaged, hostile, or not a package of ours.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if len(archive.infolist()) > MAX_ENTRIES:
                refuse(path, f"it is an archive of more than {MAX_ENTRIES} files; is it a package?")
            text = _read(archive, DESCRIPTION_NAME, MAX_DESCRIPTION_BYTES, path)
            header = _header(text, path)
            state = _read(archive, WEIGHTS_NAME, MAX_EXPANSION * len(data), path)
    except ModelFileError:
        raise
    # A hostile archive can make zipfile raise almost anything.
    except Exception as error:
        raise ModelFileError(
            f"model file {str(path)!r}: it is a damaged archive ({excerpt(str(error))}); fetch it "
            "again"
        ) from error
    return header, state


def _read(archive: zipfile.ZipFile, name: str, limit: int, path: str | os.PathLike[str]) -> bytes:
    """Return a file of an archive, never more than `limit` bytes whatever it claims."""
    if name not in archive.namelist():
        refuse(path, f"it holds no {name}, so it is no package that napari-unet wrote")
    with archive.open(name) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        refuse(path, f"{name} in it has more than {limit:,} bytes; it was not opened")
    return content


def _header(text: bytes, path: str | os.PathLike[str]) -> ModelHeader:
    try:
        # A safe loader: it makes nothing but plain values.
        description = yaml.load(text, Loader=_PlainLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        refuse(path, f"{DESCRIPTION_NAME} in it cannot be read ({excerpt(str(error))})")
    values = description
    for key in ("config", "napari_unet", "header"):
        values = values.get(key) if isinstance(values, dict) else None
    if not isinstance(values, dict):
        refuse(
            path,
            "its network is another program's, which is not run; only packages that napari-unet "
            "exported can be imported",
        )
    try:
        return ModelHeader.parse(values, source=str(path))
    except ConfigError as error:
        refuse(path, f"its header does not hold: {error}")
