"""The base of everything a person can set: frozen, checked, and closed to typing errors."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails

MAX_PROBLEMS = 20
"""Bad values that a message lists; a hostile file may have a hundred thousand."""

_MAX_SHOWN = 200

T = TypeVar("T", bound="Settings")


class Settings(BaseModel):
    """Frozen settings; an unknown name is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def parse(cls: type[T], values: Mapping[str, Any], *, source: str) -> T:
        """Return checked settings.

        Parameters
        ----------
        values : mapping
            Names and values, as read from a file or a command line.
        source : str
            Where they come from, for the message.

        Raises
        ------
        ConfigError
            Listing every bad name and value, and what would be legal.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            found = error.errors(include_url=False)
            problems = [_in_words(item) for item in found[:MAX_PROBLEMS]]
            if len(found) > MAX_PROBLEMS:
                problems.append(f"and {len(found) - MAX_PROBLEMS:,} more")
            if any(item["type"] == "extra_forbidden" and len(item["loc"]) == 1 for item in found):
                problems.append(f"there are {', '.join(cls.model_fields)}")
            raise ConfigError(f"{source}: {'; '.join(problems)}") from error


def matching(pattern: str, words: str) -> AfterValidator:
    """Return a check of a text, whose message says in words what is legal.

    Parameters
    ----------
    pattern : str
        Regular expression for the whole text.
    words : str
        What it allows: "write ..." goes before it.
    """
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if compiled.fullmatch(text) is None:
            raise ValueError(f"write {words}")
        return text

    return AfterValidator(check)


def _in_words(item: ErrorDetails) -> str:
    """Return one thing that is wrong: where, what, and the value unless it is all there is."""
    place = _short(".".join(str(part) for part in item["loc"]))
    if item["type"] == "extra_forbidden":
        return f"there is no setting {place}"
    message = _short(item["msg"].removeprefix("Value error, "), 5 * _MAX_SHOWN)
    if not place:
        return message
    return f"{place}: {message}" + (
        f" (got {_short(repr(item['input']))})" if item["type"] != "missing" else ""
    )


def _short(text: str, length: int = _MAX_SHOWN) -> str:
    return text if len(text) <= length else text[:length] + "..."
