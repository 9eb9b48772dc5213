"""The quick part of the sweep: after any fault the same command gives the undisturbed result.

All places and kinds: ``python -m benchmarks.fault_sweep``.
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

import pytest
from tests.faults import sweep as sweeps
from tests.faults.drive import run, stored
from tests.faults.layer import Fault, lose
from tests.faults.sweep import Sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.faults.sweep import Row


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    """Sweep few places; one image, model and undisturbed run for all tests."""
    before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")}
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    yield Sweep(tmp_path_factory.mktemp("fault sweep"), places=1)
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


ROWS: dict[str, Callable[[Sweep], Row]] = {
    "killed": lambda s: sweeps.kills(s, "plain"),
    "killed, with shards": lambda s: sweeps.kills(s, "shards", "--shards", "--probabilities"),
    "killed while replacing": sweeps.killed_replacements,
    "killed in a repair": sweeps.killed_repairs,
    "killed while finding objects": lambda s: sweeps.objects_cut_off(s, "kill"),
    "power cut while finding objects": lambda s: sweeps.objects_cut_off(s, "power", names=True),
    "killed in a line": sweeps.torn_lines,
    "ledger cut": sweeps.torn_ledgers,
    "power cut, data": lambda s: sweeps.power_cuts(s, "plain", names=False),
    "power cut, names": lambda s: sweeps.power_cuts(s, "plain", names=True),
    "disk full": lambda s: sweeps.refusals(s, "ENOSPC", last=None, what="disk full"),
    "EIO once": lambda s: sweeps.refusals(s, "EIO", last=0, what="EIO once"),
    "EIO once when reading": lambda s: sweeps.refused_reads(s, last=0, what="EIO read"),
    "damaged image": lambda s: sweeps.unreadable_images(s, "cut short"),
    "damaged output": lambda s: sweeps.damage_at_rest(s, "another chunk in its place", "plain"),
    "damaged shards": lambda s: sweeps.damage_at_rest(
        s, "a bit flipped", "shards", "--shards", "--probabilities"
    ),
    "clock": sweeps.clock_jumps,
    "two drivers": sweeps.two_drivers,
}


@pytest.mark.parametrize("fault", ROWS)
def test_nothing_is_lost(quick: Sweep, fault: str) -> None:
    places = 3 if fault == "killed" else 1
    row = ROWS[fault](dataclasses.replace(quick, places=places))
    assert row.problems == []
    assert row.wrong == 0
    assert row.faults >= places
    if fault.startswith(("killed", "power")):
        assert row.ends == {"killed": row.faults}, "the fault was not reached"
        assert row.again == 0 or fault in ("killed while replacing", "killed in a repair")


def test_a_ledger_cut_at_every_byte_never_says_too_much(quick: Sweep) -> None:
    cuts, false = sweeps.torn_at_every_byte(quick)
    assert cuts > 1000
    assert false == 0


def test_a_run_killed_from_outside_again_and_again_ends_right(quick: Sweep) -> None:
    case = quick.case("small blocks", "--block-size", "16")
    with case.attempt() as out:
        killed, done, _ = sweeps.random_kills(case, out, kills=3, seed=1)
        assert killed >= 1
        assert done <= sweeps.blocks_of(out) == 24
        assert run(case.segment(out)).code == 0
        assert case.wrong(out) == []


def test_the_judge_sees_what_is_wrong(quick: Sweep) -> None:
    """A sweep that cannot fail would show nothing."""
    case = quick.case("plain")
    with case.attempt() as out:
        run(case.segment(out))
        assert case.wrong(out) == []
        chunk = min(stored(out))
        (out / chunk).write_bytes(b"")
        (out.parent / ".found.unet.json.1234.part").write_bytes(b"")
        assert case.wrong(out) == [chunk, str(out.parent / ".found.unet.json.1234.part")]
    with case.attempt() as out:
        run(case.segment(out), Fault("kill", str(out.parent), at=80))
        assert "state" in case.wrong(out)


def test_the_power_cut_takes_what_was_not_synced(tmp_path: Path) -> None:
    """The model of a power cut is checked by a program that syncs half of what it writes."""
    place = tmp_path / "place"
    place.mkdir()
    (place / "old").write_bytes(b"old")
    program = WRITER.format(root=str(place))
    for names in (False, True):
        copy = place.with_name(f"copy {names}")
        _die_of_power_cut(program.replace(str(place), str(copy)), copy)
        lose(copy, names=names)
        found = {path.name: path.read_bytes() for path in copy.iterdir()}
        if names:
            assert found == {"old": b"old", "safe": b"safe"}
        else:
            assert found == {"old": b"", "safe": b"safe", "late": b""}


WRITER = """
import os, pathlib
from tests.faults.layer import Fault, Layer
root = pathlib.Path({root!r})
root.mkdir()
(root / "old").write_bytes(b"old")
layer = Layer(Fault("power", str(root), at=10**6), root.with_name(root.name + ".log"))
layer.install()
def write(name, data, sync):
    with open(root / name, "wb") as file:
        file.write(data)
        file.flush()
        if sync:
            os.fsync(file.fileno())
write("safe", b"safe", True)
folder = os.open(root, os.O_RDONLY)
os.fsync(folder)
os.close(folder)
write("late", b"late", False)
write("new", b"new", False)
os.replace(root / "new", root / "old")
layer.over()
"""


def _die_of_power_cut(program: str, place: Path) -> None:
    import subprocess
    import sys

    ended = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert ended.returncode < 0, ended.stderr
    assert place.is_dir()
