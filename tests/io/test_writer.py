"""The writer: what is on disk is valid OME-Zarr, checksummed, and nobody else's data is touched."""

from __future__ import annotations

import errno
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaozarrs
import zarr
from zarr.storage import LocalStore

from napari_unet.core.arrays import PyramidLevel
from napari_unet.core.axes import VoxelSize
from napari_unet.core.boxes import Box
from napari_unet.core.classes import ClassInfo
from napari_unet.errors import ConfigError, OutputExistsError, StorageError
from napari_unet.io import ome_zarr_writer, output_state
from napari_unet.io.image import Selection, open_image, wrap_array
from napari_unet.io.ome_zarr_writer import OutputSpec, create_output, read_output_state
from napari_unet.io.pyramid import Reduction, plan_levels

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = (ClassInfo(name="interior", color="#00a0ff"), ClassInfo(name="membrane", color="#FF2000"))
SIZE = VoxelSize(40.0, 4.0, 5.0, "nanometer")
VARIANTS: dict[str, dict[str, Any]] = {
    "0.5": {},
    "0.5 sharded": {"shards": True},
    "0.4": {"ome_version": "0.4"},
}


def levels_of(shape: tuple[int, ...], count: int = 3) -> tuple[PyramidLevel, ...]:
    """Return levels halved along y and x, as `plan_levels` makes them for larger images."""
    z, y, x = shape
    return tuple(
        PyramidLevel(
            (z, -(-y // 2**k), -(-x // 2**k)),
            VoxelSize(SIZE.z, SIZE.y * 2**k, SIZE.x * 2**k, SIZE.unit),
            (7.0, 1.0 + k, 2.0 + k),
        )
        for k in range(count)
    )


def spec_of(path: Path, shape: tuple[int, ...] = (3, 70, 90), **options: Any) -> OutputSpec:
    defaults: dict[str, Any] = {
        "path": path,
        "name": "em-membranes",
        "spatial_axes": "zyx",
        "levels": levels_of(shape),
        "classes": CLASSES,
        "block_edge": 64,
        "chunk_edge": 32,
        "attributes": {"fingerprint": {"model": "abc"}, "job": {"tile_size": None}},
    }
    return OutputSpec(**{**defaults, **options})


def fill(
    spec: OutputSpec, region: Box | None = None
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Write random labels and probabilities in blocks; return them, 0 outside the region."""
    rng = np.random.default_rng(0)
    shape = spec.levels[0].shape
    region = region or Box.of_shape(shape)
    labels, probable = np.zeros(shape, np.uint8), np.zeros((2, *shape), np.float32)
    labels[region.slices] = rng.integers(1, 3, region.shape)
    first = rng.uniform(0.1, 0.9, region.shape)
    probable[(slice(None), *region.slices)] = np.stack([first, 1 - first])
    output = create_output(spec, replace=False)
    edge = spec.block_edge
    for z, y, x in np.ndindex(shape[0], -(-shape[1] // edge), -(-shape[2] // edge)):
        block = Box((z, y * edge, x * edge), (z + 1, (y + 1) * edge, (x + 1) * edge))
        block = block.intersection(region)
        if not block.is_empty:
            output.write_labels(block, labels[block.slices])
            if spec.probability_type:
                output.write_probabilities(block, probable[(slice(None), *block.slices)])
    steps = list(output.build_pyramid(region))
    assert [done for done, _ in steps] == list(range(1, len(steps) + 1))
    assert {total for _, total in steps} <= {len(steps)}
    output.finish({"fingerprint": spec.attributes["fingerprint"], "provenance": {"seconds": 1.5}})
    output.close()
    return labels, probable


# ---- what is written


@pytest.mark.parametrize("axes", ["zyx", "yx"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_written_images_are_valid_and_hold_the_values(
    variant: str, axes: str, tmp_path: Path
) -> None:
    out = tmp_path / "ein Ordner" / "out ü.zarr"
    shape = (3, 70, 90) if axes == "zyx" else (1, 70, 90)
    spec = spec_of(out, shape, spatial_axes=axes, probability_type="float32", **VARIANTS[variant])
    labels, probable = fill(spec)
    version = spec.ome_version
    for kind in ("labels", "probabilities"):
        path = out / kind / spec.name
        assert yaozarrs.open_group(str(path)).ome_version() == version
        yaozarrs.validate_zarr_store(str(path))
    if version == "0.5":
        yaozarrs.validate_zarr_store(str(out / "labels"))
    keep = len(axes)
    plain = zarr.open_array(out / "labels" / spec.name / "0", mode="r")
    assert (plain.dtype, plain.fill_value, plain.shape) == (np.uint8, 0, shape[-keep:])
    np.testing.assert_array_equal(np.asarray(plain[:]).reshape(shape), labels)
    source = open_image(out / "probabilities" / spec.name, Selection(channel="0,1"))
    np.testing.assert_array_equal(source.read(Box.of_shape(shape)), probable)
    for opened in (open_image(out / "labels" / spec.name), source):
        assert opened.spatial_axes == axes
        assert [level.shape for level in opened.levels] == [n.shape for n in spec.levels]
        for found, wanted in zip(opened.levels, spec.levels, strict=True):
            assert found.voxel_size.zyx[-keep:] == wanted.voxel_size.zyx[-keep:]
            assert found.translation[-keep:] == wanted.translation[-keep:]
            assert found.voxel_size.unit == "nanometer"


@pytest.mark.parametrize("variant", VARIANTS)
def test_coarser_levels_are_reductions_of_the_finer(variant: str, tmp_path: Path) -> None:
    spec = spec_of(tmp_path / "a.zarr", probability_type="float32", **VARIANTS[variant])
    labels, probable = fill(spec)
    for level in (1, 2):
        reduction = Reduction(spec.levels[level - 1].shape, spec.levels[level].shape)
        whole = Box.of_shape(reduction.coarse)
        labels, probable = (
            reduction.labels(whole, labels),
            reduction.probabilities(whole, probable),
        )
        for kind, wanted in (("labels", labels), ("probabilities", probable)):
            stored = zarr.open_array(spec.path / kind / spec.name / str(level), mode="r")
            np.testing.assert_allclose(np.asarray(stored[:]), wanted, rtol=1e-6)


@pytest.mark.parametrize("shards", [False, True])
def test_a_region_leaves_the_rest_unwritten(shards: bool, tmp_path: Path) -> None:
    region = Box((1, 40, 50), (2, 66, 90))
    spec = spec_of(tmp_path / "a.zarr", shards=shards)
    labels, _ = fill(spec, region)
    source = open_image(spec.path / "labels" / spec.name)
    np.testing.assert_array_equal(source.read(Box.of_shape(source.shape))[0], labels)
    folder = spec.path / "labels" / spec.name
    for level in range(3):
        assert {p.name for p in (folder / str(level) / "c").iterdir()} == {"1"}
        touched = np.asarray(zarr.open_array(folder / str(level), mode="r")[1])
        a, b = (np.array(n[1:]) // 2**level for n in (region.start, region.stop))
        assert (touched[a[0] : b[0], a[1] : b[1]] != 0).all()
        assert (touched[: a[0] - 1] == 0).all()


def test_levels_of_other_programs_are_followed(tmp_path: Path) -> None:
    shapes = [(5, 71, 93), (5, 35, 46), (2, 18, 23), (2, 7, 9)]
    levels = tuple(PyramidLevel(shape, SIZE) for shape in shapes)
    spec = spec_of(tmp_path / "a.zarr", levels=levels)
    fill(spec)
    for level, shape in enumerate(shapes):
        stored = zarr.open_array(spec.path / "labels" / spec.name / str(level), mode="r")
        assert stored.shape == shape
        assert (np.asarray(stored[:]) > 0).all()


def test_the_pyramid_is_the_same_with_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for limit in (2**24, 3000):
        monkeypatch.setattr(ome_zarr_writer, "MAX_PYRAMID_VALUES", limit)
        spec = spec_of(tmp_path / f"{limit}.zarr", (1, 70, 90), probability_type="float16")
        fill(spec)
        results.append(
            [
                np.asarray(zarr.open_array(spec.path / kind / spec.name / "2", mode="r")[:])
                for kind in ("labels", "probabilities")
            ]
        )
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


def test_metadata_tell_classes_colors_and_provenance(tmp_path: Path) -> None:
    spec = spec_of(tmp_path / "a.zarr", probability_type="float16", source_path="/data/a.tif")
    fill(spec)
    label = zarr.open_group(spec.path / "labels" / spec.name, mode="r").attrs.asdict()
    image_label = label["ome"]["image-label"]
    assert image_label["colors"] == [
        {"label-value": 1, "rgba": [0, 160, 255, 255]},
        {"label-value": 2, "rgba": [255, 32, 0, 255]},
    ]
    assert [p["name"] for p in image_label["properties"]] == ["interior", "membrane"]
    ours = label["napari_unet"]
    assert (ours["state"], ours["source"], ours["provenance"]) == (
        "complete",
        "/data/a.tif",
        {"seconds": 1.5},
    )
    probable = zarr.open_group(spec.path / "probabilities" / spec.name, mode="r")
    channels = probable.attrs.asdict()["ome"]["omero"]["channels"]
    assert [(c["label"], c["color"]) for c in channels] == [
        ("interior", "00A0FF"),
        ("membrane", "FF2000"),
    ]
    assert probable["0"].dtype == np.float16  # type: ignore[union-attr]
    assert probable["0"].metadata.dimension_names == ("c", "z", "y", "x")  # type: ignore[union-attr]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.filterwarnings("ignore")
def test_a_flipped_bit_anywhere_in_a_chunk_is_noticed(variant: str, tmp_path: Path) -> None:
    spec = spec_of(tmp_path / "a.zarr", **VARIANTS[variant])
    labels, _ = fill(spec)
    array = spec.path / "labels" / spec.name / "0"
    chunk = array / ("1/0/0" if variant == "0.4" else "c/1/0/0")
    content = chunk.read_bytes()
    rng = np.random.default_rng(0)
    noticed = 0
    for _ in range(40):
        damaged = bytearray(content)
        damaged[rng.integers(0, len(content))] ^= 1 << int(rng.integers(0, 8))
        chunk.write_bytes(damaged)
        try:
            data = np.asarray(zarr.open_array(array, mode="r")[1])
        except (ValueError, RuntimeError):
            noticed += 1
        else:  # a bit of a frame header may mean nothing
            np.testing.assert_array_equal(data, labels[1])
    assert noticed >= 36


def test_chunks_and_shards_as_promised(tmp_path: Path) -> None:
    big = spec_of(
        tmp_path / "a.zarr", (3, 3000, 2500), block_edge=1024, chunk_edge=512, shards=True
    )
    assert (big.chunk_shape(0), big.shard_shape(0)) == ((1, 512, 512), (1, 1024, 1024))
    assert create_output(big, replace=False).chunk_shape == (1, 1024, 1024)
    small = spec_of(tmp_path / "b.zarr", (3, 250, 1000), block_edge=1024, chunk_edge=512)
    assert small.chunk_shape(0) == (1, 256, 512)
    assert create_output(small, replace=False).chunk_shape == (1, 256, 512)
    fill(spec_of(tmp_path / "c.zarr", shards=True))
    fill(spec_of(tmp_path / "d.zarr"))
    counts = [
        sum(p.is_file() for p in (tmp_path / name / "labels/em-membranes/0/c").rglob("*"))
        for name in ("c.zarr", "d.zarr")
    ]
    assert counts == [3 * 2 * 2, 3 * 3 * 3]


@pytest.mark.parametrize("block", [16, 64, 100, 768, 1000, 1024, 1234])
@pytest.mark.parametrize("size", [1, 100, 700, 1024, 5000])
def test_blocks_are_a_whole_number_of_chunks(block: int, size: int, tmp_path: Path) -> None:
    spec = spec_of(tmp_path, (1, size, size), block_edge=block, chunk_edge=512)
    edge = spec.chunk_shape(0)[1]
    assert edge <= 512
    assert block % edge == 0 or edge >= size
    spec = spec_of(tmp_path, (1, size, size), block_edge=block, chunk_edge=512, shards=True)
    shard = spec.object_shape(0)[1]
    assert shard % edge == 0
    assert shard == block or shard >= size


# ---- states, names, what is not ours


def test_states_of_a_run(tmp_path: Path) -> None:
    spec = spec_of(tmp_path / "a.zarr")
    assert read_output_state(spec.path, spec.name) is None
    output = create_output(spec, replace=False)
    state = read_output_state(spec.path, spec.name)
    assert state is not None
    assert (state.state, state.attributes["job"]) == ("incomplete", {"tile_size": None})
    assert state.labels_path == str(output.labels_path) == str(spec.path / "labels/em-membranes/0")
    output.finish({"job": {"tile_size": 5}})
    state = read_output_state(spec.path, spec.name)
    assert state is not None
    assert (state.state, state.attributes["job"]) == ("complete", {"tile_size": 5})
    assert read_output_state(spec.path, "other") is None


def test_state_cannot_be_faked_by_attributes(tmp_path: Path) -> None:
    create_output(spec_of(tmp_path / "a.zarr", attributes={"state": "complete"}), replace=False)
    state = read_output_state(tmp_path / "a.zarr", "em-membranes")
    assert state is not None
    assert state.state == "incomplete"


def test_several_names_share_an_output(tmp_path: Path) -> None:
    first = spec_of(tmp_path / "a.zarr", probability_type="float32")
    labels, _ = fill(first)
    create_output(spec_of(tmp_path / "a.zarr", name="second"), replace=False)
    names = zarr.open_group(tmp_path / "a.zarr" / "labels", mode="r").attrs.asdict()["ome"]
    assert names == {"version": "0.5", "labels": ["em-membranes", "second"]}
    np.testing.assert_array_equal(
        np.asarray(zarr.open_array(first.path / "labels/em-membranes/0", mode="r")[:]), labels
    )


def test_a_name_is_replaced_only_when_asked(tmp_path: Path) -> None:
    spec = spec_of(tmp_path / "a.zarr", probability_type="float32")
    fill(spec)
    fill(spec_of(tmp_path / "a.zarr", name="other"))
    with pytest.raises(OutputExistsError, match="--overwrite"):
        create_output(spec, replace=False)
    create_output(spec_of(tmp_path / "a.zarr"), replace=True)
    assert not np.asarray(zarr.open_array(spec.path / "labels/em-membranes/0", mode="r")[:]).any()
    assert not (spec.path / "probabilities" / "em-membranes").exists()
    assert np.asarray(zarr.open_array(spec.path / "labels/other/0", mode="r")[:]).all()
    left = [p.name for p in (spec.path / "labels").iterdir()]
    assert sorted(left) == ["em-membranes", "other", "zarr.json"]


@pytest.mark.parametrize("thing", ["file", "folder", "group", "array", "ome image"])
def test_what_we_did_not_make_is_left_alone(thing: str, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    if thing == "file":
        out.write_bytes(b"precious")
    elif thing == "folder":
        out.mkdir()
        (out / "thesis.txt").write_bytes(b"precious")
    elif thing == "array":
        zarr.create_array(out, data=np.ones((4, 4)))
    else:
        attributes = {"ome": {"version": "0.5", "multiscales": []}} if "ome" in thing else {}
        zarr.create_group(out, attributes=attributes)
    before = {p: p.read_bytes() for p in [out, *out.rglob("*")] if p.is_file()}
    for action in (
        lambda: read_output_state(out, "em-membranes"),
        lambda: create_output(spec_of(out), replace=True),
    ):
        with pytest.raises(StorageError, match=r"out\.zarr"):
            action()
    assert {p: p.read_bytes() for p in [out, *out.rglob("*")] if p.is_file()} == before


def test_a_label_image_of_another_program_is_left_alone(tmp_path: Path) -> None:
    spec = spec_of(tmp_path / "a.zarr", name="mine")
    create_output(spec, replace=False)
    zarr.create_array(tmp_path / "a.zarr" / "labels" / "theirs" / "0", data=np.ones((4, 4)))
    (tmp_path / "a.zarr" / "labels" / "theirs" / "zarr.json").write_text(
        json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}}), encoding="utf-8"
    )
    with pytest.raises(StorageError, match="not made by napari-unet"):
        create_output(spec_of(tmp_path / "a.zarr", name="theirs"), replace=True)
    assert (tmp_path / "a.zarr" / "labels" / "theirs" / "0" / "c" / "0" / "0").exists()


def test_an_empty_folder_and_torn_leftovers_may_be_used(tmp_path: Path) -> None:
    out = tmp_path / "a.zarr"
    (out / "labels" / "em-membranes").mkdir(parents=True)
    (out / "labels" / "em-membranes" / "zarr.json.abc.partial").write_bytes(b"{")
    assert read_output_state(out, "em-membranes") is None
    fill(spec_of(out))
    assert read_output_state(out, "em-membranes") is not None


def test_attributes_of_ours_without_their_group_are_what_a_crash_left(tmp_path: Path) -> None:
    spec = spec_of(tmp_path / "whole.zarr", ome_version="0.4")
    create_output(spec, replace=False)
    half = tmp_path / "half.zarr"
    half.mkdir()
    (half / ".zattrs").write_bytes((spec.path / ".zattrs").read_bytes())
    assert read_output_state(half, "em-membranes") is None
    fill(spec_of(half, ome_version="0.4"))
    assert read_output_state(half, "em-membranes") is not None


def test_attributes_of_others_without_their_group_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".zattrs").write_text('{"of": "somebody else"}')
    with pytest.raises(StorageError, match="other content"):
        read_output_state(tmp_path, "em-membranes")


def test_versions_do_not_mix(tmp_path: Path) -> None:
    create_output(spec_of(tmp_path / "a.zarr"), replace=False)
    with pytest.raises(StorageError, match=r"is OME-Zarr 0\.5.*--ome-version 0\.5"):
        create_output(spec_of(tmp_path / "a.zarr", name="b", ome_version="0.4"), replace=False)
    with pytest.raises(StorageError, match="no shards"):
        create_output(spec_of(tmp_path / "b.zarr", ome_version="0.4", shards=True), replace=False)


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b", "x" * 101, "c:d"])
def test_names_that_are_no_folder_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="label image"):
        spec_of(tmp_path / "a.zarr", name=name)


# ---- what the system refuses


def test_an_output_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(StorageError, match="file"):
        create_output(spec_of(tmp_path / "file" / "a.zarr"), replace=False)


def test_a_folder_without_permission_is_named_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(output_state.tempfile, "TemporaryFile", refuse)
    with pytest.raises(StorageError, match=r"a\.zarr: .*cannot be written: Permission denied"):
        create_output(spec_of(tmp_path / "a.zarr"), replace=False)
    assert list((tmp_path / "a.zarr").iterdir()) == []


@pytest.mark.parametrize("what", ["labels", "probabilities", "pyramid"])
def test_a_full_disk_is_a_storage_error_and_keeps_what_was_written(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(tmp_path / "a.zarr", probability_type="float32")
    output = create_output(spec, replace=False)
    box = Box((0, 0, 0), (1, 64, 64))
    output.write_labels(box, np.ones(box.shape, np.uint8))
    output.write_probabilities(box, np.full((2, *box.shape), 0.5, np.float32))

    async def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    actions = {
        "labels": lambda: output.write_labels(box, np.full(box.shape, 2, np.uint8)),
        "probabilities": lambda: output.write_probabilities(
            box, np.ones((2, *box.shape), np.float32)
        ),
        "pyramid": lambda: list(output.build_pyramid(box)),
    }
    # To the end: zarr reports the first chunk that fails while it is still writing the others.
    monkeypatch.setattr(LocalStore, "set", full)
    monkeypatch.setattr(LocalStore, "_set", full)
    with pytest.raises(StorageError) as error:
        actions[what]()
    assert "No space left" in str(error.value)
    assert "free some space" in str(error.value)
    stored = zarr.open_array(output.labels_path, mode="r")
    assert (np.asarray(stored[0, :64, :64]) == 1).all()
    state = read_output_state(spec.path, spec.name)
    assert state is not None
    assert state.state == "incomplete"


def test_damage_below_the_pyramid_is_not_built_upon(tmp_path: Path) -> None:
    spec = spec_of(tmp_path / "a.zarr")
    output = create_output(spec, replace=False)
    box = Box.of_shape((3, 70, 90))
    output.write_labels(box, np.ones(box.shape, np.uint8))
    chunk = output.labels_path / "c" / "1" / "1" / "1"
    chunk.write_bytes(chunk.read_bytes()[:-2])
    with pytest.raises(StorageError, match="cannot be read back"):
        list(output.build_pyramid(box))


@pytest.mark.parametrize(
    ("box", "data"),
    [
        (Box((0, 0, 0), (1, 8, 8)), np.zeros((1, 8, 9), np.uint8)),
        (Box((0, 0, 84), (1, 8, 92)), np.zeros((1, 8, 8), np.uint8)),
        (Box((0, 0, 0), (1, 8, 8)), np.zeros((1, 8, 8), np.int64)),
    ],
)
def test_data_that_does_not_fit_is_refused(
    box: Box, data: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    output = create_output(spec_of(tmp_path / "a.zarr"), replace=False)
    with pytest.raises(StorageError):
        output.write_labels(box, data)
    with pytest.raises(StorageError, match="without probabilities"):
        output.write_probabilities(box, np.zeros((2, 1, 8, 8), np.float32))
    output.close()
    with pytest.raises(StorageError, match="closed"):
        output.write_labels(Box((0, 0, 0), (1, 8, 8)), np.ones((1, 8, 8), np.uint8))


def test_the_output_lies_over_its_source(tmp_path: Path) -> None:
    source = wrap_array(
        np.zeros((2, 40, 50)), Selection(axes="zyx"), voxel_size=SIZE, translation=(1, 2, 3)
    )
    spec = spec_of(tmp_path / "a.zarr", levels=plan_levels(source))
    fill(spec)
    assert open_image(spec.path / "labels" / spec.name).levels == source.levels
    assert open_image(spec.path).levels == source.levels


# ---- numbered objects


@pytest.mark.parametrize("label_type", ["uint32", "uint64"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_objects_are_stored_with_all_their_digits(
    variant: str, label_type: Any, tmp_path: Path
) -> None:
    spec = spec_of(
        tmp_path / "a.zarr", classes=(), label_type=label_type, name="cells", **VARIANTS[variant]
    )
    box = Box.of_shape(spec.levels[0].shape)
    highest = np.iinfo(label_type).max
    objects = np.random.default_rng(1).integers(0, highest, box.shape, label_type, endpoint=True)
    objects[:, ::3] = 0
    output = create_output(spec, replace=False)
    output.write_labels(box, objects)
    list(output.build_pyramid(box))
    output.finish({})
    path = spec.path / "labels" / spec.name
    yaozarrs.validate_zarr_store(str(path))
    source = open_image(path)
    assert source.dtype == np.dtype(label_type)
    np.testing.assert_array_equal(source.read(box)[0], objects)
    for level in (1, 2):
        coarse = np.asarray(zarr.open_array(path / str(level), mode="r")[:])
        reduction = Reduction(spec.levels[level - 1].shape, spec.levels[level].shape)
        objects = reduction.objects(Box.of_shape(reduction.coarse), objects)
        np.testing.assert_array_equal(coarse, objects)
    state = read_output_state(spec.path, spec.name)
    assert state is not None
    assert state.attributes["kind"] == "objects"


def test_labels_of_another_type_than_the_output_are_refused(tmp_path: Path) -> None:
    output = create_output(
        spec_of(tmp_path / "a.zarr", classes=(), label_type="uint32"), replace=False
    )
    box = Box((0, 0, 0), (1, 8, 8))
    with pytest.raises(StorageError, match="convert to uint32"):
        output.write_labels(box, np.ones(box.shape, np.uint64))
    with pytest.raises(ConfigError, match="neither classes nor probabilities"):
        spec_of(tmp_path / "a.zarr", label_type="uint32")
