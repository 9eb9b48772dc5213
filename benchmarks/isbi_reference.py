"""The scores of the ISBI 2012 challenge: ours beside what its own program printed, every value.

    python benchmarks/isbi_reference.py [--write] [--time]

Prints the table of docs/reference/metrics-partitions.md, and with --write puts it there. --time
measures the scores of a stack of 30 x 512 x 512 pixels, the size of the challenge's, instead.
"""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

import numpy as np
import tifffile

from napari_unet.metrics.isbi import (
    CHALLENGE_THRESHOLDS,
    cell_scores,
    pixel_scores,
    warping_scores,
)

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "tests" / "data" / "metrics_ref"
PAGE = ROOT / "docs" / "reference" / "metrics-partitions.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"

PRINTED = {
    "pixel error": r"pixelError\S* (\S+)",
    "pixel precision": r"pixelPRF prec (\S+)",
    "pixel recall": r"pixelPRF .*rec (\S+)",
    "pixel F": r"pixelPRF .*F (\S+)",
    "Rand error": r"fgRandError (\S+)",
    "Rand precision": r"fgRandIndexStats prec (\S+)",
    "Rand recall": r"fgRandIndexStats .*rec (\S+)",
    "Rand F, pooled": r"fgRandIndexStats .*F (\S+)",
    "Rand index": r"fgRandIndexStats .*val (\S+)",
    "thinned Rand precision": r"VRandThinned\S* prec (\S+)",
    "thinned Rand recall": r"VRandThinned\S* .*rec (\S+)",
    "thinned V_Rand": r"VRandThinned\S* .*F (\S+)",
    "VOI in nats": r"fgVI (\S+)",
    "V_Info": r"fgF (\S+)",
    "thinned V_Info": r"fgThinned (\S+)",
    "best thinned V_Rand": r"maxVRandThinned (\S+)",
    "best thinned V_Info": r"maxVInfoThinned (\S+)",
    "best pixel F": r"pixelMaxF (\S+)",
    "warping error": r"warping\(.*\) (\S+)",
    "warping error by kind": r"warping no-cluster (\S+)",
    "mistakes, clustered": r"splits\+mergers clustered\S* \S* ?(\d\S+)",
    "least splits and mergers": r"official minSplitsMergers.* (\S+)$",
}
"""Each value that the program printed, and where."""


def expected() -> dict[str, dict[str, float]]:
    """Return, for each file, the printed values by name."""
    text = (DATA / "expected.txt").read_text(encoding="utf-8")
    parts = re.split(r"^== (\w+)\.tif.*$", text, flags=re.MULTILINE)[1:]
    found: dict[str, dict[str, float]] = {}
    for name, lines in zip(parts[::2], parts[1::2], strict=True):
        for value, pattern in PRINTED.items():
            match = re.search(pattern, lines, flags=re.MULTILINE)
            if match:
                found.setdefault(name, {})[value] = float(match[1])
    return found


def measured(name: str) -> dict[str, float]:
    """Return our values for a file, by name."""
    evidence = tifffile.imread(DATA / f"{name}.tif")
    true = tifffile.imread(DATA / "gt.tif") > 0
    is_map = evidence.dtype == np.float32
    at = (0.5 if is_map else 0.0,)
    several = CHALLENGE_THRESHOLDS if is_map else at
    slices = list(zip(evidence, true, strict=True))
    pixels, plain = pixel_scores(slices, at)[0], cell_scores(slices, at, thin=False)[0]
    thinned, warped = cell_scores(slices, at, thin=True)[0], warping_scores(slices, at)[0]
    sweep = cell_scores(slices, several, thin=True)
    return {
        "pixel error": pixels.error,
        "pixel precision": pixels.precision,
        "pixel recall": pixels.recall,
        "pixel F": pixels.f1,
        "Rand error": plain.rand_error,
        "Rand precision": plain.rand.precision,
        "Rand recall": plain.rand.recall,
        "Rand F, pooled": plain.rand.v_rand(),
        "Rand index": plain.rand_index,
        "thinned Rand precision": thinned.rand.precision,
        "thinned Rand recall": thinned.rand.recall,
        "thinned V_Rand": thinned.v_rand,
        "VOI in nats": plain.voi_nats,
        "V_Info": plain.v_info,
        "thinned V_Info": thinned.v_info,
        "best thinned V_Rand": max(score.v_rand for score in sweep),
        "best thinned V_Info": max(score.v_info for score in sweep),
        "best pixel F": max(score.f1 for score in pixel_scores(slices, several)),
        "warping error": warped.error,
        "warping error by kind": sum(warped.pixels.values()) / warped.total,
        "mistakes, clustered": warped.clustered_error,
        "least splits and mergers": min(
            score.splits_and_mergers for score in warping_scores(slices, several)
        ),
    }


def table() -> str:
    """Return the table of all values as Markdown."""
    rows = ["| prediction | value | ours | the challenge's program | difference |"]
    rows.append("|---|---|---|---|---|")
    for name, printed in expected().items():
        ours = measured(name)
        for value, reference in printed.items():
            # The program was made to print 10 digits, and 12 for the warping error.
            digits = 12 if value in list(PRINTED)[-4:] else 10
            gap = abs(ours[value] - reference)
            cells = (
                name,
                value,
                f"{ours[value]:.{digits}f}",
                f"{reference:.{digits}f}",
                "0" if gap < 10**-digits else f"{gap:.0e}",
            )
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def measure_time() -> None:
    """Print the processor seconds that a stack of the challenge's size takes."""
    evidence = np.tile(tifffile.imread(DATA / "smooth_prob.tif"), (10, 3, 3))[:, :512, :512]
    true = np.tile(tifffile.imread(DATA / "gt.tif") > 0, (10, 3, 3))[:, :512, :512]
    for name, scores in (
        ("cells, borders thinned", lambda pairs: cell_scores(pairs, thin=True)),
        ("warping", warping_scores),
    ):
        start = time.process_time()
        scores(zip(evidence, true, strict=True))
        print(f"{name}: {time.process_time() - start:.0f} s for 11 thresholds of {true.shape}")


def main() -> None:
    """Read the command line and print, write or measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the table into the page")
    parser.add_argument("--time", action="store_true", help="measure the time instead")
    options = parser.parse_args()
    if options.time:
        measure_time()
        return
    rows = table()
    print(rows)
    if options.write:
        text = PAGE.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        after = rest.partition(END)[2]
        PAGE.write_text(f"{before}{BEGIN}\n\n{rows}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
