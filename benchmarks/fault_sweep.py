"""What interrupts a segmentation or damages its output, injected everywhere: nothing may be lost.

    python -m benchmarks.fault_sweep [--places 20] [--kills 20] [--only sweep|random]

From the top of the repository. Kills a run of some hundred blocks again and again, at random times,
and compares it with one that nobody disturbed; then prints the table of
docs/explanation/nothing-lost.md. Ends with 1 if anything was not as promised.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

# Before torch is imported: what is measured here are files, not arithmetic.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from tests.faults import sweep as sweeps
from tests.faults.drive import Case, done_blocks, make_image, run

RANDOM_SHAPE = (6, 160, 160)
"""With blocks of 16 x 16: 600 blocks."""


def sweep(places: int | None) -> int:
    """Inject faults and print the table; return how many promises were broken."""
    problems: list[str] = []
    print(sweeps.HEADER)
    began, faults, runs, wrong = time.monotonic(), 0, 0, 0
    with sweeps.temporary_sweep(places) as swept:
        for row in sweeps.rows(swept):
            print(row.markdown(), flush=True)
            problems += row.problems
            for problem in row.problems:
                print(f"NOT AS PROMISED: {problem}", file=sys.stderr, flush=True)
            faults, runs, wrong = faults + row.faults, runs + row.runs, wrong + row.wrong
        cuts, false = sweeps.torn_at_every_byte(swept)
    print(f"| all | {faults} | | | {runs} | | {wrong} |")
    print(f"\nA ledger cut at each of its {cuts} bytes said too much or too little {false} times.")
    print(f"{time.monotonic() - began:.0f} s.")
    return len(problems) + false


def random_kills(kills: int, seed: int) -> int:
    """Kill a run at random times; return how much differs from an undisturbed one."""
    with tempfile.TemporaryDirectory(prefix="random kills ") as name:
        folder = Path(name)
        make_image(folder / "image.zarr", RANDOM_SHAPE)
        case = Case(folder, ["--block-size", "16"])
        out = folder / "killed" / "out.zarr"
        out.parent.mkdir()
        killed, done, seconds = sweeps.random_kills(case, out, kills, seed)
        print(
            f"killed {killed} times at random; {done} blocks were done then; an undisturbed run "
            f"takes {seconds:.1f} s"
        )
        ended = run(case.segment(out))
        bad = case.wrong(out)
        print(
            f"{done_blocks(out)} blocks in the end, exit code {ended.code}; chunks, states and "
            f"leftovers that differ from the undisturbed run: {len(bad)}"
        )
        verified = run(["verify", str(out), "--progress", "none"])
        print(verified.said.replace(str(folder), "FOLDER").strip())
    return len(bad) + (killed < kills) + (ended.code != 0) + (verified.code != 0)


def main() -> int:
    """Do both and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--places", type=int, default=None, help="places per fault [default: all]")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--only", choices=["sweep", "random"])
    arguments = parser.parse_args()
    broken = 0
    if arguments.only != "sweep":
        broken += random_kills(arguments.kills, arguments.seed)
    if arguments.only != "random":
        broken += sweep(arguments.places)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
