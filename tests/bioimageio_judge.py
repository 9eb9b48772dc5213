"""Let the bioimage.io library judge packages, in a process of its own.

``python tests/bioimageio_judge.py FOLDER...`` validates ``FOLDER/package.zip``, lets the library
reproduce its test output and answer ``FOLDER/image.npy``, and leaves ``verdict.json`` and
``answer.npy`` in the folder. In a process of its own, because the library leaves files open, which
our tests take for an error.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np


def allow_second_argument() -> None:
    """Make the library work with pydantic 2.14.

    bioimageio.spec 0.5.12, which bioimageio.core 0.11 demands, gives pydantic's serializers a
    second argument in two places, as an example in pydantic's documentation once did. pydantic
    ignored it before 2.14 and refuses it since; bioimageio.spec 0.5.14 leaves it out. So does
    this, and changes nothing else of the library.
    """
    import bioimageio.spec._internal.io_packaging as packaging
    import bioimageio.spec.model.v0_4 as older

    places = ((packaging, packaging.package_file_descr_serializer), (older, older.package_weights))
    for module, function in places:
        original = types.FunctionType(function.__code__, function.__globals__)
        module._serialize_as_before = original  # type: ignore[attr-defined]
        # Its classes hold the function itself, so the function is changed and not its name.
        function.__code__ = _serialize.__code__


def _serialize(value: Any, handler: Any, info: Any) -> Any:
    # Runs as a function of the library's module, which has the other one.
    return globals()["_serialize_as_before"](value, lambda item, _: handler(item), info)


def judge(folder: Path) -> dict[str, Any]:
    """Return what the library thinks of a package, and leave its answer."""
    import bioimageio.core
    from bioimageio.core.digest_spec import create_sample_for_model
    from bioimageio.spec.model.v0_5 import ModelDescr

    description = bioimageio.core.load_description(folder / "package.zip")
    verdict: dict[str, Any] = {"newest": ModelDescr.implemented_format_version}
    if not isinstance(description, ModelDescr):
        return verdict | {"valid": False, "words": description.validation_summary.format()}
    summary = bioimageio.core.test_model(description, devices=["cpu"])
    image = np.load(folder / "image.npy")
    with bioimageio.core.create_prediction_pipeline(description, devices=["cpu"]) as pipeline:
        sample = create_sample_for_model(description, inputs={"image": image})
        answer = pipeline.predict_sample_without_blocking(sample).members["probabilities"]
    np.save(folder / "answer.npy", np.asarray(answer.data))
    (given,), (output,) = description.inputs, description.outputs
    sizes = [given.axes[2].size.get_size(n) for n in range(500)]
    outputs = [output.axes[2].size.get_size(output.axes[2], given.axes[2], n=n) for n in range(500)]
    return verdict | {
        "valid": True,
        "reproduced": summary.status == "passed",
        "words": summary.format(),
        "description": bioimageio.core.dump_description(description),
        "lost": sorted({size - lost for size, lost in zip(sizes, outputs, strict=True)}),
    }


if __name__ == "__main__":
    allow_second_argument()
    for name in sys.argv[1:]:
        (Path(name) / "verdict.json").write_text(json.dumps(judge(Path(name)), default=str))
