"""Model files, archives, checkpoints and crops that are damaged, lie, or would run code."""

# ruff: noqa: E501 - a case is a line of a table

from __future__ import annotations

import functools
import io
import json
import os
import pickle
import stat
import struct
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.numpy import save_file
from tests.hostile import bombs
from tests.hostile.case import Collector, RunsCode
from tests.nets import lively_net, save_lively_model

if TYPE_CHECKING:
    from collections.abc import Callable

safe = Collector("safetensors", "model")
archive = Collector("bioimage.io, zip", "model")
pth = Collector(".pth", "import")
crops = Collector("crops", "crops")


def write(folder: Path, content: bytes, name: str = "hostile.safetensors") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def pack(header: bytes, tensors: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + tensors


@functools.cache
def good() -> bytes:
    """Return a good model file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.safetensors"
        save_lively_model(path, base_channels=2, depth=1)
        return path.read_bytes()


def changed(change: Callable[[dict[str, Any], dict[str, Any]], Any], extra: bytes = b"") -> bytes:
    """Return the good file after a change of its tensor table and its own header."""
    data = good()
    length = struct.unpack("<Q", data[:8])[0]
    table = json.loads(data[8 : 8 + length])
    header = json.loads(table["__metadata__"]["napari_unet"])
    change(table, header)
    if "napari_unet" in table.get("__metadata__", {}):
        table["__metadata__"]["napari_unet"] = json.dumps(header)
    return pack(json.dumps(table).encode(), data[8 + length :] + extra)


def first(table: dict[str, Any]) -> dict[str, Any]:
    return next(v for k, v in table.items() if k.endswith("weight"))


for _name, _content in {
    "a header of 2^64 - 1 bytes": lambda: struct.pack("<Q", 2**64 - 1) + bytes(100),
    "a header of 100 MB": lambda: pack(b"{" + b" " * 100_000_000),
    "a header nested 500,000 deep": lambda: pack(b"[" * 500_000),
    "a header nested 160,000 deep in objects": lambda: pack(b'{"a":' * 160_000),
    "a header of a million quotes": lambda: pack(b'"' * 1_000_000),
    "a header of a number of a million digits": lambda: pack(b'{"a":' + b"9" * 10**6 + b"}"),
    "a header that is no UTF-8": lambda: pack(b'{"\xff\xfe": 1}'),
    "a header that is a list": lambda: pack(b"[]"),
    "15,000 empty tensors": lambda: pack(
        json.dumps(
            {str(k): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for k in range(15_000)}
        ).encode()
    ),
    "one name twice": lambda: pack(b'{"a": {}, "a": {}}'),
    "no bytes": lambda: b"",
    "seven bytes": lambda: bytes(7),
    "the first half": lambda: good()[: len(good()) // 2],
    "a byte too many": lambda: good() + b"\0",
    "a pickle": lambda: pickle.dumps({"a": 1}),
    "an HDF5 file": lambda: b"\x89HDF\r\n\x1a\n" + bytes(100),
    "a gzip bomb": lambda: bombs.deflate(wbits=31),
}.items():
    safe.add(_name, lambda f, c=_content: write(f, c()))

for _name, _change in {
    "a tensor of another type": lambda t, h: first(t).update(dtype="I32"),
    "a tensor of complex numbers": lambda t, h: first(t).update(dtype="C64"),
    "a tensor that overlaps another": lambda t, h: first(t).update(data_offsets=[0, 8]),
    "offsets backwards": lambda t, h: first(t).update(data_offsets=[8, 0]),
    "offsets beyond 64 bits": lambda t, h: first(t).update(data_offsets=[2**80, 2**80 + 4]),
    "a shape beyond 64 bits": lambda t, h: first(t).update(shape=[2**62, 0]),
    "a negative shape": lambda t, h: first(t).update(shape=[-1, -1]),
    "a shape of 1,000 axes": lambda t, h: first(t).update(shape=[1] * 1000),
    "an entry with a program": lambda t, h: first(t).update(code="import os"),
    "metadata with more": lambda t, h: t["__metadata__"].update(code="import os"),
    "no metadata": lambda t, h: t.pop("__metadata__"),
    "a network 10^9 deep": lambda t, h: h["architecture"].update(depth=10**9),
    "a network of 2^31 channels": lambda t, h: h["architecture"].update(base_channels=2**31),
    "the largest legal network": lambda t, h: h["architecture"].update(
        base_channels=256, depth=6, in_channels=1
    ),
    "an architecture that is a module": lambda t, h: h["architecture"].update(padding="os.system"),
    "an unknown setting": lambda t, h: h.update(architecture_source="net.py"),
    "900 classes": lambda t, h: h.update(classes=[{"name": "a", "color": "#000000"}] * 900),
    "classes that are numbers": lambda t, h: h.update(classes=list(range(10_000))),
    "a name with ../": lambda t, h: h.update(name="../../evil"),
    "a name of 60,000 letters": lambda t, h: h.update(name="a" * 60_000),
    "a name that is half a letter": lambda t, h: h.update(name="\ud800"),
    "a schema from the future": lambda t, h: h.update(schema_version=10**9),
    "a size that is not a number": lambda t, h: h["input"].update(voxel_size=[float("nan"), 1]),
}.items():
    safe.add(_name, lambda f, c=_change: write(f, changed(c)))


@safe("weights that are NaN")
def _(folder: Path) -> Path:
    data = good()
    length = struct.unpack("<Q", data[:8])[0]
    return write(folder, data[: 8 + length] + b"\xff" * (len(data) - 8 - length))


@safe("a tensor of 256 MB, sparse, too many")
def _(folder: Path) -> Path:
    def add(table: dict[str, Any], _: dict[str, Any]) -> None:
        end = max(v["data_offsets"][1] for k, v in table.items() if k != "__metadata__")
        table["x"] = {"dtype": "F32", "shape": [2**26], "data_offsets": [end, end + 2**28]}

    path = write(folder, changed(add))
    os.truncate(path, path.stat().st_size + 2**28)
    return path


@safe("5 GB of nothing")
def _(folder: Path) -> Path:
    path = write(folder, b"")
    os.truncate(path, 5 * 2**30)
    return path


@safe("a pipe")
def _(folder: Path) -> Path:
    os.mkfifo(folder / "hostile.safetensors")
    return folder / "hostile.safetensors"


def zipped(folder: Path, files: dict[str, bytes], name: str = "hostile.zip") -> Path:
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as file:
        for inner, content in files.items():
            file.writestr(inner, content)
    return folder / name


RDF = b"format_version: 0.5.4\ntype: model\nname: evil\n"
YAML_CODE = b"!!python/object/apply:os.mkdir [canary]\n"
LAUGHS = b"a0: &a0 [x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (k, k, b",".join([b"*a%d" % (k - 1)] * 10)) for k in range(1, 10)
)
for _name, _files in {
    "a package with code of an architecture": {"rdf.yaml": RDF, "unet.py": b"import os\nos.mkdir('canary')\n"},
    "YAML that makes an object": {"rdf.yaml": YAML_CODE},
    "YAML of a billion laughs": {"rdf.yaml": LAUGHS},
    "names that lead out": {"../../evil.py": b"x", "/etc/evil": b"x", "rdf.yaml": RDF},
    "weights that are a pickle": {"rdf.yaml": RDF, "weights.pt": pickle.dumps({"a": 1})},
    "TorchScript": {"a/code/net.py": b"x", "a/constants.pkl": b"x", "a/data.pkl": b"\x80\x02."},
}.items():  # fmt: skip
    archive.add(_name, lambda f, c=_files: zipped(f, c))
    archive.add(
        f"{_name}, called .safetensors", lambda f, c=_files: zipped(f, c, "hostile.safetensors")
    )
    archive.add(f"{_name}, imported", lambda f, c=_files: zipped(f, c), opener="import")
archive.add("a bomb of 256 MB", lambda f: zipped(f, {"rdf.yaml": RDF, "w": bytes(2**28)}))


@archive("a link to another file")
def _(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "hostile.zip", "w") as file:
        entry = zipfile.ZipInfo("rdf.yaml")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(entry, "/etc/passwd")
    return folder / "hostile.zip"


def torch_bytes(content: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def saved(folder: Path, content: Any, **options: Any) -> Path:
    return write(folder, torch_bytes(content, **options), "hostile.pth")


def repacked(data: bytes, compression: int = zipfile.ZIP_STORED, **extra: bytes) -> bytes:
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as old,
        zipfile.ZipFile(stream, "w", compression) as new,
    ):
        for entry in old.infolist():
            if entry.filename.rpartition("/")[2] not in extra:
                new.writestr(entry.filename, old.read(entry))
        for name, content in extra.items():
            new.writestr(f"archive/{name}", content)
    return stream.getvalue()


ONE = {"a": torch.ones(3)}
pth.add("code among the tensors", lambda f: saved(f, dict(ONE) | {"b": RunsCode(f)}))
pth.add("code as a whole", lambda f: saved(f, RunsCode(f)))
pth.add(
    "code in the old format", lambda f: saved(f, RunsCode(f), _use_new_zipfile_serialization=False)
)
for _protocol in (0, 1, 2, 3, 4, 5):
    pth.add(
        f"a pickle of protocol {_protocol}",
        lambda f, p=_protocol: write(f, pickle.dumps(RunsCode(f), protocol=p), "hostile.pth"),
    )
    pth.add(
        f"code of protocol {_protocol} in an archive",
        lambda f, p=_protocol: write(
            f,
            repacked(torch_bytes(ONE), **{"data.pkl": pickle.dumps(RunsCode(f), protocol=p)}),
            "hostile.pth",
        ),
    )
pth.add("a whole network", lambda f: saved(f, lively_net(0, base_channels=2, depth=1)))
pth.add(
    "TorchScript",
    lambda f: write(f, repacked(torch_bytes(ONE), **{"code/net.py": b"x"}), "hostile.pth"),
)
pth.add(
    "a zip bomb",
    lambda f: write(
        f, repacked(torch_bytes({"a": torch.zeros(2**26)}), zipfile.ZIP_DEFLATED), "hostile.pth"
    ),
)
pth.add(
    "9,000 entries",
    lambda f: zipped(f, {f"a/data/{k}": b"" for k in range(9000)}, "hostile.pth"),
)
pth.add("half an archive", lambda f: write(f, torch_bytes(ONE)[:-100], "hostile.pth"))
pth.add("a pickle of 2 MB", lambda f: saved(f, dict(ONE) | {"b": "x" * 2**21}))
pth.add(
    "a pickle nested 100,000 deep",
    lambda f: write(
        f, repacked(torch_bytes(ONE), **{"data.pkl": b"\x80\x02" + b"(" * 100_000}), "hostile.pth"
    ),
)
pth.add(
    "a tensor of 4 TB by strides of 0",
    lambda f: saved(f, {"a": torch.ones(1).expand(10**6, 10**6)}),
    worker=True,
)
pth.add("weights of no network", lambda f: saved(f, ONE), worker=True)
pth.add(
    "weights that are NaN",
    lambda f: saved(
        f,
        {
            k: v * float("nan")
            for k, v in lively_net(0, base_channels=2, depth=1).state_dict().items()
        },
    ),
    worker=True,
)
pth.add("no bytes", lambda f: write(f, b"", "hostile.pth"))


def crop_file(folder: Path, content: bytes) -> Path:
    return write(folder, content, "hostile.crops.safetensors")


def crops_of(folder: Path, tensors: dict[str, Any], **said: Any) -> Path:
    header = {
        "schema_version": 1,
        "class_names": ["a"],
        "normalization": [{"offset": [0.0], "scale": [1.0]}],
    }
    path = folder / "hostile.crops.safetensors"
    save_file(tensors, path, metadata={"crops": json.dumps(header | said)})
    return path


PLANES = {"image_0": np.zeros((1, 1, 8, 8), np.uint8), "labels_0": np.zeros((1, 8, 8), np.uint8)}
crops.add("a header of 100 MB", lambda f: crop_file(f, pack(b"{" + b" " * 100_000_000)))
crops.add("a header that is nested", lambda f: crop_file(f, pack(b"[" * 500_000)))
crops.add("no metadata", lambda f: crop_file(f, pack(b"{}")))
crops.add("metadata that are a list", lambda f: crop_file(f, pack(b'{"__metadata__": []}')))
crops.add(
    "an unknown class",
    lambda f: crops_of(f, {**PLANES, "labels_0": np.full((1, 8, 8), 9, np.uint8)}),
)
crops.add(
    "numbers of another type", lambda f: crops_of(f, {**PLANES, "image_0": np.zeros((1, 1, 8, 8))})
)
crops.add("more tensors than crops", lambda f: crops_of(f, {**PLANES, "x": np.zeros(1, np.uint8)}))
crops.add(
    "a scale of 0", lambda f: crops_of(f, PLANES, normalization=[{"offset": [0.0], "scale": [0.0]}])
)
crops.add(
    "a pipe",
    lambda f: (os.mkfifo(f / "hostile.crops.safetensors"), f / "hostile.crops.safetensors")[1],
)


@crops("3 GB of nothing")
def _(folder: Path) -> Path:
    path = crop_file(folder, b"")
    os.truncate(path, 3 * 2**30)
    return path


CASES = [*safe.cases, *archive.cases, *pth.cases, *crops.cases]
