"""Train the rows of an ablation from nothing, with equal budgets; score each once on test slices.

::

    python recipes/ablation.py recipes/em_membranes_ablation.toml --data FOLDER --run RUN

The file names the recipe, what all rows share (``[all]``) and what each row changes (``[rows]``).
RUN receives one folder per row, as `train.py` writes it, and `scores.json`. A row that has scores
there is not trained again.
"""

from __future__ import annotations

import argparse
import copy
import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from em_volume import DataSettings, predictor
from score import score
from train import run

from napari_unet.model.unet import UNet

if TYPE_CHECKING:
    from collections.abc import Mapping

SCORES = "scores.json"


def changed(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe with other values, nested tables merged."""
    result = copy.deepcopy(dict(config))
    for name, value in changes.items():
        inner = result.get(name)
        result[name] = (
            changed(inner, value) if isinstance(value, dict) and inner is not None else value
        )
    return result


def row_scores(config: Mapping[str, Any], data: Path, run_dir: Path) -> dict[str, Any]:
    """Return what a trained row reached: on the validation slices, and once on the test slices."""
    with (run_dir / "log.jsonl").open(encoding="utf-8") as log:
        records = [json.loads(line) for line in log]
    best = [record for record in records if record["event"] == "validated" and record["best"]][-1]
    net = UNet(**config["network"]).eval()
    state = torch.load(run_dir / "best.pt", map_location="cpu", weights_only=True)
    net.load_state_dict(state)
    context = DataSettings.parse(config["data"], source="[data]").context
    return {
        "steps": config["loop"]["steps"],
        "seconds": records[-1]["seconds"],
        "validation": best,
        "test": score(predictor(net), data, context=context),
    }


def main() -> None:
    """Read the command line, train and score the rows that lack scores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ablation", type=Path, help="what the rows change")
    parser.add_argument("--data", type=Path, required=True, help="folder of raw.tif, bodies.tif")
    parser.add_argument("--run", type=Path, required=True, help="folder for the rows")
    parser.add_argument("--threads", type=int, default=1, help="of torch; the result depends on it")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    ablation = tomllib.loads(options.ablation.read_text(encoding="utf-8"))
    recipe = options.ablation.parent / ablation["recipe"]
    base = changed(tomllib.loads(recipe.read_text(encoding="utf-8")), ablation["all"])
    options.run.mkdir(parents=True, exist_ok=True)
    kept = options.run / SCORES
    scores = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    for name, changes in ablation["rows"].items():
        if name in scores:
            continue
        config = changed(base, changes)
        config.pop("start", None)
        run(config, options.data, options.run / name)
        scores[name] = row_scores(config, options.data, options.run / name)
        kept.write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
