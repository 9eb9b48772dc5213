"""The ledger: what it says is what was entered, however it was torn, and one process writes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.errors import LockedError, StorageError
from napari_unet.io.ledger import BlockEntry, Ledger, LedgerContent, read_ledger

if TYPE_CHECKING:
    from pathlib import Path

FINGERPRINT = {"model": "ab", "region": "0:1,0:9,0:9"}
SETTLED = {"normalization": {"offset": [0.1], "scale": [3.0]}}
BLOCKS = [(0, 0, 0), (0, 0, 1), (0, 7, 12)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out found.unet.ledger"


def fill(path: Path) -> list[int]:
    """Write a ledger, and return its length after each line."""
    with Ledger(path) as ledger:
        assert ledger.read() is None
        lengths = [ledger.begin(FINGERPRINT, SETTLED).good_bytes]
        ledger.enter_run("2026-01-01T00:00:00Z", device="cpu")
        lengths.append(path.stat().st_size)
        for number, block in enumerate(BLOCKS):
            ledger.enter_done(block, BlockEntry(number, number or None, number))
            lengths.append(path.stat().st_size)
    return lengths


def expected(lines: int) -> dict[tuple[int, ...], BlockEntry]:
    return {b: BlockEntry(n, n or None, n) for n, b in enumerate(BLOCKS[: max(lines - 2, 0)])}


def read(path: Path) -> LedgerContent:
    found = read_ledger(path)
    assert found is not None
    return found


def test_what_was_entered_is_read_back(path: Path) -> None:
    fill(path)
    found = read(path)
    assert (found.fingerprint, found.settled) == (FINGERPRINT, SETTLED)
    assert (found.done, found.nonfinite, found.failed) == (expected(5), 3, {})
    assert (found.last_run["pid"], found.last_run["device"]) == (os.getpid(), "cpu")


def test_torn_at_every_byte_it_holds_the_whole_lines_and_goes_on(path: Path) -> None:
    lengths, whole = fill(path), path.read_bytes()
    for length in range(lengths[0], len(whole) + 1):
        path.write_bytes(whole[:length])
        lines = sum(length >= n for n in lengths)
        assert read(path).done == expected(lines)
        with Ledger(path) as ledger:
            ledger.read()
            ledger.enter_run("later")
            ledger.enter_done((9, 9, 9), BlockEntry(5))
        assert read(path).done == expected(lines) | {(9, 9, 9): BlockEntry(5)}


@given(data=st.data())
def test_no_damage_makes_a_block_done_that_was_not(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "x.unet.ledger"
    fill(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        where = data.draw(st.integers(0, len(content) - 1))
        content[where] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        found = read_ledger(path)
    except StorageError:
        # The header is damaged; that this is said well is tested below.
        return
    assert found is not None
    assert found.done.items() <= expected(5).items()


@given(content=st.binary(max_size=300))
def test_foreign_files_are_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "x.unet.ledger"
    path.write_bytes(content)
    with pytest.raises(StorageError, match="--overwrite"):
        read_ledger(path)


def test_the_last_word_on_a_block_counts(path: Path) -> None:
    fill(path)
    with Ledger(path) as ledger:
        ledger.read()
        ledger.enter_run("later")
        ledger.enter_failed(BLOCKS[0], "chunk 0/0 is damaged")
    assert read(path).failed == {BLOCKS[0]: "chunk 0/0 is damaged"}
    assert BLOCKS[0] not in read(path).done
    with Ledger(path) as ledger:
        ledger.read()
        ledger.enter_run("later still")
        ledger.enter_done(BLOCKS[0], BlockEntry(77))
    assert read(path).failed == {}
    assert read(path).done[BLOCKS[0]] == BlockEntry(77)


def test_a_second_run_is_told_who_is_at_work(path: Path) -> None:
    fill(path)
    with Ledger(path) as ledger:
        ledger.read()
        ledger.enter_run("2026-02-03T04:05:06Z")
        with pytest.raises(LockedError, match=f"process {os.getpid()} on .* 2026-02-03T04:05:06Z"):
            Ledger(path)
    Ledger(path).close()


def test_the_lock_of_a_dead_process_is_free(path: Path) -> None:
    fill(path)
    program = (
        "import os, sys, pathlib\n"
        "from napari_unet.io.ledger import Ledger\n"
        "ledger = Ledger(pathlib.Path(sys.argv[1]))\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as held:
        try:
            assert held.stdout is not None
            assert held.stdout.readline() == b"held\n"
            with pytest.raises(LockedError):
                Ledger(path)
        finally:
            held.kill()
    Ledger(path).close()


def test_a_line_that_the_disk_refuses_leaves_no_torn_tail(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(path)
    write = os.write

    with Ledger(path) as ledger:
        ledger.read()
        ledger.enter_run("later")
        before = path.read_bytes()
        calls = iter([5])

        def once(descriptor: int, data: bytes) -> int:
            for n in calls:
                return write(descriptor, bytes(data)[:n])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "write", once)
        with pytest.raises(StorageError, match="free some space"):
            ledger.enter_done((1, 1, 1), BlockEntry(1))
        assert path.read_bytes() == before
        monkeypatch.setattr(os, "write", write)
        ledger.enter_done((2, 2, 2), BlockEntry(2))
    assert (1, 1, 1) not in read(path).done
    assert read(path).done[2, 2, 2] == BlockEntry(2)
