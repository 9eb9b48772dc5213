"""HDF5 files: data sets are found, read box by box, and lead nowhere else."""

from __future__ import annotations

import json
import sys
import threading
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.core.boxes import Box
from napari_unet.errors import AxesError, InputError
from napari_unet.io.image import Selection, open_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Check = Callable[[Any, np.ndarray[Any, Any]], None]


def tags(axes: str) -> str:
    return json.dumps({"axes": [{"key": a, "typeFlags": 2, "resolution": 0} for a in axes]})


@pytest.mark.parametrize("name", ["a.h5", "a.hdf5", "a.HDF"])
@pytest.mark.parametrize("chunks", [None, True, (2, 32, 32)])
def test_the_only_data_set_is_the_image(
    name: str, chunks: Any, tmp_path: Path, planes: np.ndarray, check_reads: Check
) -> None:
    with h5py.File(tmp_path / name, "w") as file:
        data = file.create_dataset("volume/raw", data=planes, chunks=chunks)
        data.attrs["element_size_um"] = [0.08, 0.004, 0.005]
        data.attrs["axistags"] = tags("zyx")
        file["number"] = 3
        file["table"] = np.zeros(4)
    source = open_image(tmp_path / name)
    assert source.path == f"{tmp_path / name}/volume/raw"
    size = source.levels[0].voxel_size
    assert (size.zyx, size.unit) == ((0.08, 0.004, 0.005), "micrometer")
    check_reads(source, planes[None])


