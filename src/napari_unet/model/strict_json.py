"""JSON from files that nobody vouches for: bounded nesting and strings, no repeated names."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any, NoReturn

MAX_STRING = 2**16
"""Longest string, in characters; a model's own JSON is one such string."""

MAX_NESTING = 16
"""Deepest nesting of brackets; that of a model file is 4."""

# Possessive, and a string may lack its closing quote: time stays linear in a hostile text.
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NO_BRACKETS = re.compile(r"[^\[\]{}]+")


def parse_strict_json(data: bytes | str) -> dict[str, Any]:
    """Return the object that a JSON text holds, in time linear in its length.

    Raises
    ------
    ValueError
        If the text is not UTF-8 or not one JSON object, a name occurs twice in an object, a string
        is longer than `MAX_STRING` or not Unicode text, brackets are nested deeper than
        `MAX_NESTING`, or a number is NaN or infinite.
    """
    text = data if isinstance(data, str) else data.decode("utf-8")
    brackets = _NO_BRACKETS.sub("", _STRING.sub("", text))
    depths = itertools.accumulate(1 if mark in "[{" else -1 for mark in brackets)
    if max(depths, default=0) > MAX_NESTING:
        raise ValueError(f"brackets are nested deeper than {MAX_NESTING}")
    value = json.loads(text, object_pairs_hook=_strict_object, parse_constant=_refuse_constant)
    if not isinstance(value, dict):
        raise ValueError(f"an object was expected, not {excerpt(value)}")
    return value


def excerpt(value: object, length: int = 80) -> str:
    """Return a printable form of something read from a file, of bounded length."""
    if isinstance(value, str):
        value = value[: length + 1]
    text = ascii(value)
    return text if len(text) <= length + 2 else text[:length] + "..."


def _strict_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the name {excerpt(key)} occurs twice")
        for item in (key, *value) if isinstance(value, list) else (key, value):
            if isinstance(item, str):
                _check_text(item)
        result[key] = value
    return result


def _check_text(text: str) -> None:
    if len(text) > MAX_STRING:
        raise ValueError(f"a string has {len(text):,} characters; at most {MAX_STRING:,} may be")
    # Half a surrogate pair is legal JSON and not legal text; printing it would raise much later.
    text.encode("utf-8")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
