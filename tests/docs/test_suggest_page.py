"""The page on suggest names what the program has: no more, no less."""

from __future__ import annotations

import typing
from dataclasses import fields

from tests.docs.test_reference import check_rows, code_words, table
from typer.main import get_command

from napari_unet.app.suggesting.doubt import WORDS
from napari_unet.cli.main import app
from napari_unet.core.events import JobEvent
from napari_unet.core.suggest_events import SuggestedPlace, SuggestEvent
from napari_unet.core.suggest_job import Ranking, SuggestJob

PAGE = "suggest.md"


def test_every_option_is_described_with_its_default() -> None:
    group = get_command(app)
    context = group.make_context("napari-unet", [], resilient_parsing=True)
    command = group.get_command(context, "suggest")  # type: ignore[attr-defined]
    options = {
        option
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--") and option != "--help"
    }
    rows = table(PAGE, "## Options")
    assert {key.strip("`") for key in rows} == options
    for name in ("count", "edge", "windows", "seconds", "seed"):
        shown = rows[f"`--{name}`"].strip().rstrip("|").split("|")[-1].strip()
        assert float(shown) == SuggestJob.model_fields[name].default


def test_every_ranking_is_described() -> None:
    assert code_words(table(PAGE, "## Rankings")) == set(typing.get_args(Ranking))


def test_every_event_and_field_of_a_place_is_described() -> None:
    common = typing.get_args(JobEvent)
    own = [event for event in typing.get_args(SuggestEvent) if event not in common]
    check_rows(own, table(PAGE, "## Events of a search"))
    described = table(PAGE, "A place has these fields:")
    assert code_words(described) == {field.name for field in fields(SuggestedPlace)}


def test_the_limits_of_the_words_are_described() -> None:
    from tests.docs.test_reference import REFERENCE

    text = " ".join((REFERENCE / PAGE).read_text(encoding="utf-8").split())
    for limit, word in WORDS:
        assert f"elow {100 * limit:.0f} % it is called {word}" in text or (
            f"below {100 * limit:.0f} % {word}" in text
        )