@given(axes=st.permutations("tczyx"), count=st.integers(2, 5), data=st.data())
def test_axes_in_any_order(
    axes: list[str], count: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    chosen = "".join(a for a in axes if a in "yx" or a in "tcz"[: count - 2])
    shape = [data.draw(st.integers(1, 5), label=a) for a in chosen]
    array = np.arange(np.prod(shape), dtype="f4").reshape(shape)
    path = tmp_path_factory.mktemp("h5") / "a.h5"
    with h5py.File(path, "w") as file:
        file["a"] = array
        file["a"].attrs["axistags"] = np.bytes_(tags(chosen))
    at = dict(zip(chosen, shape, strict=True))
    time, channel = at.get("t", 1) - 1, at.get("c", 1) - 1
    source = open_image(path, Selection(time=time, channel=str(channel)))
    rest = array
    for letter, index in (("t", time), ("c", channel)):
        if letter in chosen:
            rest = rest.take(index, axis=chosen.index(letter))
            chosen = chosen.replace(letter, "")
    if "z" not in chosen:
        rest, chosen = rest[None], "z" + chosen
    rest = rest.transpose([chosen.index(a) for a in "zyx"])
    np.testing.assert_array_equal(source.read(Box.of_shape(source.shape))[0], rest)
    source.close()


def test_axes_must_be_said_if_the_file_does_not(tmp_path: Path, check_reads: Check) -> None:
    data = np.arange(24, dtype="u1").reshape(2, 3, 4)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = data
        file["a"].attrs["axistags"] = "{broken"
    with pytest.raises(AxesError, match="--axes"):
        open_image(tmp_path / "a.h5")
    check_reads(open_image(tmp_path / "a.h5", Selection(axes="zyx")), data[None])


def test_one_of_several_is_chosen_by_its_path(tmp_path: Path, check_reads: Check) -> None:
    data = np.arange(12, dtype="i2").reshape(3, 4)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"], file["more/labels"] = data, data + 1
        file["soft"] = h5py.SoftLink("/more/labels")
    with pytest.raises(InputError, match=r"several images \(/raw, /more/labels\).*a.h5/raw"):
        open_image(tmp_path / "a.h5")
    check_reads(open_image(tmp_path / "a.h5" / "more" / "labels"), data[None, None] + 1)
    check_reads(open_image(tmp_path / "a.h5" / "soft"), data[None, None] + 1)
    for name in ("nothing", "raw/deeper", "more"):
        with pytest.raises(InputError, match="/raw, /more/labels"):
            open_image(tmp_path / "a.h5" / name)
    with pytest.raises(InputError, match="no such file"):
        open_image(tmp_path / "b.h5" / "raw")


def test_several_names_of_one_data_set_are_no_choice(tmp_path: Path, check_reads: Check) -> None:
    data = np.arange(12, dtype="i2").reshape(3, 4)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = data
        file["again"] = file["raw"]
        file["group/itself"] = file["/"]
    check_reads(open_image(tmp_path / "a.h5"), data[None, None])


def test_other_files_are_not_opened(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["a"] = np.ones((3, 4))
    (tmp_path / "raw.bin").write_bytes(bytes(12))
    layout = h5py.VirtualLayout((3, 4), "f8")
    layout[:] = h5py.VirtualSource(tmp_path / "secret.h5", "a", (3, 4))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["link"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/a")
        file["indirect"] = h5py.SoftLink("/link")
        file.create_dataset("bytes", (3, 4), "u1", external=[(str(tmp_path / "raw.bin"), 0, 12)])
        file.create_virtual_dataset("virtual", layout)
    for name in ("link", "indirect"):
        with pytest.raises(InputError, match=r"link to another file.*secret\.h5"):
            open_image(tmp_path / "a.h5" / name)
    with pytest.raises(InputError, match=r"other files.*raw\.bin"):
        open_image(tmp_path / "a.h5" / "bytes")
    with pytest.raises(InputError, match=r"other files.*secret\.h5"):
        open_image(tmp_path / "a.h5" / "virtual")


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["one"], file["two"] = h5py.SoftLink("/two"), h5py.SoftLink("/one")
    with pytest.raises(InputError, match="circle"):
        open_image(tmp_path / "a.h5" / "one")


def test_an_absurd_shape_is_read_lazily(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", (10**9, 10**9), "u1", chunks=(64, 64), fillvalue=7)
        file.create_dataset("b", (2**15, 2**15), "u1", chunks=(2**15, 2**15))
    source = open_image(tmp_path / "a.h5" / "a")
    start = (0, 10**8, 10**8)
    assert (source.read(Box(start, (1, 10**8 + 9, 10**8 + 9))) == 7).all()
    source.close()
    with pytest.raises(InputError, match="chunks"):
        open_image(tmp_path / "a.h5" / "b")


@pytest.mark.parametrize("kind", ["text", "compound", "complex", "empty"])
def test_what_is_no_image_is_refused(kind: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        if kind == "text":
            file.create_dataset("a", (3, 4), h5py.string_dtype())
        elif kind == "empty":
            file["a"] = h5py.Empty("f4")
        else:
            file["a"] = np.zeros((3, 4), "c8" if kind == "complex" else "i4,f4")
    with pytest.raises(InputError, match="holds no image"):
        open_image(tmp_path / "a.h5")
    with pytest.raises(InputError, match="real numbers"):
        open_image(tmp_path / "a.h5" / "a")


@pytest.mark.parametrize("size", [0, 100, 3000])
def test_a_cut_off_file_is_said(size: int, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["a"] = np.zeros((50, 50))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=r"a\.h5: this is not a readable HDF5 file"):
        open_image(path)


def test_a_damaged_chunk_is_said(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        noise = rng.integers(0, 255, (50, 50), dtype="u1")
        data = file.create_dataset("a", data=noise, chunks=(50, 50), compression="gzip")
        where = data.id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[where : where + 2000] = bytes(2000)
    path.write_bytes(content)
    source = open_image(path)
    with pytest.raises(InputError, match="cannot be read"):
        source.read(Box.of_shape(source.shape))
    source.close()


@pytest.mark.parametrize("size", [0.0, [1, 2], [1, 2, -3], "large", [np.nan] * 3])
def test_absurd_voxel_sizes_are_unknown(size: Any, tmp_path: Path, planes: np.ndarray) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = planes
        file["a"].attrs["element_size_um"] = size
    source = open_image(tmp_path / "a.h5", Selection(axes="zyx"))
    assert source.levels[0].voxel_size.unit is None
    source.close()


def test_threads_read_together(tmp_path: Path, planes: np.ndarray) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", data=planes, chunks=(1, 16, 16), compression="gzip")
    source = open_image(tmp_path / "a.h5", Selection(axes="zyx"))
    wrong = []

    def work(z: int) -> None:
        for y in range(0, 70, 10):
            data = source.read(Box((z, y, 0), (z + 1, y + 10, 90)))[0, 0]
            if not np.array_equal(data, planes[z, y : y + 10]):
                wrong.append((z, y))

    threads = [threading.Thread(target=work, args=(z,)) for z in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    source.close()
    assert wrong == []


def test_identity_and_closing(tmp_path: Path) -> None:
    found = []
    for value in (0, 1):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["a"] = np.full((5, 5), value)
        source = open_image(tmp_path / "a.h5")
        found.append(source.identity()["sha256"])
        source.close()
        with pytest.raises(InputError, match="closed"):
            source.read(Box.of_shape(source.shape))
    assert found[0] != found[1]


def test_what_to_install_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = np.zeros((5, 5))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"napari-unet\[formats\]"):
        open_image(tmp_path / "a.h5")
