"""Pieces of HTML that the report is put together from; every text in them is escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from napari_unet.app.evaluation.style import CSS
from napari_unet.app.evaluation.words import FAMILIES, interval_text, name_of, number

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_unet.app.evaluation.scores import Score
    from napari_unet.metrics.intervals import Interval


def page(title: str, body: Iterable[str]) -> str:
    """Return a whole page: no script, and nothing that is fetched."""
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            # An icon of no bytes keeps browsers from asking a server for one.
            '<link rel="icon" href="data:,">',
            f"<title>{escape(title)}</title>",
            f"<style>{CSS}</style>",
            "</head>",
            "<body>",
            *body,
            "</body>",
            "</html>",
            "",
        )
    )


def section(title: str, *parts: str) -> str:
    """Return a section; empty if nothing is in it."""
    inside = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{escape(title)}</h2>\n{inside}\n</section>" if inside else ""


def paragraph(text: str, *, soft: bool = False) -> str:
    """Return a paragraph of plain text."""
    return f'<p class="soft">{escape(text)}</p>' if soft else f"<p>{escape(text)}</p>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int]) -> str:
    """Return a table of ready cells; the columns in `numbers` stand at the right."""

    def cell(tag: str, column: int, text: str) -> str:
        kind = ' class="n"' if column in numbers else ""
        return f"<{tag}{kind}>{text}</{tag}>"

    first = "".join(cell("th", k, escape(text)) for k, text in enumerate(head))
    lines = [
        "<tr>" + "".join(cell("td", k, text) for k, text in enumerate(row)) + "</tr>"
        for row in rows
    ]
    return (
        f'<div class="scroll"><table><thead><tr>{first}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def card(score: Score) -> str:
    """Return a headline score as a card."""
    family = FAMILIES.get(score.family, score.family)
    span = interval_text(score.interval)
    return (
        f'<div class="card"><span>{escape(name_of(score))}</span><b>{number(score.interval.value)}'
        f'</b><span class="soft">{escape(family)}'
        + (f"<br>95 %: {escape(span)}" if span else "")
        + "</span></div>"
    )


def score_table(scores: Sequence[Score]) -> str:
    """Return the scores of one family with their intervals, drawn and written."""
    rows = []
    for score in scores:
        each = score.interval
        rows.append(
            f'<tr><td class="wrap">{escape(name_of(score))}</td>'
            f'<td class="n">{number(each.value)}</td>'
            f'<td class="n soft">{escape(interval_text(each))}</td>'
            f'<td class="bar">{"" if "voi" in score.metric else interval_bar(each)}</td></tr>'
        )
    title = FAMILIES.get(scores[0].family, scores[0].family)
    return (
        f'<table><caption>{escape(title)}</caption><thead><tr><th></th><th class="n">value</th>'
        f'<th class="n">95 % interval</th><th></th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def interval_bar(interval: Interval) -> str:
    """Return a value between 0 and 1 and its interval as a small drawing; else nothing."""
    if interval.value is None or not 0 <= interval.value <= 1:
        return ""
    place = 100 * interval.value
    span = ""
    if interval.low is not None and interval.high is not None:
        low, high = (100 * min(max(v, 0), 1) for v in (interval.low, interval.high))
        span = (
            f'<rect x="{low:.2f}" y="4" width="{max(high - low, 0.5):.2f}" height="6" rx="1" '
            'fill="var(--accent)" opacity="0.4"/>'
        )
    return (
        '<svg viewBox="0 0 100 14" preserveAspectRatio="none" aria-hidden="true">'
        '<rect x="0" y="6.5" width="100" height="1" fill="var(--faint)"/>'
        f'{span}<rect x="{max(place - 0.5, 0):.2f}" y="2" width="1" height="10" '
        'fill="var(--accent)"/></svg>'
    )


def figure(svg: str, caption: str, *, wide: bool = False) -> str:
    """Return a figure with a caption; empty without one."""
    if not svg:
        return ""
    kind = ' class="wide"' if wide else ""
    return f"<figure{kind}>{svg}<figcaption>{escape(caption)}</figcaption></figure>"
