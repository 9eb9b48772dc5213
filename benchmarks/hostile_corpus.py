"""The hostile corpus as a table: how many files, what came of them, the slowest, most memory.

    python benchmarks/hostile_corpus.py [WORDS ...]

Makes every file of tests/hostile, opens each in a process of its own, and prints Markdown. Ends
with 1 if one is neither refused nor legal, ran code, or took more than a second of processor time
or 100 MB. Files that go to PyTorch are opened by a further process, whose start is most of their
time; they have a row of their own, without the bound of a second.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MAX_SECONDS = 1.0
MAX_MEGABYTES = 100.0


def outcomes(words: list[str]) -> list[dict[str, Any]]:
    """Open the files whose name holds all words, and return what came of each."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.hostile.measure", *words],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def problems(item: dict[str, Any]) -> list[str]:
    """Return what is wrong with an outcome."""
    found = []
    if item["ended"] == "crashed" or (item["ended"] == "read" and not item["legal"]):
        found.append(f"{item['ended']} {item['error']}")
    if item["ended"] == "refused" and not item["names_file"]:
        found.append("does not name the file")
    if item["ran_code"]:
        found.append("ran code")
    if item["cpu_seconds"] > MAX_SECONDS and not item["worker"]:
        found.append(f"took {item['cpu_seconds']:.2f} s of processor time")
    if item["megabytes"] > MAX_MEGABYTES:
        found.append(f"took {item['megabytes']:.0f} MB")
    return found


def main() -> int:
    """Print the table and what is wrong; return the exit code."""
    groups = defaultdict(list)
    for item in outcomes(sys.argv[1:]):
        groups[item["kind"] + (" (second process)" if item["worker"] else "")].append(item)
    every = [item for group in groups.values() for item in group]
    print("| kind | files | refused | read, legal | slowest | processor time | most memory |")
    print("|---|---|---|---|---|---|---|")
    alone = [item for item in every if not item["worker"]]
    for kind, group in [*groups.items(), ("all but the second process", alone)]:
        refused = sum(item["ended"] == "refused" for item in group)
        read = sum(item["ended"] == "read" and item["legal"] for item in group)
        slowest, busiest, largest = (
            max(item[key] for item in group) for key in ("seconds", "cpu_seconds", "megabytes")
        )
        print(
            f"| {kind} | {len(group)} | {refused} | {read} | {slowest:.2f} s | {busiest:.2f} s "
            f"| {largest:.0f} MB |"
        )
    wrong = [(item, problems(item)) for item in every if problems(item)]
    for item, words in wrong:
        print(f"WRONG: {item['kind']}: {item['name']}: {', '.join(words)}")
    for key, unit in (("seconds", "s"), ("cpu_seconds", "s"), ("megabytes", "MB")):
        item = max(alone, key=lambda each: each[key])
        print(f"\nMost {key}: {item[key]:.2f} {unit}, {item['kind']}: {item['name']}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
