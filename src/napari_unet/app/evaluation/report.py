"""The report of an evaluation as one page of HTML that needs nothing else."""

from __future__ import annotations

import datetime
from html import escape
from typing import TYPE_CHECKING

from napari_unet.app.evaluation import page as html
from napari_unet.app.evaluation.crops import choose_best, choose_worst
from napari_unet.app.evaluation.figures import (
    overlap_figure,
    precision_recall_figure,
    reliability_figure,
    roc_figure,
    spread_figure,
    threshold_figure,
)
from napari_unet.app.evaluation.overlays import CONFUSED, FALSE, MISSED, RIGHT, draw_overlays
from napari_unet.app.evaluation.published import sources
from napari_unet.app.evaluation.scores import pooled_probabilities
from napari_unet.app.evaluation.tables import image_scores
from napari_unet.app.evaluation.words import FAMILIES, METRICS, interval_text, name_of, number
from napari_unet.metrics.classes import Confusion

if TYPE_CHECKING:
    from napari_unet.app.evaluation.overlays import Overlay
    from napari_unet.app.evaluation.published_values import PaperRow
    from napari_unet.app.evaluation.result import Evaluation, Run

CROPS = 3
"""Crops shown of each kind."""

SHOWN_ROWS = 25
"""Images in the table that are seen at once; all are a click away."""

_CARDS = (
    "objects.mean_ap",
    "objects.f1.0.5",
    "slices.adapted_rand_error",
    "volume.adapted_rand_error",
    "classes.mean_f1",
    "boundary.f1",
    "classes.accuracy",
)
_MARKS = {
    "same": '<span class="yes">same</span>',
    "similar": '<span class="no">similar</span>',
    "none": '<span class="no">none</span>',
}


def as_html(evaluation: Evaluation) -> str:
    """Return the report.

    Raises
    ------
    UNetError
        If an image of a crop cannot be read any more.
    """
    run = evaluation.run
    title = f"Evaluation of {run.label}"
    return html.page(
        title,
        (
            *_header(evaluation, title),
            html.section("Scores", _families(run)),
            html.section("Predictions compared", *_comparison(evaluation)),
            html.section("Published values", *_published(evaluation.published)),
            html.section("Confusion of classes", _confusion(run)),
            html.section("Curves", _curves(evaluation)),
            html.section("Images", *_images(evaluation)),
            html.section("Worst and best crops", *_crops(evaluation)),
            html.section("How it was measured", *_conditions(evaluation)),
        ),
    )


def _header(evaluation: Evaluation, title: str) -> list[str]:
    run, first = evaluation.run, evaluation.run.measured[0]
    counted = sum(m.counted for m in run.measured)
    images = f"{len(run.measured)} images" if len(run.measured) > 1 else f"image {first.name}"
    made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    keys = [key for key in _CARDS if run.score(key) is not None]
    scores = [score for key in keys[:5] if (score := run.score(key)) is not None]
    return [
        f"<h1>{escape(title)}</h1>",
        html.paragraph(f"{images}, {counted:,} voxels that count · {made}", soft=True),
        '<div class="cards">' + "".join(html.card(score) for score in scores) + "</div>",
    ]


def _families(run: Run) -> str:
    tables = [
        html.score_table([s for s in run.scores if s.family == family.name])
        for family in run.families
    ]
    objects = run.objects
    if objects is not None:
        counts = {
            "true objects": objects.true,
            "predicted objects": objects.predicted,
            "matched at IoU 0.5": objects.matched[0],
            "true objects split": objects.split,
            "predicted objects merged": objects.merged,
        }
        rows = [(escape(name), f"{count:,}") for name, count in counts.items()]
        tables.append(html.table(("Counts of objects", ""), rows, numbers=(1,)))
    inside = "".join(f"<div>{each}</div>" for each in tables)
    return f'<div class="families">{inside}</div>'


