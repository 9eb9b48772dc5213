"""A key that shows the labels before for as long as it is held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = "W"
"""As in "was". napari 0.9 uses B, which would be as good a word, to preserve labels."""


class BeforeKey:
    """Binds the key in a viewer, from `bind` to `unbind`.

    Text fields take letters for themselves, so typing there never comes here.

    Parameters
    ----------
    viewer : napari.Viewer
        Whose canvas hears the key.
    show_before : callable
        Is told True when the key goes down, and False when it comes up.
    """

    def __init__(self, viewer: Any, show_before: Callable[[bool], None]) -> None:
        self._viewer, self._show_before = viewer, show_before
        self._bound: Any = None

    @property
    def is_bound(self) -> bool:
        """Whether the key does anything."""
        return self._bound is not None

    def bind(self) -> None:
        """Take the key, unless the user has given it to something else."""
        if self._bound is not None:
            return

        def hold(_: Any) -> Iterator[None]:
            self._show_before(True)
            # napari goes on from here when the key is released.
            yield
            self._show_before(False)

        try:
            self._viewer.bind_key(KEY, hold)
        except ValueError:
            return
        self._bound = hold

    def unbind(self) -> None:
        """Give the key back."""
        bound, self._bound = self._bound, None
        if bound is None:
            return
        found = self._viewer.bind_key(KEY, None)
        if found is not None and found is not bound:
            # Somebody else has taken it meanwhile.
            self._viewer.bind_key(KEY, found)
        self._show_before(False)
