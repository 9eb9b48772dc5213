"""The folder of a report: written whole, and never over another one silently."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.app.evaluation.report import as_html
from napari_unet.app.evaluation.tables import as_csv, as_document
from napari_unet.errors import OutputExistsError
from napari_unet.files import write_atomically, write_json_atomically
from napari_unet.io.output_state import check_writable, storage_errors

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.app.evaluation.result import Evaluation

REPORT, JSON, CSV = "report.html", "metrics.json", "metrics.csv"
"""Files of a report."""


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Make sure that a report can be written, before anything is measured.

    Raises
    ------
    OutputExistsError
        If there is a report already, and it is not to be replaced.
    StorageError
        If the folder cannot be written.
    """
    there = [name for name in (REPORT, JSON, CSV) if (folder / name).exists()]
    if there and not overwrite:
        raise OutputExistsError(
            f"{folder} holds {', '.join(there)} already; choose another --output, or say "
            "--overwrite to replace them"
        )
    check_writable(folder)


def write_report(evaluation: Evaluation, folder: Path) -> None:
    """Write the report of an evaluation.

    Raises
    ------
    StorageError
        If the folder cannot be written.
    UNetError
        If an image of a crop cannot be read any more.
    """
    page = as_html(evaluation)
    with storage_errors(f"{folder}: the report cannot be written"):
        write_json_atomically(folder / JSON, as_document(evaluation))
        write_atomically(folder / CSV, as_csv(evaluation).encode())
        write_atomically(folder / REPORT, page.encode())
