"""Who listens while we work: nobody, but workers of a cluster, and those on loopback only."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
import tifffile

from napari_unet.widgets._process import ENGINE_ARGUMENTS

if TYPE_CHECKING:
    from pathlib import Path

AUDITED = """
import runpy, sys

def hook(event, arguments):
    if event in ("socket.bind", "socket.connect", "socket.getaddrinfo", "socket.sendto"):
        address = arguments[-1] if event == "socket.bind" else arguments[0]
        # Unix sockets have a path or no name; asyncio wakes itself by a pair of them.
        if not isinstance(address, (str, bytes)):
            print("AUDIT", event, arguments, file=sys.stderr, flush=True)

sys.addaudithook(hook)
sys.argv = sys.argv[1:]
runpy.run_module("napari_unet", run_name="__main__", alter_sys=True)
"""
"""Runs the command line and says of every address that Python's sockets are given."""

PERIOD_S = 0.1


def watch(words: list[str], folder: Path, first_line: str = "") -> tuple[set[str], str, int]:
    """Run a command; return its and its children's internet sockets, its log and exit code."""
    with (folder / "log").open("w+") as log, (folder / "events").open("w+") as events:
        process = subprocess.Popen(
            [sys.executable, "-c", AUDITED, "napari-unet", *words],
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1", "XDG_DATA_HOME": str(folder / "data")},
            stdin=subprocess.PIPE,
            stdout=events,
            stderr=log,
            text=True,
        )
        assert process.stdin is not None
        process.stdin.write(first_line)
        process.stdin.flush()
        found: set[str] = set()
        while process.poll() is None:
            found |= internet_sockets(process.pid)
            time.sleep(PERIOD_S)
        process.stdin.close()
        log.seek(0)
        return found, log.read(), process.returncode


def internet_sockets(pid: int) -> set[str]:
    """Return state and address of every TCP and UDP socket of a process and its children."""
    found = set()
    try:
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            for item in process.net_connections("inet"):
                found.add(f"{item.status} {item.laddr.ip if item.laddr else ''}")
    except psutil.Error:
        pass  # it ended meanwhile
    return found


def outside(found: set[str]) -> list[str]:
    """Return the sockets that others than this machine can reach."""
    return [text for text in found if not ipaddress.ip_address(text.split(" ")[1]).is_loopback]


@pytest.fixture
def image(tmp_path: Path, rng: np.random.Generator) -> str:
    """Write a stack that takes some tiles."""
    data = rng.integers(0, 255, (2, 120, 120), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack")
    return "a.tif"


def test_a_listener_is_seen(tmp_path: Path) -> None:
    """The watch itself: a process that listens on all addresses, by a child, is found out."""
    code = (
        "import socket, sys, time\n"
        "s = socket.socket(); s.bind(('0.0.0.0', 0)); s.listen()\n"
        "print(1, flush=True); time.sleep(30)\n"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = internet_sockets(process.pid)
        for child in psutil.Process(process.pid).children():
            child.kill()
    assert found == {"LISTEN 0.0.0.0"}
    assert outside(found) == ["LISTEN 0.0.0.0"]
    assert outside({"LISTEN 127.0.0.1", "LISTEN ::1"}) == []


def test_segment_has_no_socket(tmp_path: Path, image: str, model: str) -> None:
    words = ["segment", image, "--axes", "zyx", "--model", model, "--output", "out.zarr"]
    found, log, code = watch([*words, "--progress", "none"], tmp_path)
    assert code == 0, log
    assert found == set()
    assert "AUDIT" not in log


def test_workers_of_this_machine_listen_on_loopback_only(
    tmp_path: Path, image: str, model: str
) -> None:
    words = ["segment", image, "--axes", "zyx", "--model", model, "--output", "out.zarr"]
    found, log, code = watch([*words, "--workers", "1", "--progress", "none"], tmp_path)
    assert code == 0, log
    assert any(text.startswith("LISTEN") for text in found)
    assert outside(found) == []


def test_the_engine_of_the_panel_has_no_socket(tmp_path: Path, image: str, model: str) -> None:
    job = {"input": image, "axes": "zyx", "model": model, "output": "out.zarr"}
    words = list(ENGINE_ARGUMENTS["segment"][2:])
    found, log, code = watch(words, tmp_path, json.dumps(job) + "\n")
    assert code == 0, log
    assert found == set()
    assert "AUDIT" not in log
    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert events[-1]["event"] == "finished"


def test_train_has_no_socket(tmp_path: Path, image: str) -> None:
    labels = np.zeros((2, 120, 120), np.uint8)
    labels[:, :60] = 255
    tifffile.imwrite(tmp_path / "labels.tif", labels, photometric="minisblack")
    settings = "[network]\nbase_channels = 4\ndepth = 2\n[sampler]\noutput_edge = 24\n"
    (tmp_path / "tiny.toml").write_text("threads = 1\n" + settings)
    words = f"train --image {image} --axes zyx --labels labels.tif --label-kind classes"
    words += " --class-values 0=out,255=in --steps 2 --validation none --config tiny.toml"
    words += " --output new.safetensors"
    found, log, code = watch([*words.split(), "--progress", "none"], tmp_path)
    assert code == 0, log
    assert found == set()
    assert "AUDIT" not in log
