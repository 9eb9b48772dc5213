"""A ledger is followed by its new bytes alone, and says what reading it whole would say."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.io.ledger import BlockEntry, Ledger, read_ledger
from napari_unet.io.ledger_watch import LedgerWatch

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

HOLD = """
import sys
from pathlib import Path
from napari_unet.io.ledger import Ledger
with Ledger(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""

NUMBERS = st.integers(0, 5)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("done"), NUMBERS),
        st.tuples(st.just("failed"), NUMBERS),
        st.tuples(st.just("run"), NUMBERS),
        st.tuples(st.just("torn"), NUMBERS),
        st.tuples(st.just("anew"), NUMBERS),
        st.tuples(st.just("look"), NUMBERS),
    ),
    max_size=25,
)


def begun(path: Path) -> Ledger:
    ledger = Ledger(path)
    ledger.begin({"input": "a"}, {"run": "1"})
    ledger.enter_run("2026-11-21T10:00:00+00:00", device="cpu")
    return ledger


def take_step(ledger: Ledger, kind: str, number: int) -> Ledger:
    """Write a line as a run does, or restart as after a crash, or begin anew."""
    if kind == "done":
        ledger.enter_done((0, 0, number), BlockEntry(number))
    elif kind == "failed":
        ledger.enter_failed((0, 0, number), f"cause {number}")
    elif kind == "run":
        path = ledger.path
        ledger.close()
        ledger = Ledger(path)
        ledger.read()
        ledger.enter_run(f"2026-11-21T10:00:0{number}+00:00")
    elif kind == "torn":
        with ledger.path.open("ab") as file:
            file.write(b"0000")
        ledger = take_step(ledger, "run", number)
    elif kind == "anew":
        path = ledger.path
        ledger.close()
        ledger = Ledger(path)
        ledger.begin({"input": "a"}, {"run": f"other {number}"})
        ledger.enter_run("2026-11-21T11:00:00+00:00")
    return ledger


@settings(max_examples=40)
@given(steps=STEPS)
def test_looks_add_up_to_the_whole(tmp_path_factory: pytest.TempPathFactory, steps: object) -> None:
    path = tmp_path_factory.mktemp("ledger") / "a.unet.ledger"
    watch = LedgerWatch(path)
    assert watch.read() == ()
    ledger = begun(path)
    reported: set[tuple[int, ...]] = set()
    assert isinstance(steps, list)
    for kind, number in [*steps, ("look", 0)]:
        before = set() if watch.content is None else set(watch.content.done)
        if kind != "look":
            ledger = take_step(ledger, kind, number)
            continue
        run = None if watch.content is None else watch.content.settled["run"]
        fresh = watch.read()
        whole = read_ledger(path)
        assert watch.content == whole
        assert whole is not None
        if run != whole.settled["run"]:
            before = set()
        # Nothing that is new is left out.
        assert set(whole.done) - before <= set(fresh) <= set(whole.done)
        reported |= set(fresh)
    ledger.close()
    assert watch.read() == ()


def test_a_torn_end_is_read_once_and_again_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.unet.ledger"
    begun(path).close()
    watch = LedgerWatch(path)
    watch.read()
    line = None
    with Ledger(path) as ledger:
        ledger.read()
        ledger.enter_run("2026-11-21T10:00:00+00:00")
        ledger.enter_done((0, 1, 2), BlockEntry(7))
        line = path.read_bytes()
    path.write_bytes(line[:-5])
    assert watch.read() == ()
    path.write_bytes(line)
    assert watch.read() == ((0, 1, 2),)


def test_the_lock_is_seen_while_a_process_lives(tmp_path: Path) -> None:
    path = tmp_path / "a.unet.ledger"
    watch = LedgerWatch(path)
    assert not watch.is_held()
    assert not list(tmp_path.iterdir())
    words = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert watch.is_held()
        process.kill()
    assert not watch.is_held()


def test_a_look_never_turns_a_run_away(tmp_path: Path) -> None:
    path = tmp_path / "a.unet.ledger"
    begun(path).close()
    watch = LedgerWatch(path)
    for _ in range(20):
        watch.is_held()
        Ledger(path).close()
