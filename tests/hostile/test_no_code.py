"""No code of a model or an image is ever run: live bombs stay unlit, and no source lights one."""

from __future__ import annotations

import ast
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tests.hostile.case import CANARY, RunsCode
from tests.hostile.corpus import CASES
from tests.hostile.openers import OPENERS

from napari_unet.errors import UNetError
from napari_unet.model import bioimageio_import

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "napari_unet"
SANDBOX = "model/state_dict_worker.py"
"""The process that may be lost, with bounds on its memory and time."""

LIVE = [
    "safetensors: a pickle",
    ".npy: objects, which are a pickle",
    "zarr 2: pickle as compressor",
    "zarr 2: pickle as filters",
    "zarr 2: objects",
    "PNG, JPEG: a pickle called .png",
    "PNG, JPEG: PostScript, which a decoder would run, called .png",
    ".pth: code as a whole",
    ".pth: code among the tensors",
    ".pth: code in the old format",
    ".pth: a pickle of protocol 0",
    ".pth: code of protocol 4 in an archive",
    ".pth: a whole network",
    ".pth: TorchScript",
    "bioimage.io, zip: a package with code of an architecture, imported",
    "bioimage.io, zip: YAML that makes an object, imported",
    "bioimage.io, zip: weights that are a pickle",
    "job file: YAML that makes an object",
    "job file: a program, as JSON",
]


@pytest.mark.parametrize("name", LIVE)
def test_the_canary_stays_away(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # The strongest case: the person has told the libraries that unpickling is all right.
    monkeypatch.setenv("NUMCODECS_ALLOW_UNSAFE_PICKLE_DECODE", "1")
    monkeypatch.setattr("numcodecs.pickles.ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    case = next(case for case in CASES if str(case) == name)
    path = case.make(tmp_path)
    with pytest.raises(UNetError):
        OPENERS[case.opener](path)
    assert not (tmp_path / CANARY).exists()


def test_the_bomb_is_live(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(RunsCode(tmp_path)))
    assert (tmp_path / CANARY).is_dir()
    (tmp_path / CANARY).rmdir()
    torch.save(RunsCode(tmp_path), tmp_path / "a.pth")
    torch.load(tmp_path / "a.pth", weights_only=False)
    assert (tmp_path / CANARY).is_dir()
    (tmp_path / CANARY).rmdir()
    objects = np.empty(1, object)
    objects[:] = RunsCode(tmp_path)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.load(tmp_path / "a.npy", allow_pickle=True)
    assert (tmp_path / CANARY).is_dir()


FORBIDDEN = {
    "pickle": "pickle.load(f)",
    "eval": "eval(text)",
    "exec": "exec(text)",
    "compile": "compile(text, 'a', 'exec')",
    "import": "__import__(name)",
    "torch.load": "torch.load(path)",
    "weights_only": "torch.load(path, weights_only=False)",
    "torch.jit": "torch.jit.load(path)",
    "yaml": "yaml.load(text)",
    "yaml unsafe": "yaml.unsafe_load(text)",
    "allow_pickle": "np.load(path, allow_pickle=True)",
    "np.load": "np.load(path)",
    "shell": "subprocess.run(words, shell=True)",
    "os.system": "os.system(text)",
    "extractall": "archive.extractall(folder)",
    "runpy": "runpy.run_path(path)",
}


def offences(source: str) -> list[str]:
    """Return the calls in a source that could run what a file says."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [text for call in calls if (text := ast.unparse(call)) and is_offence(call)]


def is_offence(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    given = {k.arg: ast.unparse(k.value) for k in call.keywords}
    if given.get("allow_pickle") == "True" or given.get("shell") == "True":
        return True
    if name == "torch.load":
        return given.get("weights_only") != "True"
    if name in {"np.load", "numpy.load"}:
        return given.get("allow_pickle") != "False"
    if name in {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}:
        return True
    loads = (
        r"(c?pickle|dill|joblib|marshal|shelve|cloudpickle|torch\.jit)\.\w*(load|open|Unpickler)"
    )
    return bool(
        re.match(loads, name)
        or re.match(r"yaml\.(unsafe_|full_)?load(_all)?$", name)
        or re.match(r"runpy\.|importlib\.util\.spec_from_file|code\.interact", name)
        or name.endswith((".extractall", ".extract"))
    )


@pytest.mark.parametrize("planted", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_the_rule_notices(planted: str) -> None:
    assert offences(f"def f():\n    return {planted}\n") == [planted]


def test_no_source_can_run_what_a_file_says() -> None:
    found = {
        str(path.relative_to(PACKAGE)): offences(path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    }
    # A safe loader, with bounds of our own.
    assert issubclass(bioimageio_import._PlainLoader, yaml.SafeLoader)
    bounded = {"model/bioimageio_import.py": ["yaml.load(text, Loader=_PlainLoader)"]}
    assert {name: calls for name, calls in found.items() if calls} == bounded


def test_only_the_worker_and_checkpoints_read_what_pytorch_wrote() -> None:
    with_load = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if re.search(r"(?<!safetensors\.)torch\.load\(", path.read_text(encoding="utf-8"))
    }
    # Checkpoints are our own, of the run folder; weights_only all the same.
    assert with_load == {SANDBOX, "training/checkpoint.py"}


def test_a_package_in_the_current_folder_is_not_taken_for_ours(tmp_path: Path) -> None:
    """The worker must not import a torch.py that lies beside the weights."""
    (tmp_path / "torch.py").write_text("import os\nos.mkdir('canary')\n")
    case = next(case for case in CASES if str(case) == ".pth: weights of no network")
    path = case.make(tmp_path)
    code = (
        "from tests.hostile.openers import OPENERS\nfrom pathlib import Path\n"
        f"OPENERS['import'](Path({str(path)!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ModelFileError" in done.stderr, done.stderr
    assert not (tmp_path / CANARY).exists()
