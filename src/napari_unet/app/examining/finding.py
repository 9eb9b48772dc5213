"""What an examination finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["ok", "note", "problem"]
"""As it should be; good to know; something does not work or gives wrong results."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One matter and how it stands.

    Parameters
    ----------
    name : str
        The matter; the same in every run.
    state : {"ok", "note", "problem"}
        How it stands.
    text : str
        What was found, in a sentence.
    remedy : str or None
        What to do about it.
    values : dict
        The figures behind the text, ready for JSON.
    """

    name: str
    state: State
    text: str
    remedy: str | None = None
    values: dict[str, Any] = field(default_factory=dict)