def _comparison(evaluation: Evaluation) -> list[str]:
    found = evaluation.comparison
    if found is None:
        return []
    shown = [key for key in _CARDS if evaluation.run.score(key) is not None]
    rows = []
    for place, index in enumerate(found.ranking, start=1):
        run = evaluation.runs[index]
        cells = [str(place), escape(run.label)]
        for key in shown:
            score = run.score(key)
            cells.append(number(score.interval.value if score else None))
        rows.append(cells)
    heads = [s for key in shown if (s := evaluation.run.score(key)) is not None]
    names = [
        f"{name_of(score)} ({FAMILIES[score.family].split(',')[0].lower()})" for score in heads
    ]
    parts = [
        html.paragraph(f"Ranked by {names[shown.index(found.key)] if found.key else 'nothing'}."),
        html.table(("", "prediction", *names), rows, numbers=range(2, 2 + len(names))),
    ]
    for run, scores in zip(evaluation.runs[1:], found.differences, strict=True):
        lines = [
            (
                escape(name_of(s)),
                escape(FAMILIES[s.family]),
                number(s.interval.value),
                escape(interval_text(s.interval)),
                _verdict(s.interval.low, s.interval.high, lower=s.better == "lower"),
            )
            for s in scores
            if s.key in shown
        ]
        head = ("difference", "", "value", "95 % interval", "")
        parts.append(f"<h3>{escape(run.label)} minus {escape(evaluation.run.label)}</h3>")
        parts.append(html.table(head, lines, numbers=(2, 3)))
    return parts


def _verdict(low: float | None, high: float | None, *, lower: bool) -> str:
    if low is None or high is None:
        return "no interval"
    if low <= 0 <= high:
        return "no difference shown"
    return '<span class="yes">better</span>' if (high < 0) == lower else (
        '<span class="no">worse</span>'
    )  # fmt: skip


def _published(rows: tuple[PaperRow, ...]) -> list[str]:
    if not rows:
        return []
    numbers = sources(rows)
    lines = [
        (
            escape(row.published.measure),
            escape(row.published.who) + f" [{numbers[row.published.source]}]",
            f"{row.published.value:.6f}".rstrip("0"),
            number(row.measured),
            _MARKS[row.measure],
            escape(row.split),
            escape(row.note),
        )
        for row in rows
    ]
    head = ("measure", "published by", "published", "here", "measure is", "images are", "note")
    listed = "".join(f"<li>[{number}] {escape(source)}</li>" for source, number in numbers.items())
    return [
        html.paragraph(
            "Values of other images show the order of magnitude, not who is better.", soft=True
        ),
        html.table(head, lines, numbers=(2, 3)),
        f'<ul class="soft">{listed}</ul>',
    ]


