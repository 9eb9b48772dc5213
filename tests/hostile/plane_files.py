"""PNG, JPEG, .npy and MRC files, and folders of planes, that are damaged or lie."""

from __future__ import annotations

import io
import pickle
import struct
import zlib
from typing import TYPE_CHECKING, Any

import imageio.v3 as iio
import numpy as np
from tests.hostile import bombs
from tests.hostile.case import Collector, RunsCode
from tests.hostile.tiff_files import PLANE, jpeg_of, saved

if TYPE_CHECKING:
    from pathlib import Path

raster = Collector("PNG, JPEG", "image")
npy = Collector(".npy", "image")
mrc = Collector("MRC", "image")


def write(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def png(width: int, height: int, data: bytes, *, kind: int = 0, extra: bytes = b"") -> bytes:
    """Return a PNG of 8 bits from its edges and the content of its IDAT."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def text_bomb(name: bytes) -> bytes:
    body = name + b"a\0\0" + bombs.deflate()
    if name == b"iTXt":
        body = b"a\0\1\0\0\0" + bombs.deflate()
    else:
        body = b"a\0\0" + bombs.deflate()
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


NOTHING = zlib.compress(b"")
raster.add(
    "PNG of 2^31 - 1 edges", lambda f: write(f, "hostile.png", png(2**31 - 1, 2**31 - 1, NOTHING))
)
raster.add(
    "PNG of 60,000 x 60,000", lambda f: write(f, "hostile.png", png(60_000, 60_000, NOTHING))
)
raster.add(
    "PNG of 20,000 x 20,000, cut off",
    lambda f: write(f, "hostile.png", png(20_000, 20_000, NOTHING)),
)
raster.add(
    "PNG of 10,000 x 13,000 in color",
    lambda f: write(f, "hostile.png", png(10_000, 13_000, NOTHING, kind=2)),
)
raster.add("PNG with edges of 0", lambda f: write(f, "hostile.png", png(0, 0, NOTHING)))
raster.add(
    "PNG with more data than pixels",
    lambda f: write(f, "hostile.png", png(64, 64, bombs.deflate())),
    legal=True,
)
raster.add(
    "PNG with damaged data",
    lambda f: write(f, "hostile.png", png(64, 64, b"\x78\x9c" + b"\xff" * 99)),
)
for _kind in (b"zTXt", b"iTXt", b"iCCP"):
    raster.add(
        f"PNG with a bomb in {_kind.decode()}",
        lambda f, k=_kind: write(
            f, "hostile.png", png(64, 64, zlib.compress(bytes(64 * 65)), extra=text_bomb(k))
        ),
        legal=True,
    )
raster.add("JPEG of 65,500 x 65,500", lambda f: write(f, "hostile.jpg", jpeg_of(65_500, 65_500)))
raster.add(
    "JPEG of 20,000 x 20,000, cut off", lambda f: write(f, "hostile.jpg", jpeg_of(20_000, 20_000))
)
raster.add("JPEG with edges of 0", lambda f: write(f, "hostile.jpg", jpeg_of(0, 0)))
raster.add("JPEG of three bytes", lambda f: write(f, "hostile.jpg", b"\xff\xd8\xff"))
raster.add("a pickle called .png", lambda f: write(f, "hostile.png", pickle.dumps(RunsCode(f))))
raster.add("an empty file", lambda f: write(f, "hostile.png", b""))


@raster("PostScript, which a decoder would run, called .png")
def _(folder: Path) -> Path:
    run = f"(%pipe%mkdir {folder}/canary) (r) file"
    return write(
        folder, "hostile.png", f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{run}\n".encode()
    )


@raster("slices of which one is a pipe", legal=True)
def _(folder: Path) -> Path:
    import os

    (folder / "stack").mkdir()
    for k in range(2):
        iio.imwrite(folder / "stack" / f"z{k}.png", PLANE)
    os.mkfifo(folder / "stack" / "z2.png")
    return folder / "stack"


@raster("slices of which one claims 60,000 x 60,000")
def _(folder: Path) -> Path:
    (folder / "stack").mkdir()
    iio.imwrite(folder / "stack" / "z0.png", PLANE)
    write(folder / "stack", "z1.png", png(60_000, 60_000, NOTHING))
    return folder / "stack"


@raster("a TIFF stack among slices")
def _(folder: Path) -> Path:
    (folder / "stack").mkdir()
    saved(folder / "stack", np.zeros((3, 32, 32), np.uint8), "z0.tif")
    return folder / "stack"


@raster("a pipe called .png")
def _(folder: Path) -> Path:
    import os

    os.mkfifo(folder / "hostile.png")
    return folder / "hostile.png"


def npy_head(header: str, version: tuple[int, int] = (1, 0), tail: bytes = bytes(64)) -> bytes:
    text = header.encode("latin1") + b"\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text + tail


def described(shape: str, kind: str = "'|u1'", order: str = "False") -> str:
    return f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}, }}"


@npy("objects, which are a pickle")
def _(folder: Path) -> Path:
    objects = np.empty((2, 2), object)
    objects[:] = RunsCode(folder)
    stream = io.BytesIO()
    np.save(stream, objects, allow_pickle=True)
    return write(folder, "hostile.npy", stream.getvalue())


for _name, _content in {
    "a shape of 10^18": npy_head(described("(1000000000, 1000000000)")),
    "a shape beyond 64 bits": npy_head(described(f"({2**70}, {2**70})")),
    "a negative shape": npy_head(described("(-4, -16)")),
    "a shape of 100,000 axes": npy_head(described("(" + "1," * 100_000 + ")"), (2, 0)),
    "a header of 2 GB": b"\x93NUMPY\x02\0" + struct.pack("<I", 2**31) + bytes(100),
    "a header nested 5,000 deep": npy_head("(" * 5000 + ")" * 5000),
    "a header that calls a function": npy_head("__import__('os').mkdir('canary')"),
    "a header with a formula": npy_head(described("(9**9**9, 4)")),
    "values of 2^31 bytes": npy_head(described("(2, 2)", f"'|S{2**31 - 1}'")),
    "records": npy_head(described("(2, 2)", "[('a', '<u2'), ('b', '<u2')]")),
    "version 9": npy_head(described("(8, 8)"), (9, 0)),
    "only a magic": b"\x93NUMPY",
    "a pickle": pickle.dumps({"a": 1}),
}.items():
    npy.add(_name, lambda f, c=_content: write(f, "hostile.npy", c))


def mrc_head(shape: tuple[int, int, int] = (8, 8, 8), **changed: Any) -> bytes:
    """Return a header of MRC2014; `changed` maps word numbers, as w4, to values."""
    words: dict[int, Any] = {1: shape[2], 2: shape[1], 3: shape[0], 4: 0}
    words |= {8: shape[2], 9: shape[1], 10: shape[0], 17: 1, 18: 2, 19: 3, 23: 1, 24: 0}
    words |= {int(name[1:]): value for name, value in changed.items()}
    head = bytearray(1024)
    for word, value in words.items():
        struct.pack_into("<i", head, 4 * (word - 1), value)
    head[208:216] = b"MAP \x44\x44\0\0"
    return bytes(head)


for _name, _content in {
    "2^31 - 1 in every direction": mrc_head((2**31 - 1,) * 3),
    "edges of -1": mrc_head((-1, -1, -1)),
    "edges of 0": mrc_head((0, 8, 8)),
    "an extended header of 2^31 - 1 bytes": mrc_head(w24=2**31 - 1) + bytes(512),
    "a negative extended header": mrc_head(w24=-1024) + bytes(512),
    "mode 77": mrc_head(w4=77) + bytes(512),
    "mode -1": mrc_head(w4=-1) + bytes(512),
    "complex numbers": mrc_head(w4=4) + bytes(8 * 512),
    "volumes of no section": mrc_head(w23=401, w10=0) + bytes(512),
    "volumes that do not come out even": mrc_head(w23=401, w10=3) + bytes(512),
    "volumes of -8 sections": mrc_head(w23=401, w10=-8) + bytes(512),
    "half of its values": mrc_head() + bytes(256),
    "half a header": mrc_head()[:500],
    "1024 bytes of 255": b"\xff" * 1024,
    "no byte": b"",
}.items():
    mrc.add(_name, lambda f, c=_content: write(f, "hostile.mrc", c))
mrc.add(
    "axes that are none",
    lambda f: write(f, "hostile.mrc", mrc_head(w17=9, w18=9) + bytes(512)),
    legal=True,
)
CASES = [*raster.cases, *npy.cases, *mrc.cases]
