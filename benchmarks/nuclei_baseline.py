"""What a net has to beat: nuclei by Otsu's threshold and a distance watershed.

::

    python benchmarks/nuclei_baseline.py --data FOLDER --output OUT
    napari-unet evaluate OUT FOLDER/labels --truth-kind instances --allow-missing --output REPORT

FOLDER holds the Data Science Bowl 2018, stage 1, with corrected masks: ``index.csv``,
``images/NAME.png``, ``labels/NAME.png``. Written are the label images of the fifth of the set that
the recipe of the model `nuclei` keeps for testing (``recipes/nuclei_data.py``); ``--names`` prints
their names.

Nothing is tuned: the gray image, smoothed a little, is cut by Otsu's threshold; nuclei are the side
that fills less of it, since they are bright in fluorescence and dark in stained tissue; touching
ones are cut by a watershed from the maxima of the distance to the background.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt, gaussian_filter
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.measure import label
from skimage.morphology import remove_small_objects
from skimage.segmentation import watershed

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
sys.path.insert(0, str(RECIPES))

# mypy does not look into the folder that was put on the path
from nuclei_data import (  # type: ignore[import-not-found]  # noqa: E402
    read_image,
    read_index,
    split,
)

SMOOTHING = 1.0
"""Standard deviation in pixels: takes camera noise away, and no nucleus."""

MIN_DISTANCE = 5
"""Between the middles of two nuclei, in pixels."""

MIN_PIXELS = 30
"""Smaller objects are specks; as for the model."""


def find_nuclei(image: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """Return numbered nuclei (Y, X) of an image (3, Y, X), 0 = background."""
    gray = gaussian_filter(image.mean(axis=0), SMOOTHING)
    level = threshold_otsu(gray)  # type: ignore[no-untyped-call]  # scikit-image
    mask = gray > level
    if mask.mean() > 0.5:
        mask = ~mask
    mask = remove_small_objects(mask, max_size=MIN_PIXELS - 1)
    distance = distance_transform_edt(mask)
    # The distance is smoothed, or every bump of an outline would be a middle.
    smooth = gaussian_filter(distance, SMOOTHING)
    parts = label(mask)  # type: ignore[no-untyped-call]  # as above
    peaks = peak_local_max(  # type: ignore[no-untyped-call]  # as above
        smooth, min_distance=MIN_DISTANCE, labels=parts
    )
    seeds = np.zeros(mask.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    grown = watershed(-distance, seeds, mask=mask)  # type: ignore[no-untyped-call]  # as above
    nuclei: npt.NDArray[np.uint16] = grown.astype(np.uint16)
    return nuclei


def main() -> None:
    """Write the label images of the test images, or print their names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--output", type=Path, help="folder to write label images to")
    parser.add_argument("--names", action="store_true", help="print the names of the test images")
    options = parser.parse_args()
    seed = tomllib.loads((RECIPES / "nuclei.toml").read_text(encoding="utf-8"))["data"]["seed"]
    files = split(read_index(options.data), seed)["test"]
    if options.names:
        print("\n".join(file.name for file in files))
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        for file in files:
            nuclei = find_nuclei(read_image(options.data, file.name))
            iio.imwrite(options.output / f"{file.name}.png", nuclei)


if __name__ == "__main__":
    main()
