"""``napari-unet doctor``: whether this machine is fit for the work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_unet.cli.exit_codes import DONE, FAILED

if TYPE_CHECKING:
    from napari_unet.app.examining.finding import Finding

COLORS = {"ok": typer.colors.GREEN, "note": typer.colors.YELLOW, "problem": typer.colors.RED}


def doctor(
    output: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where outputs are to go.")
    ] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Examine this machine, and say why a GPU is not used.

    Exits with 3 if there is a problem. A file of 64 MB is written into FOLDER and removed.
    """
    from napari_unet.app.doctor import examine, to_json

    findings = []
    for finding in examine(output):
        findings.append(finding)
        if not as_json:
            _show(finding)
    report = to_json(findings)
    counts = report["counts"]
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        print(f"{counts['problem']} problems, {counts['note']} notes")
    raise typer.Exit(FAILED if counts["problem"] else DONE)


def _show(finding: Finding) -> None:
    state = typer.style(f"{finding.state:8}", fg=COLORS[finding.state])
    # Colors are left out where the output is no terminal.
    typer.echo(f"{state}{finding.name:10}{finding.text}")
    if finding.remedy is not None:
        typer.echo(f"{'':18}-> {finding.remedy}")
