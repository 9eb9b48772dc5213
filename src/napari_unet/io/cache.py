"""A bounded memory of decoded pieces, shared by the threads that read one image."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import numpy.typing as npt

CACHE_BYTES = 128 * 2**20
"""Decoded bytes kept per image: strips or chunks that the next tile needs again."""


class PieceCache:
    """Least recently used decoded pieces, of at most `max_bytes` in all.

    Parameters
    ----------
    max_bytes : int
        Bound of the kept pieces. The newest one is kept in any case: a plane in one strip, which
        every tile of it needs, may be larger.
    """

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._pieces: OrderedDict[Hashable, npt.NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, decode: Callable[[], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """Return the piece of `key`, decoding it if it is not kept; do not write into it."""
        kept = self.peek(key)
        if kept is not None:
            return kept
        # Outside the lock: two threads may decode the same piece, none waits for another's.
        piece = decode()
        with self._lock:
            if key not in self._pieces:
                self._pieces[key] = piece
                self._bytes += piece.nbytes
            while self._bytes > self._max_bytes and len(self._pieces) > 1:
                self._bytes -= self._pieces.popitem(last=False)[1].nbytes
        return piece

    def peek(self, key: Hashable) -> npt.NDArray[Any] | None:
        """Return the piece of `key` if it is kept; do not write into it."""
        with self._lock:
            if key not in self._pieces:
                return None
            self._pieces.move_to_end(key)
            return self._pieces[key]

    def clear(self) -> None:
        """Forget all pieces."""
        with self._lock:
            self._pieces.clear()
            self._bytes = 0
