"""Zarr arrays of both versions: values, what is touched, what is missing, what is damaged."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import LocalStore, WrapperStore

from napari_unet.core.boxes import Box
from napari_unet.errors import AxesError, InputError
from napari_unet.io import zarr_chunks
from napari_unet.io.image import Selection, open_image, wrap_array

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ZYX = Selection(axes="zyx")
KINDS: dict[str, dict[str, Any]] = {
    "v2": {"zarr_format": 2},
    "v2 nested": {"zarr_format": 2, "chunk_key_encoding": {"name": "v2", "separator": "/"}},
    "v2 fortran": {"zarr_format": 2, "order": "F"},
    "v3": {"zarr_format": 3},
    "v3 sharded": {"zarr_format": 3, "shards": (2, 32, 64)},
    "v3 crc": {"zarr_format": 3, "compressors": [ZstdCodec(), Crc32cCodec()]},
    "thick chunks": {"chunks": (3, 16, 32)},
    "one chunk": {"chunks": (5, 70, 90)},
}


def write(path: Path, data: np.ndarray[Any, Any], **options: Any) -> zarr.Array[Any]:
    return zarr.create_array(path, data=data, **{"chunks": (1, 16, 32), **options})


class CountingStore(WrapperStore):  # type: ignore[type-arg]
    """Remembers the keys that are read."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self.keys: list[str] = []
        self.listings = 0

    async def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
        self.keys.append(key)
        return await super().get(key, *args, **kwargs)

    def list_prefix(self, prefix: str) -> Any:
        self.listings += 1
        return super().list_prefix(prefix)


@pytest.mark.parametrize("kind", KINDS)
def test_values_of_every_layout(
    kind: str, tmp_path: Path, planes: np.ndarray[Any, Any], check_reads: Callable[..., None]
) -> None:
    write(tmp_path / "my stack.zarr", planes, **KINDS[kind])
    check_reads(open_image(tmp_path / "my stack.zarr", ZYX), planes[None])


@pytest.mark.parametrize("dtype", ["?", "u1", ">u2", "<i4", "u8", ">i8", "<f2", ">f4", "f8"])
@pytest.mark.parametrize("version", [2, 3])
def test_every_real_type(
    dtype: str, version: int, tmp_path: Path, check_reads: Callable[..., None]
) -> None:
    data = (np.arange(20 * 40).reshape(20, 40) % 2).astype(dtype)
    zarr.create_array(tmp_path / "a.zarr", data=data, chunks=(16, 16), zarr_format=version)
    check_reads(open_image(tmp_path / "a.zarr"), data[None, None])


