"""The pages are true: links lead somewhere, Python in them runs, commands are those of CI."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_unet.app.models import find_model

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def page_id(page: Path) -> str:
    """Return a page's path in the repository."""
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def python_of(page: Path) -> str:
    """Return all Python in a page, one block after the other."""
    text = page.read_text(encoding="utf-8")
    return "\n".join(re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("page", [page for page in PAGES if python_of(page)], ids=page_id)
def test_python_in_the_pages_runs(
    page: Path, tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages may use stack.tif and, where they open a result, out.zarr."""
    monkeypatch.chdir(tmp_path)
    stack = rng.integers(0, 255, (2, 64, 64), dtype=np.uint8)
    tifffile.imwrite("stack.tif", stack, metadata=None)
    if page.stem == "open-the-result":
        from napari_unet.app.segment import run_job
        from napari_unet.core.job import SegmentJob

        job = {"input": "stack.tif", "axes": "zyx", "model": "em-membranes", "output": "out.zarr"}
        for _ in run_job(SegmentJob(**job)):
            pass
    exec(compile(python_of(page), str(page), "exec"), {"__name__": "page"})


def test_ci_runs_the_two_commands_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```bash\n(.*?)\n```", readme, flags=re.MULTILINE | re.DOTALL)
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert len(shown) == 2
    assert script[-2:] == shown


def test_the_scores_in_the_readme_are_those_of_the_bundled_model() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    _, found, text = readme.partition("<!-- Scores of em-membranes")
    assert found
    scores = find_model("em-membranes").header.provenance.scores
    words = " ".join(text.replace("*", "").split())
    for phrase, key in (
        ("boundary F1 of", "boundary_f1"),
        ("(precision", "boundary_precision"),
        ("recall", "boundary_recall"),
        ("and a plain F1 of", "plain_f1"),
    ):
        assert f"{phrase} {scores[key]:.3f}" in words
