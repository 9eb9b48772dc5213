"""TIFF files that are cut off, lie about their size, or want other files opened."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from tests.hostile import bombs
from tests.hostile.case import Collector

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

collect = Collector("TIFF", "image")
SECRET = b"the content of another file of the same person"
PLANE = np.random.default_rng(7).integers(0, 255, (32, 32), dtype=np.uint8)


def tiff(
    entries: Mapping[int, tuple[int, int, int]], tail: bytes = b"", *, follow: int = 0
) -> bytes:
    """Return a little-endian TIFF of one page from tag -> (type, count, value or offset)."""
    body = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(entries.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + struct.pack("<I", follow) + tail


def page(
    width: int, height: int, **changed: tuple[int, int, int]
) -> dict[int, tuple[int, int, int]]:
    """Return the tags of a gray page; `changed` names tags as t256 and so on."""
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 200, 277: 1, 278: height}
    tags[279] = min(width * height, 2**32 - 1)
    found = {tag: (4, 1, value) for tag, value in tags.items()}
    return found | {int(name[1:]): entry for name, entry in changed.items()}


def write(folder: Path, content: bytes, name: str = "hostile.tif") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def saved(folder: Path, data: Any = PLANE, name: str = "hostile.tif", **options: Any) -> Path:
    tifffile.imwrite(folder / name, data, **{"photometric": "minisblack"} | options)
    return folder / name


def ome(folder: Path, pixels: str, *, before: str = "", data: Any = PLANE) -> Path:
    """Write an OME-TIFF whose XML holds these Pixels elements."""
    xml = f'{before}<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{pixels}</OME>'
    return saved(folder, data, "hostile.ome.tif", description=xml, metadata=None, contiguous=False)


def pixels(inner: str = '<TiffData IFD="0" PlaneCount="1"/>', **sizes: int) -> str:
    given = {"X": 32, "Y": 32, "Z": 1, "C": 1, "T": 1} | sizes
    text = " ".join(f'Size{axis}="{n}"' for axis, n in given.items())
    return (
        f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" {text}>'
        f"{inner}</Pixels></Image>"
    )


for _count in (0, 1, 4, 7, 8, 9, 20, 60, 150):
    collect.add(
        f"the first {_count} bytes",
        lambda folder, n=_count: write(folder, saved(folder, compression="zlib").read_bytes()[:n]),
    )
collect.add("another format", lambda f: write(f, b"\x89PNG\r\n\x1a\n" + bytes(100)))
collect.add("half of the data", lambda f: write(f, saved(f).read_bytes()[:-512]))


@collect("219 bytes that claim 60,000 x 60,000 pixels")
def _(folder: Path) -> Path:
    return write(folder, tiff(page(60_000, 60_000)))


@collect("edges of 2^32 - 1")
def _(folder: Path) -> Path:
    return write(folder, tiff(page(2**32 - 1, 2**32 - 1)))


@collect("an edge of 0")
def _(folder: Path) -> Path:
    return write(folder, tiff(page(0, 40)))


@collect("pages in a circle")
def _(folder: Path) -> Path:
    return write(folder, tiff(page(4, 4), bytes(200), follow=8))


@collect("the first page behind the end")
def _(folder: Path) -> Path:
    return write(folder, b"II*\0" + struct.pack("<I", 2**31) + bytes(50))


@collect("65,535 tags that are not there")
def _(folder: Path) -> Path:
    return write(folder, b"II*\0" + struct.pack("<IH", 8, 65535) + bytes(100))


@collect("2^31 strips")
def _(folder: Path) -> Path:
    many = page(4000, 4000, t273=(4, 2**31, 8), t279=(4, 2**31, 8), t278=(4, 1, 1))
    return write(folder, tiff(many, bytes(500)))


@collect("a description of 2^32 - 1 bytes")
def _(folder: Path) -> Path:
    return write(folder, tiff(page(16, 16, t270=(2, 2**32 - 1, 8)), bytes(300)))


@collect("a strip of 2 GB, compressed")
def _(folder: Path) -> Path:
    return write(folder, tiff(page(46_000, 46_000, t259=(3, 1, 8)), bytes(100)))


@collect("values of 65,535 bits")
def _(folder: Path) -> Path:
    return write(folder, tiff(page(16, 16, t258=(3, 1, 65535)), bytes(400)))


@collect("65,535 samples in a pixel")
def _(folder: Path) -> Path:
    return write(folder, tiff(page(16, 16, t277=(3, 1, 65535)), bytes(400)))


@collect("an unknown compression")
def _(folder: Path) -> Path:
    return write(folder, tiff(page(16, 16, t259=(3, 1, 4711)), bytes(400)))


@collect("a strip that lies behind the end")
def _(folder: Path) -> Path:
    return write(folder, tiff(page(16, 16, t273=(4, 1, 2**32 - 100)), bytes(400)))


@collect("tiles of 2^31 pixels")
def _(folder: Path) -> Path:
    entries = page(64, 64, t259=(3, 1, 8), t322=(4, 1, 2**31), t323=(4, 1, 2**31))
    entries |= {324: (4, 1, 300), 325: (4, 1, 50)}
    return write(folder, tiff(entries, bytes(400)))


@collect("tiles of no size")
def _(folder: Path) -> Path:
    entries = page(64, 64, t259=(3, 1, 8), t322=(4, 1, 0), t323=(4, 1, 0))
    entries |= {324: (4, 1, 300), 325: (4, 1, 50)}
    return write(folder, tiff(entries, bytes(400)))


@collect("byte counts of 0: no data, said as such", legal=True)
def _(folder: Path) -> Path:
    path = saved(folder, tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags["TileByteCounts"].overwrite([0, 0, 0, 0])
    return path


@collect("BigTIFF with offsets of 2^64 - 1")
def _(folder: Path) -> Path:
    return write(folder, b"II+\0" + struct.pack("<HHQ", 8, 0, 2**64 - 1) + bytes(100))


@collect("BigTIFF with offsets of 3 bytes")
def _(folder: Path) -> Path:
    return write(folder, b"II+\0" + struct.pack("<HHQ", 3, 0, 16) + bytes(100))


@collect("BigTIFF with 2^60 tags")
def _(folder: Path) -> Path:
    return write(folder, b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, 2**60) + bytes(100))


def compressed(folder: Path, bomb: bytes, code: int, edge: int = 256) -> Path:
    """Write a page of one strip with this compressed content."""
    entries = page(edge, edge, t259=(3, 1, code), t279=(4, 1, len(bomb)))
    head = tiff(entries)
    entries[273] = (4, 1, len(head))
    return write(folder, tiff(entries) + bomb)


collect.add("a deflate bomb", lambda f: compressed(f, bombs.deflate(), 8), legal=True)
collect.add("a Zstandard bomb", lambda f: compressed(f, bombs.zstd(), 50000), legal=True)
collect.add(
    "a Zstandard bomb that hides its size",
    lambda f: compressed(f, bombs.zstd(says_size=False), 50000),
    legal=True,
)
collect.add("an LZMA bomb", lambda f: compressed(f, bombs.xz(), 34925), legal=True)
collect.add("damaged LZW", lambda f: compressed(f, b"\x80\x0b" * 50, 5))


def jpeg_of(width: int, height: int) -> bytes:
    """Return a tiny JPEG whose frame claims other edges."""
    import io

    import imageio.v3 as iio

    stream = io.BytesIO()
    iio.imwrite(stream, np.zeros((16, 16), np.uint8), extension=".jpg")
    data = stream.getvalue()
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


collect.add(
    "a JPEG of 65,000 x 65,000 in a strip", lambda f: compressed(f, jpeg_of(65000, 65000), 7)
)


@collect("a JPEG 2000 of 2^31 pixels in a strip")
def _(folder: Path) -> Path:
    sizes = struct.pack(">HHIIIIIIIIH", 41, 0, 2**16, 2**15, 0, 0, 2**16, 2**15, 0, 0, 1)
    return compressed(folder, b"\xff\x4f\xff\x51" + sizes + b"\x07\x01\x01" + bytes(64), 33003)


@collect("a PNG of 60,000 x 60,000 in a strip")
def _(folder: Path) -> Path:
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(
        ">I4sIIBBBBB", 13, b"IHDR", 60000, 60000, 8, 0, 0, 0, 0
    )
    return compressed(folder, head + bytes(100), 34933)


@collect("a WebP of 16,384 x 16,384 in a strip")
def _(folder: Path) -> Path:
    head = b"RIFF\x40\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\x3f\0" * 2
    return compressed(folder, head + bytes(64), 50001)


for _code, _kind in ((34934, "JPEG XR"), (34887, "LERC"), (50002, "JPEG XL")):
    collect.add(f"{_kind} in a strip", lambda f, c=_code: compressed(f, bytes(64), c))

collect.add("OME-XML of 10^9 planes", lambda f: ome(f, pixels(Z=10**9)))
collect.add("OME-XML of 10^18 planes", lambda f: ome(f, pixels(Z=10**6, C=10**6, T=10**6)))
collect.add(
    "OME-XML with a plane count of 10^9",
    lambda f: ome(f, pixels('<TiffData IFD="0" PlaneCount="1000000000"/>')),
)
collect.add(
    "OME-XML with NumPlanes of 10^9",
    lambda f: ome(f, pixels('<TiffData IFD="0" NumPlanes="1000000000"/>')),
)
collect.add(
    "OME-XML that begins at plane 10^9",
    lambda f: ome(f, pixels('<TiffData IFD="0" FirstZ="999999999"/>', Z=10**9)),
)
collect.add("OME-XML with planes of 10^12 pixels", lambda f: ome(f, pixels(X=10**6, Y=10**6)))
collect.add("OME-XML with negative sizes", lambda f: ome(f, pixels(X=-32)))
collect.add(
    "OME-XML with sizes that are words", lambda f: ome(f, pixels().replace('"32"', '"many"'))
)
collect.add(
    "OME-XML with sizes of 5,000 digits", lambda f: ome(f, pixels().replace("32", "9" * 5000))
)
collect.add("OME-XML that is cut off", lambda f: ome(f, "<Image><Pixels"))


@collect("OME-XML with a modulo of 10^12 steps")
def _(folder: Path) -> Path:
    modulo = (
        '<StructuredAnnotations><XMLAnnotation ID="a" Namespace="modulo"><Value><Modulo>'
        '<ModuloAlongZ Type="angle" Start="0" End="1e12" Step="1"/>'
        "</Modulo></Value></XMLAnnotation></StructuredAnnotations>"
    )
    return ome(folder, modulo + pixels())


@collect("a billion laughs in the OME-XML")
def _(folder: Path) -> Path:
    laughs = '<!ENTITY a0 "ha">' + "".join(
        f'<!ENTITY a{k} "{f"&a{k - 1};" * 10}">' for k in range(1, 10)
    )
    text = f"<Image><Description>&a9;</Description></Image>{pixels()}"
    return ome(folder, text, before=f"<!DOCTYPE OME [{laughs}]>")


@collect("another file as an entity of the OME-XML")
def _(folder: Path) -> Path:
    (folder / "secret.txt").write_bytes(SECRET)
    entity = f'<!DOCTYPE OME [<!ENTITY x SYSTEM "file://{folder}/secret.txt">]>'
    return ome(folder, "<Image Name='a'><Description>&x;</Description></Image>", before=entity)


@collect("OME-XML nested 100,000 deep")
def _(folder: Path) -> Path:
    return ome(folder, "<a>" * 100_000 + "</a>" * 100_000)


for _name in ("../secret.tif", "../../../../../etc/passwd", "secret.tif"):

    @collect(f"planes in {_name}")
    def _(folder: Path, name: str = _name) -> Path:
        (folder / "inner").mkdir()
        saved(folder, name="secret.tif")
        saved(folder / "inner", name="secret.tif")
        other = f'<TiffData IFD="0"><UUID FileName="{name}">urn:uuid:1</UUID></TiffData>'
        return ome(folder / "inner", pixels(other))


@collect("planes in another file by NDTiff.index")
def _(folder: Path) -> Path:
    import json

    saved(folder, name="secret.tif")
    name, axes = b"../secret.tif", b'{"time": 0}'
    entry = struct.pack("<I", len(axes)) + axes + struct.pack("<I", len(name)) + name
    (folder / "NDTiff.index").write_bytes(entry + struct.pack("<8I", 8, 32, 32, 0, 0, 0, 0, 0))
    summary = json.dumps({"Prefix": "a"}).encode()
    head = b"II*\0" + struct.pack("<IIIII", 36, 483729, 3, 0, 2355492)
    head += struct.pack("<I", len(summary)) + summary
    entries = page(4, 4, t51123=(2, 3, 0x7D7B), t273=(4, 1, 8))
    body = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(entries.items()))
    ifd = struct.pack("<H", len(entries)) + body + bytes(4)
    head = head[:4] + struct.pack("<I", len(head)) + head[8:]
    return write(folder, head + ifd)


@collect("ImageJ: 2^31 images")
def _(folder: Path) -> Path:
    text = "ImageJ=1.53t\nimages=2147483647\nslices=2147483647\nhyperstack=true\n"
    return saved(folder, description=text, metadata=None)


@collect("tifffile's own shape of 10^12 planes")
def _(folder: Path) -> Path:
    return saved(folder, description='{"shape": [1000000000000, 32, 32]}', metadata=None)


@collect("an LSM that claims 2^31 planes", legal=True)
def _(folder: Path) -> Path:
    info = struct.pack("<IiiiiiiIIIddd", 67127628, 500, 4, 4, 2**31 - 1, 1, 1, 1, 0, 0, 1, 1, 1)
    info += bytes(500 - len(info))
    return write(
        folder, tiff(page(4, 4, t34412=(1, 500, 300)), bytes(400) + info), "hostile.lsm.tif"
    )


@collect("256 kB of one byte")
def _(folder: Path) -> Path:
    return write(folder, b"II*\0" + b"\x08" * 2**18)
