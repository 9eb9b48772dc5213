"""A model's card as the panel shows it: what `napari-unet models show` prints, with colors."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from napari_unet.app.model_card import card_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.app.models import DamagedModel, ModelEntry, ModelInventory

SQUARE = "\N{BLACK SQUARE}"
"""In a class's color, before its name."""

TECHNICAL = frozenset({"file", "sha256", "network", "recipe", "with"})
"""Lines that come last: most people never need them."""


def card_html(entry: ModelEntry, inventory: ModelInventory) -> str:
    """Return a model's card as rich text; its file's words are shown, never interpreted.

    Parameters
    ----------
    entry : ModelEntry
        The model.
    inventory : ModelInventory
        The models among which its ancestors are looked for.
    """
    lines = [f"<b>{escape(entry.name)}</b> ({entry.origin})", escape(entry.header.description)]
    technical: list[str] = []
    place = lines
    for title, text in card_lines(entry, inventory):
        # A line without a title goes on with the one before, as scores do.
        if title:
            place = technical if title in TECHNICAL else lines
        words = " &nbsp; ".join(_class_words(entry)) if title == "classes" else escape(text)
        if text:
            place.append(f"<b>{title}</b> {words}" if title else f"&nbsp; {words}")
    lines += technical
    return "<br>".join(line for line in lines if line)


def damaged_html(item: DamagedModel) -> str:
    """Return what is wrong with a file among the models, as rich text."""
    reason = escape(item.reason)
    return f"<b>{escape(item.name)}</b> ({item.origin}, damaged)<br>{reason}"


def _class_words(entry: ModelEntry) -> Iterator[str]:
    for label, info in entry.header.labels().items():
        color = f"<span style='color:{info.color}'>{SQUARE}</span>"
        yield f"{color}&nbsp;{label}={escape(info.name)}"
