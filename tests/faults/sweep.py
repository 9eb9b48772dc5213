"""The sweep: every kind of fault at many places, and whether all is right after the remedy."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from tests.faults.drive import (
    NAME,
    OBJECTS,
    Case,
    done_blocks,
    finish,
    run,
    start,
)
from tests.faults.layer import WRITES, Fault, How, lose

from napari_unet.app.segmenting.journal import ledger_path
from napari_unet.core.boxes import parse_region
from napari_unet.io.ledger import read_ledger
from napari_unet.io.output_state import read_output_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIGNALLED = {-signal.SIGKILL: "killed"}


@dataclass
class Row:
    """What became of one kind of fault.

    Parameters
    ----------
    fault, remedy : str
        What was done, and what the user does then.
    faults : int
        How many were injected.
    runs : int
        Runs of the command, those of the remedy included.
    ends : Counter
        How the disturbed runs ended: exit code, or "killed" -> how many.
    wrong : int
        Chunks that differ from the undisturbed run after the remedy, states and leftovers.
    again : int
        Blocks that had been done and were computed again.
    problems : list of str
        What was not as promised, for people.
    """

    fault: str
    remedy: str
    faults: int = 0
    runs: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    again: int = 0
    problems: list[str] = field(default_factory=list)

    def end(self, code: int) -> None:
        """Take into account how a disturbed run has ended."""
        self.faults += 1
        self.runs += 1
        self.ends[SIGNALLED.get(code, str(code))] += 1

    def mend(self, case: Case, out: Path, words: list[str], where: str) -> None:
        """Do what the user does then, and judge the result."""
        before = done_or_none(out)
        ended = run(words)
        self.runs += 1
        bad = case.wrong(out)
        self.wrong += len(bad)
        if ended.code or bad:
            self.problems.append(f"{self.fault}, {where}: {ended.code} {bad[:4]} {ended.said}")
        computed = ended.said.count('"block_done"')
        if before is not None and computed:
            self.again += computed + before - blocks_of(out)

    def expect(self, holds: bool, where: str) -> None:
        """Note what was not as promised."""
        if not holds:
            self.problems.append(f"{self.fault}: {where}")

    def markdown(self) -> str:
        """Return the row of the table."""
        ends = ", ".join(f"{name}: {count}" for name, count in sorted(self.ends.items()))
        # A damaged block is computed again on purpose, and --overwrite computes all of them.
        again = "-" if "--" in self.remedy or "--overwrite" in self.fault else str(self.again)
        return (
            f"| {self.fault} | {self.faults} | {ends} | {self.remedy} | {self.runs} | {again} | "
            f"{self.wrong} |"
        )


HEADER = (
    "| fault | injected | how the run ended | remedy | runs | blocks computed twice | wrong or "
    "lost |\n|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Sweep:
    """How much is swept.

    Parameters
    ----------
    folder : Path
        For cases and attempts.
    places : int or None
        Places per kind of fault, spread evenly; None = all.
    counted : dict
        Steps of an undisturbed run, by case and kinds of steps.
    """

    folder: Path
    places: int | None = None
    counted: dict[Any, int] = field(default_factory=dict, compare=False)

    def case(self, name: str, *options: str) -> Case:
        """Return a job; the same one for the same name."""
        return Case(self.folder / name, options)

    def chosen(self, count: int) -> list[int]:
        """Return at which of so many places a fault is injected."""
        if self.places is None or self.places >= count:
            return list(range(count))
        step = count / self.places
        return [int((k + 0.5) * step) for k in range(self.places)]

    def steps(self, case: Case, **fault: object) -> int:
        """Return how many steps an undisturbed run takes."""
        kinds = fault.get("kinds", WRITES)
        key = (case.folder, tuple(case.options), kinds)
        if key not in self.counted:
            with case.attempt() as out:
                root = str(fault.get("root", out.parent))
                ended = run(case.segment(out), Fault("count", root, kinds=kinds))  # type: ignore[arg-type]
                self.counted[key] = len(ended.steps)
        return self.counted[key]


JSON = ("--progress", "json")

LEVEL_0 = f"labels/{NAME}/0/"

STARTING_S = 0.2
"""About as long a run takes from its start to its first block."""


def kills(sweep: Sweep, name: str, *options: str) -> Row:
    """SIGKILL before every step that changes the disk."""
    row = Row(f"`kill -9` before a write, rename, fsync ({name})", "the same command")
    case = sweep.case(name, *options)
    for at in sweep.chosen(sweep.steps(case)):
        with case.attempt() as out:
            row.end(run(case.segment(out), Fault("kill", str(out.parent), at)).code)
            row.mend(case, out, case.segment(out, *JSON), f"step {at}")
    return row


def torn_lines(sweep: Sweep) -> Row:
    """SIGKILL in the middle of a line of the ledger."""
    row = Row("`kill -9` in the middle of a line of the ledger", "the same command")
    case = sweep.case("plain")
    kinds = ("write",)
    for at in sweep.chosen(sweep.steps(case, kinds=kinds)):
        with case.attempt() as out:
            fault = Fault("torn", str(out.parent), at, kinds=kinds)
            row.end(run(case.segment(out), fault).code)
            row.mend(case, out, case.segment(out, *JSON), f"line {at}")
    return row


def power_cuts(sweep: Sweep, name: str, *options: str, names: bool) -> Row:
    """SIGKILL before every step, and all that was not synced is lost."""
    what = "names and data" if names else "data"
    row = Row(f"power cut, unsynced {what} lost ({name})", "the same command")
    case = sweep.case(name, *options)
    steps = sweep.steps(case)
    # The last time after the end.
    for at in [*sweep.chosen(steps), 2 * steps]:
        with case.attempt() as out:
            row.end(run(case.segment(out), Fault("power", str(out.parent), at)).code)
            lose(out.parent, names=names)
            row.mend(case, out, case.segment(out, *JSON), f"step {at}")
    return row


def refusals(sweep: Sweep, how: How, *, last: int | None, what: str) -> Row:
    """Refuse a step, and all later ones or only a few."""
    row = Row(what, "the same command")
    case = sweep.case("plain")
    for at in sweep.chosen(sweep.steps(case)):
        with case.attempt() as out:
            until = None if last is None else at + last
            ended = run(case.segment(out), Fault(how, str(out.parent), at, until))
            row.end(ended.code)
            row.expect("Traceback" not in ended.said, f"step {at}: {ended.said}")
            row.expect(ended.code in (0, 3), f"step {at} ended with {ended.code}")
            row.expect(ended.code == 0 or "error: " in ended.said, f"step {at} says nothing")
            row.mend(case, out, case.segment(out, *JSON), f"step {at}")
    return row


def refused_reads(sweep: Sweep, *, last: int | None, what: str) -> Row:
    """Refuse to open a file of the image."""
    row = Row(what, "the same command")
    case = sweep.case("plain")
    kinds, root = ("read",), str(case.image)
    for at in sweep.chosen(sweep.steps(case, kinds=kinds, root=root)):
        with case.attempt() as out:
            until = None if last is None else at + last
            ended = run(case.segment(out), Fault("EIO", root, at, until, kinds))
            row.end(ended.code)
            row.expect("Traceback" not in ended.said, f"read {at}: {ended.said}")
            row.expect(ended.code in (0, 3), f"read {at} ended with {ended.code}")
            row.mend(case, out, case.segment(out, *JSON), f"read {at}")
    return row


def file_limits(sweep: Sweep) -> Row:
    """Let the system refuse files above a size, as a quota does."""
    row = Row("files above a size refused (RLIMIT_FSIZE)", "the same command")
    case = sweep.case("plain")
    limits = [64, 200, 400, 800, 1500, 2000, 2200, 2400, 2600, 2800, 3200, 4000]
    for limit in [limits[k] for k in sweep.chosen(len(limits))]:
        with case.attempt() as out:
            words = [sys.executable, "-c", LIMITED, str(limit), *case.segment(out)]
            ended = subprocess.run(words, capture_output=True, text=True, check=False)
            code, text = ended.returncode, ended.stderr
            row.end(code)
            row.expect("Traceback" not in text, f"{limit} bytes: {text}")
            row.expect(code in (0, 3), f"{limit} bytes ended with {code}")
            row.mend(case, out, case.segment(out, *JSON), f"{limit} bytes")
    return row


LIMITED = """
import resource, sys
limit = int(sys.argv[1])
import napari_unet.app.segment
from napari_unet.cli.main import app
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
app(sys.argv[2:])
"""


def flip(path: Path, chance: random.Random) -> None:
    """Turn a bit of a file."""
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def cut_short(path: Path, chance: random.Random) -> None:
    """Cut a file anywhere."""
    path.write_bytes(path.read_bytes()[: chance.randrange(1, path.stat().st_size)])


def empty(path: Path, _: random.Random) -> None:
    """Leave a file without content."""
    path.write_bytes(b"")


def delete(path: Path, _: random.Random) -> None:
    """Delete a file."""
    path.unlink()


def exchange(path: Path, _: random.Random) -> None:
    """Put another chunk of the same array in the place of a file, whole and with a right sum."""
    own = path.read_bytes()
    array = next(parent for parent in path.parents if parent.parent.name == NAME)
    others = sorted(p for p in array.rglob("*") if p.is_file() and p.name not in ("zarr.json",))
    path.write_bytes(next(p.read_bytes() for p in others if p.read_bytes() != own))


DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
    "a bit flipped": flip,
    "cut short": cut_short,
    "0 bytes": empty,
    "deleted": delete,
    "another chunk in its place": exchange,
}


def damage_at_rest(sweep: Sweep, how: str, name: str, *options: str) -> Row:
    """Damage each stored file of a complete output in turn."""
    row = Row(f"a stored file: {how} ({name})", "`verify --repair`")
    case, chance = sweep.case(name, *options), random.Random(7)
    with case.attempt() as out:
        run(case.segment(out))
        files = sorted(case.undisturbed())
        for at in sweep.chosen(len(files)):
            DAMAGES[how](out / files[at], chance)
            found = run(["verify", str(out), "--progress", "none"])
            row.end(found.code)
            row.expect(found.code == 3, f"{files[at]}: not noticed")
            repair = ["verify", str(out), "--repair", *JSON]
            row.mend(case, out, repair, files[at])
    return row


def killed_repairs(sweep: Sweep) -> Row:
    """SIGKILL before every step of a repair."""
    row = Row("`kill -9` during `verify --repair`", "`verify --repair`")
    case = sweep.case("plain")
    chunk = sorted(name for name in case.undisturbed() if "labels/" in name)[2]
    repair = ["verify", "--repair", *JSON]
    with case.attempt() as out:
        run(case.segment(out))
        (out / chunk).unlink()
        count = len(run([*repair, str(out)], Fault("count", str(out.parent))).steps)
    for at in sweep.chosen(count):
        with case.attempt() as out:
            run(case.segment(out))
            (out / chunk).unlink()
            row.end(run([*repair, str(out)], Fault("kill", str(out.parent), at)).code)
            row.mend(case, out, [*repair, str(out)], f"step {at}")
    return row


def killed_replacements(sweep: Sweep) -> Row:
    """SIGKILL before every step of a run that replaces a complete output of other options."""
    row = Row("`kill -9` with --overwrite of another result", "the same command")
    case, other = sweep.case("plain"), ("--average", "mirror")
    with case.attempt() as out:
        run(case.segment(out, *other))
        count = len(run(case.segment(out, "--overwrite"), Fault("count", str(out.parent))).steps)
    for at in sweep.chosen(count):
        with case.attempt() as out:
            run(case.segment(out, *other))
            words = case.segment(out, "--overwrite")
            row.end(run(words, Fault("kill", str(out.parent), at)).code)
            row.mend(case, out, words, f"step {at}")
    return row


def objects_cut_off(sweep: Sweep, how: How, *, names: bool = False) -> Row:
    """SIGKILL, or a power cut, before every step of finding objects."""
    what = "`kill -9`" if how == "kill" else "power cut"
    lost = ", unsynced names and data lost" if names else ", unsynced data lost"
    row = Row(f"{what} during `objects`{lost if how == 'power' else ''}", "the same command")
    case = dataclasses.replace(sweep.case("objects"), has_objects=True)
    with case.attempt() as out:
        run(case.segment(out))
        count = len(run(case.objects(out), Fault("count", str(out.parent))).steps)
    # With a power cut, the last time after the end.
    for at in [*sweep.chosen(count), *([2 * count] if how == "power" else [])]:
        with case.attempt() as out:
            run(case.segment(out))
            row.end(run(case.objects(out), Fault(how, str(out.parent), at)).code)
            if how == "power":
                lose(out.parent, names=names)
            state = read_output_state(out, OBJECTS)
            if state is not None and state.state == "complete":
                row.expect(not case.wrong(out), f"step {at}: half done, and looks finished")
            row.mend(case, out, case.objects(out), f"step {at}")
    return row


def torn_ledgers(sweep: Sweep) -> Row:
    """Cut the ledger at bytes of an interrupted run: around each line, everywhere in the last."""
    row = Row("the ledger cut at a byte", "the same command")
    case = sweep.case("plain")
    with case.attempt() as out:
        run(case.segment(out), Fault("kill", str(out.parent), _in_the_middle(sweep, case)))
        ledger = ledger_path(out, NAME)
        content, kept = ledger.read_bytes(), _copy(out)
        lines = [k + 1 for k, byte in enumerate(content) if byte == 10]
        places = {p for end in lines for p in (end - 1, end, end + 1)}
        places |= set(range(lines[-2], lines[-1]))
        wanted = sorted(p for p in places if lines[0] <= p <= len(content))
        for at in [wanted[k] for k in sweep.chosen(len(wanted))]:
            _put_back(out, kept)
            ledger.write_bytes(content[:at])
            row.end(0)
            row.runs -= 1
            row.mend(case, out, case.segment(out, *JSON), f"byte {at}")
    return row


def torn_at_every_byte(sweep: Sweep) -> tuple[int, int]:
    """Cut a ledger at every byte; return how many, and how often it says too much.

    What is read must be what the whole lines say; before the end of the first there is an error.
    """
    case, false = sweep.case("plain"), 0
    with case.attempt() as out:
        run(case.segment(out))
        ledger = ledger_path(out, NAME)
        content = ledger.read_bytes()
        header = content.index(b"\n") + 1
        for at in range(len(content) + 1):
            ledger.write_bytes(content[:at])
            whole = content[:at].count(b'"line":"done"', 0, content.rfind(b"\n", 0, at) + 1)
            try:
                found = read_ledger(ledger)
                false += found is None or len(found.done) != whole or at < header
            except OSError:
                false += at >= header
    return len(content) + 1, false


def two_drivers(sweep: Sweep) -> Row:
    """Start a second run while the first holds still; then let the first go on, or kill it."""
    row = Row("a second run on the same output", "the first one goes on, or is killed")
    case = sweep.case("plain")
    first = sweep.steps(case) // 3
    for at in [first + 7 * k for k in sweep.chosen(12)]:
        with case.attempt() as out:
            said = case.folder / f"said-{secrets.token_hex(4)}.txt"
            process = start(case.segment(out), said, Fault("stop", str(out.parent), at))
            pid = process.pid or 0
            _wait_until_stopped(pid)
            second = run(case.segment(out))
            row.end(second.code)
            row.expect("is being computed by" in second.said, f"step {at}: {second.said}")
            if at % 2:
                os.kill(pid, signal.SIGKILL)
            os.kill(pid, signal.SIGCONT)
            finish(process, said)
            row.mend(case, out, case.segment(out, *JSON), f"step {at}")
    return row


def clock_jumps(sweep: Sweep) -> Row:
    """Let the clock jump by up to a day at every look, and files come from the future."""
    row = Row("the clock jumps by up to a day, files of tomorrow", "the same command")
    case = sweep.case("plain")
    for seed in sweep.chosen(6):
        with case.attempt() as out:
            run(case.segment(out), Fault("kill", str(out.parent), _in_the_middle(sweep, case)))
            for path in out.parent.rglob("*"):
                os.utime(path, (time.time() + 86400,) * 2)
            row.end(run(case.segment(out), Fault("clock", str(out.parent), seed)).code)
            row.mend(case, out, case.segment(out, *JSON), f"seed {seed}")
    return row


def random_kills(case: Case, out: Path, kills: int, seed: int) -> tuple[int, int, float]:
    """Kill a run from outside at random times, again and again, until it was killed often enough.

    Parameters
    ----------
    case : Case
        A run of some seconds.
    out : Path
        Where to.
    kills : int
        How often.
    seed : int
        Of the times.

    Returns
    -------
    tuple
        How often it was killed, blocks that were done after the last time, and the seconds that an
        undisturbed run takes.
    """
    chance = random.Random(seed)
    case.undisturbed()
    with case.attempt() as other:
        began = time.monotonic()
        run(case.segment(other))
        whole = time.monotonic() - began
    killed, blocks = 0, len([name for name in case.undisturbed() if name.startswith(LEVEL_0)])
    for left in range(kills, 0, -1):
        said = case.folder / "said.txt"
        process = start(case.segment(out), said)
        # So long that on average three tenths of the blocks are left after the last kill.
        share = max(0.7 - (done_or_none(out) or 0) / blocks, 0.0) / left
        process.join(STARTING_S + chance.uniform(0.0, 2.0) * share * whole)
        if process.exitcode is None:
            process.kill()
            killed += 1
        finish(process, said)
    return killed, done_or_none(out) or 0, whole


def unreadable_images(sweep: Sweep, how: str) -> Row:
    """Damage a chunk of the image, segment, put it back, segment again."""
    # A hash of the image is a part of the fingerprint: as it was, it is another image.
    row = Row(f"a chunk of the image: {how}", "put it back, then --overwrite")
    # Given, because the measured one reads all chunks before the first block.
    case = sweep.case("normalized", "--normalization", "127,73")
    chunks = sorted(path for path in (case.image / "0" / "c").rglob("*") if path.is_file())
    case.undisturbed()
    for at in sweep.chosen(len(chunks)):
        with case.attempt() as out:
            kept = chunks[at].read_bytes()
            DAMAGES[how](chunks[at], random.Random(at))
            ended = run(case.segment(out))
            chunks[at].write_bytes(kept)
            row.end(ended.code)
            row.expect(ended.code == 3, f"{chunks[at].name} ended with {ended.code}")
            row.expect(done_or_none(out) != blocks_of(out), "damage was taken for an image")
            refused = run(case.segment(out))
            row.expect("--overwrite" in refused.said, f"{refused.code}: {refused.said}")
            row.mend(case, out, case.segment(out, "--overwrite"), chunks[at].name)
    return row


def nonfinite_images(sweep: Sweep) -> Row:
    """Kill runs over an image with NaN and infinities, and count those voxels to the end."""
    row = Row("`kill -9`, the image holds NaN and infinities", "the same command")
    case = sweep.case("nonfinite", "--axes", "zyx")
    image = case.folder / "image.npy"
    values = np.random.default_rng(4).normal(size=(2, 60, 48)).astype(np.float32)
    values[0, 5:20, 7:9] = np.nan
    values[1, 33, 33] = np.inf
    np.save(image, values)
    case.image = image
    for at in sweep.chosen(sweep.steps(case)):
        with case.attempt() as out:
            row.end(run(case.segment(out), Fault("kill", str(out.parent), at)).code)
            row.mend(case, out, case.segment(out, *JSON), f"step {at}")
            again = run(case.segment(out, "--overwrite", *JSON))
            row.expect('"nonfinite": 31,' in again.said, "voxels are miscounted")
    return row


def rows(sweep: Sweep) -> Iterator[Row]:
    """Yield all rows of the table."""
    yield kills(sweep, "plain")
    yield kills(sweep, "shards", "--probabilities", "--shards")
    yield kills(sweep, "OME-Zarr 0.4", "--ome-version", "0.4", "--probabilities")
    yield killed_replacements(sweep)
    yield killed_repairs(sweep)
    yield objects_cut_off(sweep, "kill")
    for names in (False, True):
        yield objects_cut_off(sweep, "power", names=names)
    yield torn_lines(sweep)
    yield torn_ledgers(sweep)
    for names in (False, True):
        yield power_cuts(sweep, "plain", names=names)
        yield power_cuts(sweep, "shards", "--probabilities", "--shards", names=names)
    yield refusals(sweep, "ENOSPC", last=None, what="disk full (ENOSPC) from a step on")
    yield refusals(sweep, "EDQUOT", last=3, what="quota (EDQUOT) at four steps")
    yield file_limits(sweep)
    yield refusals(sweep, "EIO", last=None, what="EIO from a write, rename, fsync on")
    yield refusals(sweep, "EIO", last=0, what="EIO once at a write, rename, fsync")
    yield refused_reads(sweep, last=0, what="EIO once when the image is read")
    few = dataclasses.replace(sweep, places=min(sweep.places or 12, 12))
    yield refused_reads(few, last=None, what="EIO for good when the image is read")
    for how in ("a bit flipped", "cut short"):
        yield unreadable_images(sweep, how)
    for how in DAMAGES:
        yield damage_at_rest(sweep, how, "plain")
        yield damage_at_rest(sweep, how, "shards", "--probabilities", "--shards")
    yield nonfinite_images(few)
    yield clock_jumps(sweep)
    yield two_drivers(sweep)


@contextlib.contextmanager
def temporary_sweep(places: int | None) -> Iterator[Sweep]:
    """Sweep in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="fault sweep ") as folder:
        yield Sweep(Path(folder), places)


