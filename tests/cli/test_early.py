"""Mistakes are named before PyTorch is loaded, in the words of the run itself."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from napari_unet.cli.early import check_before_loading
from napari_unet.core.job import SegmentJob
from napari_unet.errors import UNetError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        ("no.tif", [], "there is no such file or folder"),
        ("", ["--model", "em-membrane"], "there is no model 'em-membrane'"),
        ("", ["--axes", "yx"], "name 2 axes"),
        ("", ["--region", "0:1,0:900,0:10"], "does not lie in axis y"),
        ("", ["--region", "0:1,0:900,0:10", "--dry-run"], "does not lie in axis y"),
    ],
)
def test_a_mistake_is_named_without_pytorch(
    tmp_path: Path, stack_path: str, model: str, image: str, options: list[str], message: str
) -> None:
    words = ["segment", image or stack_path, "--model", model, "--output", str(tmp_path / "o.zarr")]
    code = f"""
import sys
from napari_unet.cli.main import app
try:
    app({[*words, *options]!r})
finally:
    print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert message in done.stderr
    assert done.stdout.strip() == "False"
    assert not (tmp_path / "o.zarr").exists()


def test_what_is_loaded_is_not_checked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    job = SegmentJob(input="no.tif", model="em-membranes", output="o.zarr")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    with pytest.raises(UNetError, match=r"no\.tif"):
        check_before_loading(job)
    monkeypatch.setitem(sys.modules, "torch", object())
    check_before_loading(job)