def _confusion(run: Run) -> str:
    tables = [m.classes for m in run.measured if m.classes is not None]
    if not tables:
        return ""
    total, names = Confusion.total(tables), run.measured[0].class_names
    unpredicted = bool(sum(total.unpredicted))
    heads = [*names, "no prediction"] if unpredicted else list(names)
    rows = []
    for name, counts, true in zip(names, total.counts, total.true, strict=True):
        cells = []
        for count in counts[: len(heads)]:
            share = count / true if true else 0.0
            cells.append(
                f'<td style="background: rgba(var(--cell), {0.75 * share:.3f})">{share:.2%}'
                f"<small>{count:,}</small></td>"
            )
        rows.append(f"<tr><th>{escape(name)}</th>{''.join(cells)}</tr>")
    first = "".join(f"<th>{escape(name)}</th>" for name in heads)
    return (
        html.paragraph("Rows: true class. Columns: predicted class. Shares are of the row.")
        + '<div class="scroll"><table class="matrix"><thead><tr><th></th>'
        + f"{first}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _curves(evaluation: Evaluation) -> str:
    run = evaluation.run
    parts = []
    if all(m.probabilities for m in run.measured):
        counts, names = pooled_probabilities(run.measured), run.measured[0].class_names
        each = counts[:-1]
        parts += [
            html.figure(roc_figure(names, each), "ROC of each class against the others."),
            html.figure(precision_recall_figure(names, each), "Precision and recall."),
            html.figure(threshold_figure(names, each), "F1 against the threshold."),
            html.figure(
                reliability_figure(names, counts),
                "Reliability: on the diagonal, probabilities mean what they say.",
            ),
        ]
    found = [(r.label, score) for r in evaluation.runs if (score := r.objects) is not None]
    if found:
        caption = "Objects found, against the overlap that counts as found."
        parts.append(html.figure(overlap_figure(found), caption))
    inside = "".join(part for part in parts if part)
    return f'<div class="figures">{inside}</div>' if inside else ""


def _images(evaluation: Evaluation) -> list[str]:
    run = evaluation.run
    if len(run.measured) < 2:
        return []
    tables = [image_scores(m) for m in run.measured]
    keys = [key for key in _image_keys(evaluation) if key in tables[0]]
    first = keys[0]
    lower = next(s.better == "lower" for s in run.scores if (s.family, s.metric, s.of) == first)
    order = sorted(range(len(tables)), key=lambda k: _badness(tables[k][first], lower=lower))
    rows = [
        (
            escape(run.measured[k].name),
            "&#8239;&times;&#8239;".join(str(n) for n in run.measured[k].shape if n > 1),
            *(number(tables[k][key]) for key in keys),
        )
        for k in order
    ]
    heads = [
        METRICS[metric].partition(" (")[0].partition(", IoU")[0]
        + (f", {of}" if of else "")
        + f" ({_family(family)})"
        for family, metric, of in keys
    ]
    spread = []
    for each in evaluation.runs:
        values = [image_scores(m).get(first) for m in each.measured]
        spread.append((each.label, [v for v in values if v is not None]))
    head, numbers = ("image", "shape", *heads), range(2, 2 + len(heads))
    shown = html.table(head, rows[:SHOWN_ROWS], numbers=numbers)
    rest = ""
    if len(rows) > SHOWN_ROWS:
        more = html.table(head, rows[SHOWN_ROWS:], numbers=numbers)
        rest = f"<details><summary>{len(rows) - SHOWN_ROWS} more</summary>{more}</details>"
    drawn = spread_figure(heads[0], spread) if all(values for _, values in spread) else ""
    return [
        html.figure(drawn, "Each point is an image; below, the worst are listed first.", wide=True),
        shown,
        rest,
    ]


def _badness(value: float | None, *, lower: bool) -> tuple[bool, float]:
    """Return what sorts scores: the worst first, undefined ones last."""
    if value is None:
        return True, 0.0
    return False, -value if lower else value


def _family(name: str) -> str:
    return FAMILIES[name].partition(",")[0].lower()


def _image_keys(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """Return the scores in the table of images, the one that sorts it first."""
    keys = [
        ("objects", "mean_ap", ""),
        ("objects", "f1", "0.5"),
        ("objects", "seg", ""),
        ("slices", "adapted_rand_error", ""),
        ("slices", "voi", ""),
        ("classes", "mean_f1", ""),
    ]
    keys += [("classes", "f1", name) for name in evaluation.run.measured[0].class_names]
    return [*keys, ("boundary", "f1", "")]


def _crops(evaluation: Evaluation) -> list[str]:
    run, job = evaluation.run, evaluation.job
    worst = choose_worst([m.worst for m in run.measured], CROPS)
    best = choose_best([m.best for m in run.measured], CROPS, worst)
    if not worst:
        return []
    holds_objects = run.objects is not None
    measure = "F1 of the objects in it" if holds_objects else "share of its pixels that are right"
    keys = (
        (MISSED, "missed (false negative)"),
        (FALSE, "found where nothing is (false positive)"),
        (CONFUSED, "both: found and missed" if holds_objects else "other classes confused"),
        (RIGHT, "outline of what was found"),
    )
    legend = "".join(
        f'<span class="key"><i style="background: rgb{color}"></i>{escape(text)}</span>'
        for color, text in keys
    )
    note = "" if holds_objects else " Mistakes are of the class that is rarest in the crop."
    return [
        html.paragraph(f"Score of a crop: {measure}.{note}", soft=True),
        f"<p>{legend}</p>",
        "<h3>Worst</h3>",
        _pictures(draw_overlays(job, run.pairs.pairs, worst)),
        "<h3>Best</h3>" if best else "",
        _pictures(draw_overlays(job, run.pairs.pairs, best)),
    ]


def _pictures(overlays: list[Overlay]) -> str:
    figures = []
    for each in overlays:
        z, y, x = each.crop.box.start
        where = f"{each.name}, z {z}, y {y}, x {x}"
        figures.append(
            f'<figure><img src="{each.png}" alt="{escape(where)}"><figcaption><b>'
            f"{number(each.crop.score)}</b> {escape(where)}</figcaption></figure>"
        )
    return f'<div class="crops">{"".join(figures)}</div>' if figures else ""


def _conditions(evaluation: Evaluation) -> list[str]:
    job = evaluation.job
    given = {
        key: value
        for key, value in job.model_dump(mode="json", exclude_defaults=True).items()
        if key not in {"output", "overwrite"}
    }
    rows = [(escape(key), f"<code>{escape(str(value))}</code>") for key, value in given.items()]
    notes = "".join(f"<li>{escape(note)}</li>" for note in evaluation.notes)
    return [
        f"<ul>{notes}</ul>" if notes else "",
        html.paragraph(
            f"95 % intervals: bootstrap over {evaluation.units}, {job.resamples} resamples; they "
            "say how far the score would move with other images of the same kind, and nothing "
            f"about other kinds. Boundaries: tolerance {job.tolerance}."
        ),
        html.table(("setting", ""), rows, numbers=()),
    ]
