"""The report: whole, true to the scores, and readable without a network."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from playwright.sync_api import sync_playwright
from tests.app.evaluation.conftest import blobs

from napari_unet.app.evaluation.crops import Crop, choose_best, choose_worst
from napari_unet.app.evaluation.overlays import FALSE, MISSED, draw_overlays
from napari_unet.app.evaluation.published import drive_split
from napari_unet.app.evaluation.tables import CSV_COLUMNS
from napari_unet.core.boxes import Box
from napari_unet.errors import OutputExistsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.app.evaluation.conftest import Measure

Files = dict[str, str]


@pytest.fixture
def nuclei(write: Callable[..., Path], tmp_path: Path, rng: np.random.Generator) -> dict[str, Any]:
    """Six images, predictions of them, worse predictions, and images to show."""
    for k in range(6):
        true = blobs(rng, (40, 50), 8)
        good, bad = true.copy(), true.copy()
        good[rng.random(true.shape) < 0.02] = 0
        bad[rng.random(true.shape) < 0.4] = 0
        for folder, array in (
            ("truth", true),
            ("good", good),
            ("bad", bad),
            ("images", (true * 20).astype(np.uint8)),
        ):
            write(f"{folder}/{k} <&>", array)
    return {
        "truth_kind": "instances",
        "images": str(tmp_path / "images"),
        "output": str(tmp_path / "out"),
    }


def test_the_page_opens_without_errors_and_asks_nobody(
    measure: Measure, nuclei: dict[str, Any], tmp_path: Path
) -> None:
    compare = [str(tmp_path / "bad")]
    measure(tmp_path / "good", tmp_path / "truth", compare=compare, **nuclei)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(color_scheme="dark")
        messages: list[str] = []
        requests: list[str] = []
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto((tmp_path / "out" / "report.html").as_uri())
        headings = page.locator("h2").all_inner_texts()
        widths = page.evaluate("[document.body.scrollWidth, window.innerWidth]")
        pictures = page.evaluate("[...document.images].map(i => i.naturalWidth)")
        drawn = page.locator("figure svg").count()
        browser.close()
    assert messages == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert headings == [
        "Scores",
        "Predictions compared",
        "Confusion of classes",
        "Curves",
        "Images",
        "Worst and best crops",
        "How it was measured",
    ]
    assert widths[0] <= widths[1], "nothing is cut off at the right"
    assert len(pictures) == 6
    assert min(pictures) >= 256
    assert drawn == 2


def test_nothing_in_the_page_is_fetched_or_run_or_left_unescaped(
    measure: Measure, nuclei: dict[str, Any], tmp_path: Path
) -> None:
    measure(tmp_path / "good", tmp_path / "truth", **nuclei)
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', text) == []
    assert re.findall(r"url\((?!#)[^)]*\)|@import", text) == []
    assert "0 <&>" not in text
    assert html.escape("0 <&>") in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_the_files_hold_the_scores_in_full(
    measure: Measure, nuclei: dict[str, Any], tmp_path: Path
) -> None:
    found = measure(
        tmp_path / "good", tmp_path / "truth", compare=[str(tmp_path / "bad")], **nuclei
    )
    document = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    scores = document["predictions"][0]["scores"]
    for score in found.run.scores:
        assert scores[score.key]["value"] == score.interval.value
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "metrics.csv").read_text())))
    assert tuple(rows[0]) == CSV_COLUMNS
    pooled = {
        (row["prediction"], row["family"], row["metric"], row["of"]): row["value"]
        for row in rows
        if not row["image"]
    }
    assert float(pooled["good", "objects", "f1", "0.5"]) == scores["objects.f1.0.5"]["value"]
    each = [row for row in rows if row["image"] and row["prediction"] == "good"]
    means = [float(row["value"]) for row in each if row["family"] == "objects"
             and row["metric"] == "mean_ap"]  # fmt: skip
    assert np.mean(means) == pytest.approx(scores["objects_mean.mean_ap"]["value"])
    assert document["comparison"]["ranking"] == ["good", "bad"]


def test_a_worse_prediction_is_ranked_lower_and_its_difference_excludes_0(
    measure: Measure, nuclei: dict[str, Any], tmp_path: Path
) -> None:
    del nuclei["output"]
    nuclei["resamples"] = 200
    found = measure(
        tmp_path / "bad", tmp_path / "truth", compare=[str(tmp_path / "good")], **nuclei
    )
    assert found.comparison.ranking == (1, 0)
    difference = next(s for s in found.comparison.differences[0] if s.key == "objects.mean_ap")
    assert difference.interval.low > 0
    same = measure(
        tmp_path / "good", tmp_path / "truth", compare=[str(tmp_path / "good")], **nuclei
    )
    each = {(s.interval.low, s.interval.high) for s in same.comparison.differences[0]}
    assert each <= {(0.0, 0.0), (None, None)}


def test_a_report_is_not_replaced_silently(
    measure: Measure, nuclei: dict[str, Any], tmp_path: Path
) -> None:
    paths = (tmp_path / "good", tmp_path / "truth")
    measure(*paths, **nuclei)
    before = (tmp_path / "out" / "metrics.csv").read_bytes()
    with pytest.raises(OutputExistsError, match="--overwrite"):
        measure(tmp_path / "bad", tmp_path / "truth", **nuclei)
    assert (tmp_path / "out" / "metrics.csv").read_bytes() == before
    measure(tmp_path / "bad", tmp_path / "truth", overwrite=True, **nuclei)
    assert (tmp_path / "out" / "metrics.csv").read_bytes() != before


def test_what_is_not_defined_is_null_and_never_nan(
    measure: Measure, write: Callable[..., Path], tmp_path: Path
) -> None:
    empty = np.zeros((20, 20), np.uint16)
    paths = (write("p", empty), write("t", empty))
    measure(*paths, truth_kind="instances", output=str(tmp_path / "out"))
    for name in ("metrics.json", "metrics.csv", "report.html"):
        text = (tmp_path / "out" / name).read_text(encoding="utf-8")
        assert not re.search(r"\bnan\b", text, flags=re.IGNORECASE), name
    document = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert document["predictions"][0]["scores"]["objects.seg"]["value"] is None


def test_mistakes_have_their_colors(
    measure: Measure, write: Callable[..., Path], tmp_path: Path
) -> None:
    import base64

    import imageio.v3 as iio

    true, predicted = np.zeros((2, 64, 64), np.uint16)
    true[2:20, 2:20], predicted[40:60, 40:60] = 1, 2
    images = write("images", np.zeros((64, 64), np.uint8))
    fields: dict[str, Any] = {"truth_kind": "instances", "images": str(images)}
    found = measure(write("p", predicted), write("t", true), **fields)
    crop = Crop(0.0, Box((0, 0, 0), (1, 64, 64)))
    (overlay,) = draw_overlays(found.job, found.run.pairs.pairs, [(0, crop)])
    picture = iio.imread(base64.b64decode(overlay.png.partition(",")[2]))
    zoom = picture.shape[0] // 64
    for place, color in ((10, MISSED), (50, FALSE), (30, (0, 0, 0))):
        shown = picture[place * zoom, place * zoom].astype(float)
        assert shown == pytest.approx(0.6 * np.array(color), abs=1)


def test_crops_are_of_different_images_before_they_are_of_one() -> None:
    def crop(score: float, x: int) -> Crop:
        return Crop(score, Box((0, 0, x), (1, 9, x + 9)))

    ranked = [[crop(0.1, 0), crop(0.2, 9)], [crop(0.5, 0)], [crop(0.3, 0)]]
    worst = choose_worst(ranked, 3)
    assert [(image, each.score) for image, each in worst] == [(0, 0.1), (2, 0.3), (1, 0.5)]
    best = choose_best([list(reversed(crops)) for crops in ranked], 3, worst)
    assert [(image, each.score) for image, each in best] == [(0, 0.2)]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([f"{k:02d}_test" for k in range(1, 21)], "by their names the test images"),
        ([f"{k}_manual1" for k in range(21, 41)], "of the training set"),
        (["01_test"], "not all of the test images"),
        (["a", "b"], "other images"),
    ],
)
def test_the_images_of_drive_are_known_by_their_names(names: list[str], words: str) -> None:
    assert words in drive_split(names)


def test_published_values_say_what_is_the_same(
    measure: Measure, write: Callable[..., Path], rng: np.random.Generator
) -> None:
    true = (rng.random((30, 30)) < 0.3).astype(np.uint8)
    fields = {"truth_kind": "classes", "class_values": "0=background,1=vessel"}
    drive = measure(write("p", true), write("21_x", true), compare_paper="drive", **fields)
    assert {row.measured for row in drive.published} == {1.0}
    assert {row.split for row in drive.published} == {
        "other images: by their names of the training set, 21 to 40"
    }
    ctc = measure(write("q", true), write("u", true), truth_kind="instances", compare_paper="ctc")
    assert [row.measured for row in ctc.published] == [1.0] * 4


def test_the_challenge_is_scored_as_its_own_program_does(
    measure: Measure, write: Callable[..., Path]
) -> None:
    true = np.zeros((2, 40, 40), np.uint8)
    true[:, 19:21] = 1
    perfect = measure(
        write("p", true),
        write("t", true),
        truth_kind="classes",
        class_values="0=interior,1=membrane",
        compare_paper="isbi2012",
    )
    assert {row.measured for row in perfect.published} == {0.0}
    merged = true.copy()
    merged[:, :, 5:9] = 0
    worse = measure(
        write("q", merged),
        write("u", true),
        truth_kind="classes",
        class_values="0=interior,1=membrane",
        compare_paper="isbi2012",
    )
    found = {row.published.measure: row.measured for row in worse.published}
    assert found["Rand error"] == pytest.approx(1 / 3, abs=0.01)
    assert found["warping error"] > 0