def test_complex_values_are_refused(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", shape=(4, 4), dtype="c8")
    with pytest.raises(InputError, match="complex64"):
        open_image(tmp_path / "a.zarr")


def test_a_plain_array_of_three_axes_is_ambiguous(
    tmp_path: Path, planes: np.ndarray[Any, Any]
) -> None:
    write(tmp_path / "a.zarr", planes)
    with pytest.raises(AxesError, match=r"a\.zarr|a: .*--axes zyx"):
        open_image(tmp_path / "a.zarr")


@pytest.mark.parametrize(
    "options",
    [{"dimension_names": ("Z", "y", "x")}, {"attributes": {"_ARRAY_DIMENSIONS": ["z", "y", "x"]}}],
    ids=["v3 names", "xarray"],
)
def test_the_arrays_own_names_are_axes(
    options: dict[str, Any],
    tmp_path: Path,
    planes: np.ndarray[Any, Any],
    check_reads: Callable[..., None],
) -> None:
    version = 3 if "dimension_names" in options else 2
    write(tmp_path / "a.zarr", planes, zarr_format=version, **options)
    check_reads(open_image(tmp_path / "a.zarr"), planes[None])


def test_given_axes_win_over_the_names(tmp_path: Path, planes: np.ndarray[Any, Any]) -> None:
    write(tmp_path / "a.zarr", planes, dimension_names=("c", "y", "x"))
    assert open_image(tmp_path / "a.zarr", ZYX).shape == planes.shape


def test_only_the_chunks_of_the_box_are_read(planes: np.ndarray[Any, Any]) -> None:
    store = CountingStore(zarr.storage.MemoryStore())
    array = zarr.create_array(store, data=planes, chunks=(1, 16, 32))
    source = wrap_array(array, ZYX)
    store.keys.clear()
    source.read(Box((2, 15, 31), (3, 17, 33)))
    assert sorted(store.keys) == ["c/2/0/0", "c/2/0/1", "c/2/1/0", "c/2/1/1"]


def test_a_thick_chunk_is_decoded_once_for_all_its_slices(planes: np.ndarray[Any, Any]) -> None:
    store = CountingStore(zarr.storage.MemoryStore())
    array = zarr.create_array(store, data=planes, chunks=(5, 35, 90))
    source = wrap_array(array, ZYX)
    store.keys.clear()
    for z in range(5):
        source.read(Box((z, 0, 0), (z + 1, 35, 90)))
    assert store.keys == ["c/0/0/0"]


def test_many_threads_read_the_same_values(tmp_path: Path, planes: np.ndarray[Any, Any]) -> None:
    write(tmp_path / "a.zarr", planes, chunks=(2, 16, 32))
    source = open_image(tmp_path / "a.zarr", ZYX)
    wrong: list[object] = []

    def read(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(10):
            z, y, x = (int(rng.integers(0, n)) for n in planes.shape)
            box = Box((z, y, x), planes.shape)
            try:
                if not np.array_equal(source.read(box)[0], planes[box.slices]):
                    wrong.append(box)
            except Exception as error:  # noqa: BLE001 - a thread's error must fail the test
                wrong.append(error)

    threads = [threading.Thread(target=read, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# ---- missing chunks and samples


def test_missing_chunks_are_those_that_overlap_the_box(tmp_path: Path) -> None:
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(3, 70, 90), chunks=(2, 16, 32), dtype="u1"
    )
    array[:2, :16, :32] = 1
    array[2:, 64:, 64:] = 1
    source = open_image(tmp_path / "a.zarr", ZYX)
    stored = {(0, 0, 0), (1, 4, 2)}
    boxes = [
        Box((z, y, x), (z + 1, y + 9, x + 45))
        for z in range(3)
        for y in (0, 20, 33, 61)
        for x in (0, 45)
    ]
    for box in [Box.of_shape(source.shape), *boxes]:
        voxels = np.argwhere(np.ones(box.shape, bool)) + box.start
        touched = {
            tuple(int(i) for i in chunk) for chunk in np.unique(voxels // (2, 16, 32), axis=0)
        }
        assert source.count_missing_chunks(box) == len(touched - stored)
    assert (source.read(Box((0, 16, 0), (1, 32, 32))) == 0).all()


def test_missing_chunks_of_the_chosen_channels_only(tmp_path: Path) -> None:
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(3, 32, 32), chunks=(1, 16, 16), dtype="u1"
    )
    array[1] = 1
    for channel, missing in {"0": 4, "1": 0, "0,1": 4, "0,2": 8}.items():
        source = open_image(tmp_path / "a.zarr", Selection(axes="cyx", channel=channel))
        assert source.count_missing_chunks(Box.of_shape(source.shape)) == missing


def test_chunks_missing_inside_a_shard_are_counted(tmp_path: Path) -> None:
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(64, 64), chunks=(16, 16), shards=(32, 32), dtype="u1"
    )
    array[:16, :16] = 7
    array[48:, 48:] = 7
    source = open_image(tmp_path / "a.zarr")
    assert source.count_missing_chunks(Box.of_shape(source.shape)) == 14
    assert source.sample_boxes(10**6) == (
        Box((0, 0, 0), (1, 16, 16)),
        Box((0, 48, 48), (1, 64, 64)),
    )


def test_a_sample_of_a_small_image_is_all_of_it(
    tmp_path: Path, planes: np.ndarray[Any, Any]
) -> None:
    write(tmp_path / "a.zarr", planes)
    seen = np.zeros(planes.shape, int)
    for box in open_image(tmp_path / "a.zarr", ZYX).sample_boxes(planes.size):
        seen[box.slices] += 1
    assert (seen == 1).all()


def test_a_sample_is_bounded_spread_and_repeatable(tmp_path: Path) -> None:
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(40, 128, 128), chunks=(1, 16, 16), dtype="u1"
    )
    array[:] = 1
    boxes = open_image(tmp_path / "a.zarr", ZYX).sample_boxes(25_000)
    assert boxes == open_image(tmp_path / "a.zarr", ZYX).sample_boxes(25_000)
    assert 12_500 < sum(box.size for box in boxes) <= 25_000
    starts = np.array([box.start for box in boxes])
    assert (starts.max(0) >= [36, 96, 96]).all()
    assert (starts.min(0) <= [3, 16, 16]).all()
    assert abs(starts.mean(0) - [19.5, 56, 56]).max() < 10


def test_the_few_chunks_of_a_huge_sparse_array_are_found_fast(tmp_path: Path) -> None:
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(40_000, 40_000), chunks=(256, 256), dtype="u1"
    )
    for y, x in [(39_000, 200), (12_345, 31_000), (20_000, 20_000)]:
        array[y : y + 10, x : x + 10] = 9
    began = time.process_time()
    source = open_image(tmp_path / "a.zarr")
    boxes = source.sample_boxes(2**24)
    identity = source.identity()
    assert time.process_time() - began < 2  # 0.2 s where nothing else runs
    assert [box.start[1:] for box in boxes] == [
        (12_288, 30_976),
        (19_968, 19_968),
        (38_912, 0),
    ]
    array[20_000, 20_000] = 8
    assert open_image(tmp_path / "a.zarr").identity()["sha256"] != identity["sha256"]


