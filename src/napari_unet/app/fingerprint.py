"""What decides a result, compared: nothing made with other options is taken for the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield what differs between two fingerprints, in words.

    Examples
    --------
    >>> list(differences({"input": {"axes": "yx"}, "level": 0}, {"input": {"axes": "xy"}}))
    ['input axes: yx -> xy', 'level: 0 -> None']
    """
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            for part in differences(old, new):
                yield f"{key} {part}"
        elif old != new:
            yield f"{key}: {old} -> {new}"