def done_or_none(out: Path) -> int | None:
    """Return how many blocks are done; None if the ledger cannot be read."""
    try:
        return done_blocks(out)
    except OSError:
        return None


def blocks_of(out: Path) -> int:
    """Return how many blocks the job of an output has; -1 without an output."""
    state = read_output_state(out, NAME)
    if state is None:
        return -1
    facts = state.attributes["fingerprint"]
    box = parse_region(facts["region"], (10**6,) * 3)
    edges = (1, facts["block_size"], facts["block_size"])
    return math.prod(-(-n // edge) for n, edge in zip(box.shape, edges, strict=True))


def _in_the_middle(sweep: Sweep, case: Case) -> int:
    return sweep.steps(case) * 2 // 3


def _copy(out: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in out.parent.rglob("*") if path.is_file()}


def _put_back(out: Path, kept: dict[Path, bytes]) -> None:
    for path in out.parent.rglob("*"):
        if path.is_file() and path not in kept:
            path.unlink()
    for path, content in kept.items():
        path.write_bytes(content)


def _wait_until_stopped(pid: int) -> None:
    process = psutil.Process(pid)
    for _ in range(600):
        if process.status() == psutil.STATUS_STOPPED:
            return
        time.sleep(0.05)
    raise TimeoutError(f"process {pid} does not come to its step")