def test_only_a_sparse_store_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zarr_chunks, "MAX_PROBES", 20)
    store = CountingStore(zarr.storage.MemoryStore())
    array = zarr.create_array(store, shape=(80, 80), chunks=(8, 8), dtype="u1")
    array[:] = 1
    wrap_array(array).sample_boxes(1024)
    assert store.listings == 0
    store = CountingStore(zarr.storage.MemoryStore())
    sparse = zarr.create_array(store, shape=(80, 80), chunks=(8, 8), dtype="u1")
    sparse[72, 40] = 1
    assert wrap_array(sparse).sample_boxes(1024) == (Box((0, 72, 40), (1, 80, 48)),)
    assert store.listings == 1


def test_an_empty_array_samples_its_fill_value(tmp_path: Path) -> None:
    zarr.create_array(
        tmp_path / "a.zarr", shape=(2, 50, 50), chunks=(1, 32, 32), dtype="u1", fill_value=7
    )
    source = open_image(tmp_path / "a.zarr", ZYX)
    (box,) = source.sample_boxes(2000)
    assert (source.read(box) == 7).all()


# ---- identity


def test_identity_sees_a_changed_chunk_and_nothing_else(
    tmp_path: Path, planes: np.ndarray[Any, Any]
) -> None:
    path = tmp_path / "a.zarr"
    array = write(path, planes, chunks=(5, 70, 90))
    first = open_image(path, ZYX).identity()
    array.attrs["note"] = "an attribute is no content"
    assert open_image(path, ZYX).identity() == first
    assert json.loads(json.dumps(first)) == first
    array[0, 0, 0] = planes[0, 0, 0] + 1
    assert open_image(path, ZYX).identity()["sha256"] != first["sha256"]


# ---- damage


def flip(path: Path, position: int = 20) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("chunks", [(1, 16, 32), (2, 16, 32)], ids=["thin", "thick"])
def test_a_damaged_chunk_is_named(
    tmp_path: Path, planes: np.ndarray[Any, Any], chunks: tuple[int, ...]
) -> None:
    path = tmp_path / "a.zarr"
    write(path, planes, chunks=chunks, compressors=[ZstdCodec(), Crc32cCodec()])
    flip(path / "c" / "1" / "2" / "1")
    source = open_image(path, ZYX)
    with pytest.raises(InputError) as error:
        source.read(Box.of_shape(source.shape))
    assert "'c/1/2/1'" in str(error.value)
    assert str(path) in str(error.value)
    assert "restore" in str(error.value)
    box = Box((0, 0, 0), (1, 70, 90))
    np.testing.assert_array_equal(source.read(box)[0], planes[box.slices])


