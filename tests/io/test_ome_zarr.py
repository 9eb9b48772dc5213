"""OME-Zarr metadata: levels, axes, voxel sizes, and finding the image that a path means."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr

from napari_unet.core.axes import VoxelSize
from napari_unet.core.boxes import Box
from napari_unet.errors import AxesError, InputError
from napari_unet.io.image import Selection, open_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

AXES = [
    {"name": "c", "type": "channel"},
    {"name": "z", "type": "space", "unit": "micrometer"},
    {"name": "y", "type": "space", "unit": "nanometer"},
    {"name": "x", "type": "space", "unit": "nanometer"},
]


def write_multiscale(
    path: Path, version: str, levels: list[np.ndarray[Any, Any]], **changes: Any
) -> None:
    datasets = [
        {
            "path": f"s{k}",
            "coordinateTransformations": [
                {"type": "scale", "scale": [1, 0.04, 2.0**k * 2, 2.0**k * 2]},
                {"type": "translation", "translation": [0, 1, 2.0**k, 5]},
            ],
        }
        for k in range(len(levels))
    ]
    multiscale = {"axes": AXES, "datasets": datasets, "name": "cells", **changes}
    if version == "0.4":
        attributes: dict[str, Any] = {"multiscales": [{"version": "0.4", **multiscale}]}
    else:
        attributes = {"ome": {"version": version, "multiscales": [multiscale]}}
    group = zarr.create_group(
        path, zarr_format=2 if version == "0.4" else 3, attributes=attributes, overwrite=True
    )
    for k, level in enumerate(levels):
        group.create_array(f"s{k}", data=level, chunks=(1,) * (level.ndim - 2) + (16, 16))


@pytest.fixture
def levels(rng: np.random.Generator) -> list[np.ndarray[Any, Any]]:
    return [rng.integers(0, 255, (2, 3, 64 >> k, 40 >> k), dtype=np.uint8) for k in range(3)]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_levels_axes_and_sizes(
    version: str,
    tmp_path: Path,
    levels: list[np.ndarray[Any, Any]],
    check_reads: Callable[..., None],
) -> None:
    path = tmp_path / "my cells.ome.zarr"
    write_multiscale(path, version, levels)
    for chosen in range(3):
        source = open_image(path, Selection(channel="1", level=chosen))
        assert source.name == "my cells"
        assert [level.shape for level in source.levels] == [n.shape[1:] for n in levels[chosen:]]
        first = source.levels[0]
        assert first.voxel_size == VoxelSize(40, 2 * 2**chosen, 2 * 2**chosen, "nanometer")
        assert first.translation == (1000, 2**chosen, 5)
        check_reads(source, levels[chosen][[1]])
    with pytest.raises(AxesError, match="2 channels"):
        open_image(path)
    with pytest.raises(AxesError, match=r"--level 3.*0 to 2"):
        open_image(path, Selection(channel="0", level=3))


def test_transformations_of_the_whole_apply_after_those_of_a_level(
    tmp_path: Path, levels: list[np.ndarray[Any, Any]]
) -> None:
    shared = [
        {"type": "scale", "scale": [1, 10, 10, 10]},
        {"type": "translation", "translation": [0, 0, 100, 0]},
    ]
    write_multiscale(tmp_path / "a.zarr", "0.5", levels, coordinateTransformations=shared)
    level = open_image(tmp_path / "a.zarr", Selection(channel="0")).levels[0]
    assert level.voxel_size == VoxelSize(400, 20, 20, "nanometer")
    assert level.translation == (10_000, 110, 50)


def test_given_axes_win(tmp_path: Path, levels: list[np.ndarray[Any, Any]]) -> None:
    write_multiscale(tmp_path / "a.zarr", "0.5", levels)
    source = open_image(tmp_path / "a.zarr", Selection(axes="zcyx", channel="2"))
    assert source.shape == (2, 64, 40)
    with pytest.raises(AxesError, match="--axes"):
        open_image(tmp_path / "a.zarr", Selection(axes="zyx"))


@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [
        (None, (1, 1, 3, 20, 30), (3, 20, 30)),  # 0.1 and 0.2
        (["z", "y", "x"], (3, 20, 30), (3, 20, 30)),  # 0.3
        (
            [{"name": "Row", "type": "space"}, {"name": "Column", "type": "space"}],
            (20, 30),
            (1, 20, 30),
        ),
        ([{"name": "X"}, {"name": "Y"}], (20, 30), (1, 30, 20)),
    ],
)
def test_axes_of_other_versions(
    axes: Any, shape: tuple[int, ...], expected: tuple[int, ...], tmp_path: Path
) -> None:
    write_multiscale(
        tmp_path / "a.zarr",
        "0.4",
        [np.zeros(shape, np.uint8)],
        axes=axes,
        datasets=[{"path": "s0"}],
    )
    assert open_image(tmp_path / "a.zarr").shape == expected


def test_units_that_cannot_be_converted_leave_the_lengths(
    tmp_path: Path, levels: list[np.ndarray[Any, Any]]
) -> None:
    axes = [AXES[0], {"name": "z", "type": "space"}, AXES[2], AXES[3]]
    write_multiscale(tmp_path / "a.zarr", "0.5", levels, axes=axes)
    size = open_image(tmp_path / "a.zarr", Selection(channel="0")).levels[0].voxel_size
    assert size == VoxelSize(0.04, 2, 2, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"axes": [{"name": "q"}, {"name": "y"}, {"name": "x"}, {"name": "z"}]},
        {"axes": 5},
        {"datasets": []},
        {"datasets": [{"nothing": 1}]},
        {"datasets": [{"path": "s9"}]},
        {"datasets": [{"path": "../other"}]},
        {
            "datasets": [
                {"path": "s0", "coordinateTransformations": [{"type": "scale", "scale": [1]}]}
            ]
        },
        {"datasets": [{"path": "s0", "coordinateTransformations": [{"type": "warp"}]}]},
        {
            "datasets": [
                {
                    "path": "s0",
                    "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 0, 1]}],
                }
            ]
        },
    ],
)
def test_contradictory_metadata_is_an_input_error(
    changes: dict[str, Any], tmp_path: Path, levels: list[np.ndarray[Any, Any]]
) -> None:
    (tmp_path / "inner").mkdir()
    zarr.create_array(tmp_path / "other", data=levels[0])
    write_multiscale(tmp_path / "inner" / "a.zarr", "0.5", levels, **changes)
    with pytest.raises(InputError, match=r"a\.zarr"):
        open_image(tmp_path / "inner" / "a.zarr", Selection(channel="0"))


# ---- which image a path means


def test_a_group_with_one_array_is_that_array(
    tmp_path: Path, planes: np.ndarray[Any, Any], check_reads: Callable[..., None]
) -> None:
    root = zarr.create_group(tmp_path / "a.zarr")
    root.create_group("inner").create_array("raw", data=planes)
    (tmp_path / "a.zarr" / "a note.txt").write_text("no part of the zarr", encoding="utf-8")
    check_reads(open_image(tmp_path / "a.zarr", Selection(axes="zyx")), planes[None])
    inner = tmp_path / "a.zarr" / "inner" / "raw"
    check_reads(open_image(inner, Selection(axes="zyx")), planes[None])
    check_reads(open_image(inner / "zarr.json", Selection(axes="zyx")), planes[None])


@pytest.mark.parametrize("version", [2, 3])
def test_a_group_with_several_arrays_names_them(version: int, tmp_path: Path) -> None:
    root = zarr.create_group(tmp_path / "a.zarr", zarr_format=version)
    root.create_array("raw", shape=(4, 4), dtype="u1")
    root.create_group("more").create_array("labels", shape=(4, 4), dtype="u1")
    with pytest.raises(InputError) as error:
        open_image(tmp_path / "a.zarr")
    assert "more/labels, raw" in str(error.value)


def test_results_alone_are_not_offered_as_an_image(tmp_path: Path) -> None:
    root = zarr.create_group(tmp_path / "out.zarr")
    for inner in ("labels/cells", "probabilities/cells"):
        root.create_array(inner, shape=(4, 4), dtype="u1")
    with pytest.raises(InputError, match=r"results .*labels/cells, probabilities/cells.*no image"):
        open_image(tmp_path / "out.zarr")


def test_a_group_with_nothing_says_so(tmp_path: Path) -> None:
    zarr.create_group(tmp_path / "a.zarr")
    with pytest.raises(InputError, match="no array"):
        open_image(tmp_path / "a.zarr")


def test_an_image_inside_a_larger_group(
    tmp_path: Path, levels: list[np.ndarray[Any, Any]], check_reads: Callable[..., None]
) -> None:
    zarr.create_group(tmp_path / "a.zarr", attributes={"ome": {"bioformats2raw.layout": 3}})
    write_multiscale(tmp_path / "a.zarr" / "0", "0.5", levels)
    for path in (tmp_path / "a.zarr", tmp_path / "a.zarr" / "0"):
        source = open_image(path, Selection(channel="0"))
        assert source.name == "a"
        check_reads(source, levels[0][[0]])


def test_stale_consolidated_metadata_is_not_believed(
    tmp_path: Path, levels: list[np.ndarray[Any, Any]]
) -> None:
    path = tmp_path / "a.zarr"
    write_multiscale(path, "0.4", levels)
    zarr.consolidate_metadata(path, zarr_format=2)
    attributes = json.loads((path / ".zattrs").read_text(encoding="utf-8"))
    datasets = attributes["multiscales"][0]["datasets"]
    datasets[0]["coordinateTransformations"][0]["scale"] = [1, 9, 9, 9]
    (path / ".zattrs").write_text(json.dumps(attributes), encoding="utf-8")
    source = open_image(path, Selection(channel="0"))
    assert source.levels[0].voxel_size.x == 9
    assert source.read(Box((0, 0, 0), (1, 1, 1))).shape == (1, 1, 1, 1)
