"""Make the crops of `nuclei`: pieces of images with the true classes of their pixels.

::

    python recipes/nuclei_crops.py recipes/nuclei_refine.toml --data FOLDER

A fine-tuned model is compared with its parent on the regression crops, so that what it forgot
shows. They come from the test images, which neither taught nor selected the parent. The rehearsal
crops are learnt from again beside new labels; they come from the images that taught the parent.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from nuclei_data import NucleiFile, read_image, read_index, read_objects, split
from safetensors.numpy import save

from napari_unet.core.classes import ClassInfo
from napari_unet.labels.objects import objects_to_classes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

CLASSES = (
    ClassInfo(name="background", color="#404040"),
    ClassInfo(name="border", color="#ffb000"),
    ClassInfo(name="interior", color="#3a86c8"),
)

SOURCE = (
    "Data Science Bowl 2018, stage 1 (BBBC038, Broad Bioimage Benchmark Collection), with "
    "corrected masks; J. C. Caicedo et al., Nature Methods 16, 2019. CC0 1.0"
)

MODEL = (
    Path(__file__).parents[1] / "src" / "napari_unet" / "resources" / "models/nuclei.safetensors"
)

EDGE = 192
JUDGED_EDGE = 160
"""Of the labeled middle of a regression crop; the rest is what the network sees around it."""

JUDGING = ("dark_bg", "dark_bg", "dark_bg", "color", "color", "light_bg_grey")
"""Kinds of the test images that become regression crops."""

REHEARSED = ("dark_bg",) * 5 + ("color",) * 4 + ("light_bg_grey",)
"""Kinds of the training images that become rehearsal crops; shares as in the recipe."""


def write_both(
    model: Path, data: Path, parts: Mapping[str, Sequence[NucleiFile]], width: float
) -> None:
    """Write both files beside a model, replacing those that are there.

    Parameters
    ----------
    model : Path
        Of its safetensors file.
    data : Path
        Folder of index.csv.
    parts : mapping
        Images that train, select and test.
    width : float
        Of the border, as the recipe says.
    """
    for suffix, part, kinds, edge in (
        ("crops", "test", JUDGING, JUDGED_EDGE),
        ("rehearsal", "train", REHEARSED, EDGE),
    ):
        names = choose(parts[part], kinds)
        path = model.with_suffix(f".{suffix}.safetensors")
        write_crops(path, data, names, (edge, width), f"{part}{'ing' * (part == 'train')} images")
        print(f"{path}: {len(names)} crops, {path.stat().st_size / 1e6:.2f} MB")


def choose(files: Sequence[NucleiFile], kinds: Sequence[str]) -> list[str]:
    """Return one name for each kind that is asked for, spread over the order of the files."""
    left = {kind: [f for f in files if f.kind == kind] for kind in set(kinds)}
    return [
        left[kind][kinds[:k].count(kind) * len(left[kind]) // kinds.count(kind)].name
        for k, kind in enumerate(kinds)
    ]


def write_crops(
    path: Path, data: Path, names: Sequence[str], sizes: tuple[int, float], part: str
) -> None:
    """Write the busiest pieces of images; `sizes`: edge of their labeled middle, border width."""
    tensors, normalizations, (edge, width) = {}, [], sizes
    middle = slice((EDGE - edge) // 2, (EDGE + edge) // 2)
    for k, name in enumerate(names):
        image, objects = read_image(data, name), read_objects(data, name)
        classes = objects_to_classes(objects[np.newaxis], "border", width)[0]
        window = tuple(slice(s, s + EDGE) for s in _busiest(objects))
        labels = np.zeros((EDGE, EDGE), np.uint8)
        labels[middle, middle] = classes[window][middle, middle]
        tensors[f"image_{k}"] = np.ascontiguousarray(image[(slice(None), *window)])[:, np.newaxis]
        tensors[f"labels_{k}"] = labels[np.newaxis]
        scale = [float(v) or 1.0 for v in image.std(axis=(1, 2))]
        normalizations.append(
            {"offset": [float(v) for v in image.mean(axis=(1, 2))], "scale": scale}
        )
    said = {
        "schema_version": 1,
        "class_names": [info.name for info in CLASSES],
        "normalization": normalizations,
        "source": f"{SOURCE}; {part} {', '.join(names)}, offset and scale of the whole image",
        "license": "CC0 1.0",
    }
    path.write_bytes(save(tensors, metadata={"crops": json.dumps(said)}))


def _busiest(objects: npt.NDArray[np.uint16]) -> tuple[int, int]:
    """Return the start of the crop with the most pixels of nuclei, on a grid of 64 pixels."""
    starts = [range(0, n - EDGE + 1, 64) for n in objects.shape]
    places = [(y, x) for y in starts[0] for x in starts[1]]
    return max(
        places, key=lambda p: int((objects[p[0] : p[0] + EDGE, p[1] : p[1] + EDGE] > 0).sum())
    )


def main() -> None:
    """Read the command line and write the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="the recipe")
    parser.add_argument("--data", type=Path, required=True, help="folder of index.csv")
    parser.add_argument("--model", type=Path, default=MODEL, help="beside which they are written")
    options = parser.parse_args()
    config = tomllib.loads(options.config.read_text(encoding="utf-8"))
    parts = split(read_index(options.data), config["data"]["seed"])
    write_both(options.model, options.data, parts, config["sampler"]["width"])


if __name__ == "__main__":
    main()
