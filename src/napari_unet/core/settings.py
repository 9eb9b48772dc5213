"""The base of everything a person can set: frozen, checked, and closed to typing errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

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
            problems = "; ".join(
                f"{'.'.join(str(part) for part in item['loc']) or 'settings'}: {item['msg']}"
                + (f" (got {item['input']!r})" if item["type"] != "missing" else "")
                for item in error.errors(include_url=False)
            )
            raise ConfigError(f"{source}: {problems}") from error
