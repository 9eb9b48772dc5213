"""Worker processes that begin at once."""

from __future__ import annotations

import multiprocessing
import warnings
from multiprocessing import forkserver
from typing import TYPE_CHECKING

import dask
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

METHOD = "distributed.worker.multiprocessing-method"

IMPORTED = ["distributed", "torch", "napari_unet.app.segmenting.work_entry"]
"""What takes a worker seconds of processor time."""


@pytest.fixture(scope="session")
def imported_once() -> None:
    """Start the process whose forks are the workers."""
    from distributed.utils import get_mp_context

    with warnings.catch_warnings(), dask.config.set({METHOD: "forkserver"}):
        # distributed tries all that it may work with, to have it imported in its own way.
        warnings.simplefilter("ignore")
        get_mp_context()  # type: ignore[no-untyped-call]  # dask has no types
    multiprocessing.set_forkserver_preload(IMPORTED)
    forkserver.ensure_running()


@pytest.fixture
def quick_workers(imported_once: None) -> Iterator[None]:
    """Workers are forks of a process that has imported PyTorch; distributed tests itself so."""
    with dask.config.set({METHOD: "forkserver"}):
        yield
