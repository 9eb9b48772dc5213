"""The page on verify names what the program has: no more, no less."""

from __future__ import annotations

import typing

from tests.docs.test_reference import check_rows, code_words, table
from typer.main import get_command

from napari_unet.cli.main import app
from napari_unet.core.events import JobEvent
from napari_unet.core.verify_events import VerifyEvent

PAGE = "verify.md"


def test_every_option_is_described() -> None:
    group = get_command(app)
    context = group.make_context("napari-unet", [], resilient_parsing=True)
    command = group.get_command(context, "verify")  # type: ignore[attr-defined]
    options = {
        option
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--") and option != "--help"
    }
    assert {key.strip("`") for key in table(PAGE, "## Options")} == options


def test_every_event_is_described_with_its_fields() -> None:
    common = typing.get_args(JobEvent)
    own = [event for event in typing.get_args(VerifyEvent) if event not in common]
    check_rows(own, table(PAGE, "## Events of a verification"))


def test_the_values_of_the_state_are_described() -> None:
    row = table(PAGE, "## Events of a verification")["`verified`"]
    assert {"complete", "incomplete"} <= code_words([row])