@pytest.mark.parametrize("harm", ["cut", "empty", "folder"])
@pytest.mark.parametrize("kind", ["v2", "v3", "v3 sharded"])
def test_a_harmed_chunk_never_reads_as_fill(
    harm: str, kind: str, tmp_path: Path, planes: np.ndarray[Any, Any]
) -> None:
    path = tmp_path / "a.zarr"
    write(path, planes, **KINDS[kind])
    chunk = path / ("0.0.0" if kind == "v2" else "c/0/0/0")
    content = chunk.read_bytes()
    chunk.unlink()
    if harm == "folder":
        chunk.mkdir()
    else:
        chunk.write_bytes(content[: len(content) // 2] if harm == "cut" else b"")
    with pytest.raises(InputError, match=r"0.0.0"):
        open_image(path, ZYX).read(Box((0, 0, 0), (1, 16, 32)))


def test_a_huge_chunk_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", shape=(2**20, 2**20), chunks=(2**15, 2**15), dtype="u1")
    with pytest.raises(InputError, match=r"1024 MB .*smaller chunks"):
        open_image(tmp_path / "a.zarr")


def metadata_changes() -> dict[str, tuple[int, Callable[[dict[str, Any]], None]]]:
    def put(*keys: Any) -> Callable[[dict[str, Any]], None]:
        *path, last, value = keys

        def change(document: dict[str, Any]) -> None:
            for key in path:
                document = document[key]
            document[last] = value

        return change

    grid = ("chunk_grid", "configuration", "chunk_shape")
    return {
        "zero chunk": (3, put(*grid, [0, 16, 32])),
        "zero chunk v2": (2, put("chunks", [0, 16, 32])),
        "negative chunk": (3, put(*grid, [-1, 16, 32])),
        "negative shape": (3, put("shape", [-5, 70, 90])),
        "text shape": (3, put("shape", "large")),
        "chunk of other rank": (3, put(*grid, [16, 32])),
        "unknown type": (3, put("data_type", "float12")),
        "unknown type v2": (2, put("dtype", "<q9")),
        "object v2": (2, put("dtype", "|O")),
        "unknown codec": (3, put("codecs", [{"name": "magic"}])),
        "unknown codec v2": (2, put("compressor", {"id": "magic"})),
        "other version": (3, put("zarr_format", 4)),
        "no node": (3, put("node_type", "tree")),
    }


@pytest.mark.parametrize("name", metadata_changes())
@pytest.mark.filterwarnings("ignore")
def test_hostile_metadata_is_an_input_error(
    name: str, tmp_path: Path, planes: np.ndarray[Any, Any]
) -> None:
    version, change = metadata_changes()[name]
    path = tmp_path / "a.zarr"
    write(path, planes, zarr_format=version)
    file = path / ("zarr.json" if version == 3 else ".zarray")
    document = json.loads(file.read_text(encoding="utf-8"))
    change(document)
    file.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.zarr"):
        open_image(path, ZYX).read(Box((0, 0, 0), (1, 2, 2)))


@pytest.mark.parametrize("content", [b"", b'{"shape": [1, ', b"[1]", b"\xff\xfe", b"null"])
@pytest.mark.parametrize("version", [2, 3])
def test_torn_metadata_is_an_input_error(
    content: bytes, version: int, tmp_path: Path, planes: np.ndarray[Any, Any]
) -> None:
    path = tmp_path / "a.zarr"
    write(path, planes, zarr_format=version)
    (path / ("zarr.json" if version == 3 else ".zarray")).write_bytes(content)
    with pytest.raises(InputError, match=r"a\.zarr"):
        open_image(path, ZYX)


def test_reading_writes_nothing(tmp_path: Path, planes: np.ndarray[Any, Any]) -> None:
    path = tmp_path / "folder" / "a.zarr"
    write(path, planes)
    before = sorted(p for p in tmp_path.rglob("*"))
    source = open_image(path, ZYX)
    source.read(Box.of_shape(source.shape))
    source.sample_boxes(100)
    source.identity()
    assert sorted(p for p in tmp_path.rglob("*")) == before
    with pytest.raises(ValueError, match="read"):
        source._array[0, 0, 0] = 1  # type: ignore[attr-defined]


def test_probing_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    probes = []
    exists = zarr_chunks.StoredChunks.exists
    monkeypatch.setattr(
        zarr_chunks.StoredChunks, "exists", lambda self, c: probes.append(c) or exists(self, c)
    )
    zarr.create_array(tmp_path / "a.zarr", shape=(10**9, 10**9), chunks=(64, 64), dtype="u1")
    source = open_image(tmp_path / "a.zarr")
    assert len(source.sample_boxes(2**24)) == 1
    assert len(probes) == zarr_chunks.MAX_PROBES == len(set(probes))


def test_a_store_of_another_kind_is_probed_too(
    planes: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    store = CountingStore(LocalStore(tmp_path / "a.zarr"))
    array = zarr.create_array(
        store, shape=planes.shape, chunks=(1, 16, 32), shards=(1, 32, 64), dtype="u2"
    )
    array[1] = planes[1]
    source = wrap_array(array, ZYX)
    assert source.count_missing_chunks(Box.of_shape(planes.shape)) == 4 * 5 * 3
    assert {box.start[0] for box in source.sample_boxes(10**5)} == {1}
    assert len(source.identity()["sha256"]) == 64
