"""An image, a model and an annotation to draft on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.app.drafting.drafting import NAMES, WHOLE, Drafting

from napari_unet.core.classes import ClassInfo
from napari_unet.core.draft_job import DraftJob
from napari_unet.io.annotation_store import AnnotationStore, create_annotation_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> AnnotationStore:
    """An empty annotation of the small stack."""
    colors = ("#4c72b0", "#dd8452", "#55a868")
    classes = [ClassInfo(name=f"class {k + 1}", color=color) for k, color in enumerate(colors)]
    return create_annotation_store(tmp_path / "strokes.zarr", WHOLE.shape, classes)


@pytest.fixture
def job(tmp_path: Path, stack_path: str, model: str, store: AnnotationStore) -> DraftJob:
    """Drafts of the small stack with the small model."""
    folder = tmp_path / "drafts"
    folder.mkdir()
    return DraftJob(
        input=stack_path,
        model=model,
        classes=NAMES,
        annotation=str(store.path),
        folder=str(folder),
        device="cpu",
        threads=1,
    )


@pytest.fixture
def drafting(job: DraftJob) -> Iterator[Drafting]:
    """A session on the small stack."""
    session = Drafting(job)
    yield session
    session.close()
