"""Cores and memory: what a container allows counts, not what the machine has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from napari_unet.app.examining.limits import GroupLimits, group_limits, memory_bytes, usable_cores
from napari_unet.app.examining.machine import judge_memory, judge_threads

if TYPE_CHECKING:
    from pathlib import Path

FREE = GroupLimits(None, None)


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n", "memory.max": "2000000000\n"}, (1.5, 2 * 10**9)),
        ("0::/\n", {"cpu.max": "max 100000\n", "memory.max": "max\n"}, (None, None)),
        (
            "0::/slurm/job_7/step\n",
            {
                "slurm/job_7/step/cpu.max": "max 100000",
                "slurm/job_7/cpu.max": "400000 100000",
                "slurm/cpu.max": "800000 100000",
                "slurm/job_7/memory.max": "8000",
                "slurm/job_7/step/memory.max": "9000",
            },
            (4.0, 8000),
        ),
        (
            "4:memory:/docker/ab\n3:cpu,cpuacct:/docker/ab\n2:pids:/docker/ab\n",
            {
                "memory/memory.limit_in_bytes": "5000",
                "cpu,cpuacct/cpu.cfs_quota_us": "50000",
                "cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            (0.5, 5000),
        ),
        (
            "4:memory:/\n3:cpu:/\n",
            {
                "memory/memory.limit_in_bytes": "9223372036854771712",
                "cpu/cpu.cfs_quota_us": "-1",
                "cpu/cpu.cfs_period_us": "100000",
            },
            (None, None),
        ),
        ("", {}, (None, None)),
    ],
)
def test_the_tightest_group_counts(
    tmp_path: Path,
    membership: str,
    files: dict[str, str],
    expected: tuple[float | None, int | None],
) -> None:
    write(tmp_path, {f"groups/{name}": text for name, text in files.items()})
    write(tmp_path, {"membership": membership})
    limits = group_limits(tmp_path / "groups", tmp_path / "membership")
    assert (limits.cores, limits.memory_bytes) == expected


def test_this_machine_has_cores_and_memory() -> None:
    total, free = memory_bytes()
    assert usable_cores() >= 1
    assert total is not None
    assert free is None or 0 < free <= total


def test_free_memory_is_what_the_system_can_give(tmp_path: Path) -> None:
    text = "MemTotal:  2000 kB\nMemFree:  10 kB\nMemAvailable:  1500 kB\nHugePages_Total: 0\n"
    (tmp_path / "meminfo").write_text(text)
    assert memory_bytes(tmp_path / "meminfo") == (2000 * 1024, 1500 * 1024)


@pytest.mark.parametrize(
    ("threads", "limits", "named", "state", "text"),
    [
        (8, FREE, None, "ok", "the network takes 8 threads"),
        (8, GroupLimits(1.5, None), None, "note", "2 of"),
        (1, FREE, "1", "note", "OMP_NUM_THREADS=1"),
        (4, FREE, None, "ok", "4 threads"),
        (None, FREE, None, "ok", "8 of"),
    ],
)
def test_threads_are_compared_with_the_cores_that_may_be_used(
    monkeypatch: pytest.MonkeyPatch,
    threads: int | None,
    limits: GroupLimits,
    named: str | None,
    state: str,
    text: str,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if named is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", named)
    finding = judge_threads(threads, 8, limits)
    assert finding.state == state
    assert text in finding.text


@pytest.mark.parametrize(
    ("total", "free", "limit", "state"),
    [
        (32 * 10**9, 20 * 10**9, None, "ok"),
        (32 * 10**9, 20 * 10**9, 2 * 10**9, "note"),
        (32 * 10**9, 5 * 10**8, None, "problem"),
        (None, None, None, "note"),
        (None, None, 5 * 10**8, "problem"),
    ],
)
def test_memory_is_judged_by_the_least(
    total: int | None, free: int | None, limit: int | None, state: str
) -> None:
    assert judge_memory(total, free, GroupLimits(None, limit)).state == state
