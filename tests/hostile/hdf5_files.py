"""HDF5 files that lead elsewhere, in circles, or to more memory than there is."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from tests.hostile import bombs
from tests.hostile.case import Collector

if TYPE_CHECKING:
    from pathlib import Path

collect = Collector("HDF5", "image")
VALUES = np.random.default_rng(3).integers(0, 255, (64, 64), dtype=np.uint8)


def start(folder: Path) -> h5py.File:
    return h5py.File(folder / "hostile.h5", "w")


def secret(folder: Path) -> str:
    with h5py.File(folder / "secret.h5", "w") as file:
        file["a"] = VALUES
    return str(folder / "secret.h5")


@collect("an external link")
def _(folder: Path) -> Path:
    with start(folder) as file:
        file["a"] = h5py.ExternalLink(secret(folder), "/a")
    return folder / "hostile.h5" / "a"


@collect("an external link on the way")
def _(folder: Path) -> Path:
    with start(folder) as file:
        file["g"] = h5py.ExternalLink(secret(folder), "/")
        file["soft"] = h5py.SoftLink("/g/a")
    return folder / "hostile.h5" / "soft"


@collect("nothing but an external link")
def _(folder: Path) -> Path:
    with start(folder) as file:
        file["a"] = h5py.ExternalLink(secret(folder), "/a")
    return folder / "hostile.h5"


@collect("soft links in a circle")
def _(folder: Path) -> Path:
    with start(folder) as file:
        file["one"], file["two"] = h5py.SoftLink("/two"), h5py.SoftLink("/one")
    return folder / "hostile.h5" / "one"


@collect("a group that contains itself")
def _(folder: Path) -> Path:
    with start(folder) as file:
        group = file.create_group("g")
        group["g"] = group
    return folder / "hostile.h5"


@collect("values in another file")
def _(folder: Path) -> Path:
    (folder / "raw").write_bytes(bytes(4096))
    with start(folder) as file:
        file.create_dataset("a", (64, 64), "u1", external=[(str(folder / "raw"), 0, 4096)])
    return folder / "hostile.h5"


def virtual(folder: Path, source: str, name: str) -> Path:
    layout = h5py.VirtualLayout((64, 64), "u1")
    layout[:] = h5py.VirtualSource(source, name, (64, 64))
    with start(folder) as file:
        file.create_virtual_dataset("v", layout)
        file["link"] = h5py.ExternalLink(secret(folder), "/")
    return folder / "hostile.h5" / "v"


collect.add("a virtual data set of another file", lambda f: virtual(f, secret(f), "a"))
collect.add("a virtual data set of itself", lambda f: virtual(f, ".", "v"))
collect.add("a virtual data set behind a link", lambda f: virtual(f, ".", "link/a"))


@collect("chunks of 4 GB")
def _(folder: Path) -> Path:
    with start(folder) as file:
        file.create_dataset("a", (65535, 65535), "u1", chunks=(65535, 65535))
    return folder / "hostile.h5"


@collect("a shape beyond 62 bits")
def _(folder: Path) -> Path:
    with start(folder) as file:
        file.create_dataset("a", (2**32, 2**31), "u1", chunks=(64, 64))
    return folder / "hostile.h5"


@collect("a shape of 10^18, nothing stored: read as fill", legal=True)
def _(folder: Path) -> Path:
    with start(folder) as file:
        file.create_dataset("a", (10**9, 10**9), "u1", chunks=(64, 64))
    return folder / "hostile.h5"


def chunked(folder: Path, chunk: bytes, **options: Any) -> Path:
    """Write a data set of one chunk that holds these bytes as they are stored."""
    with start(folder) as file:
        data = file.create_dataset("a", (64, 64), "u1", chunks=(64, 64), **options)
        data.id.write_direct_chunk((0, 0), chunk)
    return folder / "hostile.h5"


GZIP: dict[str, Any] = {"compression": "gzip"}
collect.add("a deflate bomb", lambda f: chunked(f, bombs.deflate(), **GZIP))
collect.add("a deflate bomb, shuffled", lambda f: chunked(f, bombs.deflate(), **GZIP, shuffle=True))
collect.add(
    "a deflate bomb with a checksum",
    lambda f: chunked(f, bombs.deflate() + bytes(4), **GZIP, fletcher32=True),
)
collect.add(
    "a chunk that is cut off", lambda f: chunked(f, zlib.compress(VALUES.tobytes())[:-99], **GZIP)
)
collect.add(
    "a chunk of half the size", lambda f: chunked(f, zlib.compress(bytes(2048)), **GZIP), legal=True
)
collect.add("a chunk of 64 MB where 4 kB should be", lambda f: chunked(f, bytes(2**26), **GZIP))
collect.add(
    "an LZF bomb", lambda f: chunked(f, b"\x00a" + b"\xe0\xff\x00" * 2**20, compression="lzf")
)
collect.add("a filter without bound", lambda f: chunked(f, bytes(4096), scaleoffset=0))


@collect("objects")
def _(folder: Path) -> Path:
    with start(folder) as file:
        file.create_dataset("a", (4, 4), h5py.string_dtype())
    return folder / "hostile.h5" / "a"


@collect("axistags nested 60,000 deep", legal=True)
def _(folder: Path) -> Path:
    with start(folder) as file:
        file["a"] = VALUES
        file["a"].attrs["axistags"] = "[" * 60_000
    return folder / "hostile.h5"


@collect("5,000 members, no image")
def _(folder: Path) -> Path:
    with h5py.File(folder / "hostile.h5", "w", libver="latest") as file:
        for k in range(5000):
            file.create_group(str(k))
    return folder / "hostile.h5"


@collect("a name of 100,000 letters")
def _(folder: Path) -> Path:
    with start(folder) as file:
        file["a"] = VALUES
    return folder / "hostile.h5" / "/".join(["a" * 200] * 10)


for _cut in (0, 8, 96, 800, 2000):

    @collect(f"the first {_cut} bytes")
    def _(folder: Path, cut: int = _cut) -> Path:
        with start(folder) as file:
            file["a"] = VALUES
        path = folder / "hostile.h5"
        path.write_bytes(path.read_bytes()[:cut])
        return path


@collect("a superblock that points behind the end")
def _(folder: Path) -> Path:
    with start(folder) as file:
        file["a"] = VALUES
    data = bytearray((folder / "hostile.h5").read_bytes())
    struct.pack_into("<Q", data, 64, 2**60)
    (folder / "hostile.h5").write_bytes(data)
    return folder / "hostile.h5"


CASES = collect.cases
