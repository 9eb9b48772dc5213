"""One hostile file: how to make it, how to open it, and what may come of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CANARY = "canary"
"""Folder that code inside a file would make beside it."""


@dataclass(frozen=True)
class Case:
    """A file that is damaged or lies.

    Parameters
    ----------
    kind : str
        Group in the table: "TIFF", "zarr", ...
    name : str
        What is wrong with it.
    make : callable
        Writes it into an empty folder, and returns the path to open.
    opener : str
        Key of `tests.hostile.openers.OPENERS`.
    legal : bool
        It may also be read; what is read is then correct, or of no size that matters.
    worker : bool
        A process of its own opens it, which imports PyTorch first; the bound of a second is not
        for it.
    """

    kind: str
    name: str
    make: Callable[[Path], Path]
    opener: str
    legal: bool = False
    worker: bool = False

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


class Collector:
    """Makes cases of functions, by decorators."""

    def __init__(self, kind: str, opener: str) -> None:
        self._kind = kind
        self._opener = opener
        self.cases: list[Case] = []

    def __call__(self, name: str, **options: Any) -> Callable[[Any], Any]:
        """Return a decorator that makes a case of a function."""

        def keep(make: Any) -> Any:
            self.add(name, make, **options)
            return make

        return keep

    def add(self, name: str, make: Callable[[Path], Path], **options: Any) -> None:
        """Add a case."""
        self.cases.append(Case(self._kind, name, make, **{"opener": self._opener} | options))


class RunsCode:
    """An object whose unpickling makes the canary."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / CANARY)

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.mkdir, (self.path,)
