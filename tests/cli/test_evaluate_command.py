"""The command evaluate as a person calls it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_unet.cli.evaluate import make_job, spread
from napari_unet.cli.main import app
from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def paths(tmp_path: Path, rng: np.random.Generator) -> list[str]:
    """A truth, a prediction, and two more."""
    truth = np.zeros((30, 30), np.uint16)
    truth[3:12, 3:12], truth[18:27, 6:20] = 1, 2
    for name, share in (("truth", 0), ("one", 0.02), ("two", 0.2), ("three", 0.4)):
        labels = truth.copy()
        labels[rng.random(truth.shape) < share] = 0
        np.save(tmp_path / f"{name}.npy", labels)
    return [str(tmp_path / f"{name}.npy") for name in ("one", "truth", "two", "three")]


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["evaluate", *words, "--resamples", "5"])
    return result.exit_code, result.output


def test_it_prints_a_table_and_writes_a_report(paths: list[str], tmp_path: Path) -> None:
    prediction, truth, *_ = paths
    out = tmp_path / "report"
    code, text = run(prediction, truth, "--truth-kind", "instances", "--output", str(out))
    assert code == 0
    assert "F1 at IoU 0.5" in text
    assert "adapted Rand error" in text
    assert "note: no ROC" in text
    assert sorted(path.name for path in out.iterdir()) == [
        "metrics.csv",
        "metrics.json",
        "report.html",
    ]
    code, text = run(prediction, truth, "--truth-kind", "instances", "--output", str(out))
    assert code == 2
    assert "--overwrite" in text


def test_several_words_after_compare_are_predictions(paths: list[str]) -> None:
    prediction, truth, *others = paths
    words = (prediction, truth, "--compare", *others, "--truth-kind", "instances")
    code, text = run(*words)
    assert code == 0
    ranks = text[text.index("Ranked by objects.mean_ap") :].splitlines()[1:4]
    assert [line.split()[1] for line in ranks] == ["one:", "two:", "three:"]
    assert "minus one" in ranks[1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["A", "T"], ["A", "T"]),
        (["A", "T", "--compare", "B", "C"], ["A", "T", "--compare", "B", "--compare", "C"]),
        (["--compare", "B", "--compare", "C"], ["--compare", "B", "--compare", "C"]),
        (["--compare"], ["--compare"]),
        (["--compare", "B", "--seed", "1"], ["--compare", "B", "--seed", "1"]),
    ],
)
def test_the_greedy_option_is_repeated(words: list[str], expected: list[str]) -> None:
    assert spread(words) == expected


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["one"], 2, "do not make pairs"),
        (["one", "truth"], 2, "say --truth-kind"),
        (["one", "truth", "--truth-kind", "objects"], 2, "truth_kind"),
        (["one", "truth", "--tolerance", "far"], 2, "tolerance"),
        (["one", "truth", "--progress", "bar"], 2, "--progress"),
        (["one", "nowhere", "--truth-kind", "instances"], 3, "no such file"),
    ],
)
def test_what_is_wrong_ends_with_a_sentence(
    words: list[str], code: int, message: str, paths: list[str], tmp_path: Path
) -> None:
    given = [str(tmp_path / f"{w}.npy") if w in {"one", "truth", "nowhere"} else w for w in words]
    found, text = run(*given)
    assert message in text
    assert found == code
    assert "Traceback" not in text


def test_lists_are_taken_apart() -> None:
    job = make_job(["p", "t"], {"classes": "cell, cell wall", "components": "cell"})
    assert job.classes == ("cell", "cell wall")
    assert job.components == ("cell",)
    with pytest.raises(ConfigError, match="3 paths"):
        make_job(["a", "b", "c"], {})
