"""A segmentation job: every option, as the command line, a job file and the plugin give it."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, model_validator

from napari_unet.core.resampling import MAX_FACTOR, MIN_FACTOR
from napari_unet.core.settings import Settings, matching

Precision = Literal["fp32", "bf16", "fp16"]
OmeVersion = Literal["0.4", "0.5"]
ProbabilityType = Literal["float32", "float16"]
OutputKind = Literal["classes", "instances"]
Average = Literal["none", "mirror", "rotate", "d4"]
DeviceName = Annotated[
    str, matching(r"auto|cpu|mps|cuda(:\d+)?", "auto, cpu, mps, cuda, or cuda:1 for the second GPU")
]
Channels = Annotated[str, matching(r"\d+(,\d+)*", "numbers of channels from 0, such as 0 or 0,2")]
LabelName = Annotated[
    str,
    matching(
        r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}",
        "at most 100 letters, digits, '.', '_' and '-', a letter or digit first",
    ),
]


def _checked_rescale(value: object) -> object:
    """Turn the text of a command line into a factor; say what is legal in one sentence."""
    if value in ("auto", "off"):
        return value
    try:
        factor = float(value) if isinstance(value, str | int | float) else 0.0
    except ValueError:
        factor = 0.0
    if isinstance(value, bool) or not MIN_FACTOR <= factor <= MAX_FACTOR:
        raise ValueError(
            f"write auto, off, or a factor from {MIN_FACTOR:g} to {MAX_FACTOR:g} such as 0.5"
        )
    return factor


Rescale = Annotated[Literal["auto", "off"] | float, BeforeValidator(_checked_rescale)]

ShardName = Annotated[
    str, matching(r"[1-9]\d{0,8}/[1-9]\d{0,8}", "i/N, such as 1/4 for the first of four")
]

ClusterKind = Literal["slurm", "pbs", "lsf", "sge"]
SchedulerAddress = Annotated[
    str,
    matching(
        r"(tls|tcp)://([^\s/:@\[\]]+|\[[0-9A-Fa-f:.]+\]):\d{1,5}",
        "tls://HOST:PORT, such as tls://node7:8786",
    ),
]

DIVIDING = (
    "shard",
    "workers",
    "scheduler",
    "tls_ca",
    "tls_cert",
    "tls_key",
    "insecure_cluster",
    "cluster",
    "jobs",
)
"""Fields of a job that say who computes its blocks, and change nothing of the answer."""

DEFAULT_BLOCK_EDGE = 1024
"""Edge of a block in y and x: 1 MB of labels, a few seconds of work on a laptop's CPU."""

DEFAULT_CHUNK_EDGE = 512
"""Edge of a chunk in y and x; napari fetches whole chunks."""


class SegmentJob(Settings):
    """What to segment, with what, where to, and how.

    Parameters
    ----------
    input : str
        Path of the image.
    model : str
        Name of a model in the store, or path of a ``.safetensors`` file.
    output : str
        Path of the OME-Zarr group to write.
    name : str or None
        Name of the label image inside it; None = the model's name.
    region : str or None
        Part to segment, ``"z0:z1,y0:y1,x0:x1"`` in voxels; None = all.
    axes, channel, level, time
        Which part of the file is the image: axis letters; channel indices "0" or "0,2"; pyramid
        level; time point.
    tile_size : int or None
        Edge of a tile's write box in pixels; None = chosen for the device.
    batch_size : int or None
        Tiles computed together; None = chosen for the device.
    block_size : int
        Edge of a block in y and x, in pixels.
    device : str
        "auto", "cpu", "cuda", "cuda:1" or "mps".
    threads : int or None
        CPU threads of the network; None = one per core.
    precision : {"fp32", "bf16", "fp16"}
        Arithmetic of the network.
    tf32 : bool
        Allow TF32 on NVIDIA GPUs: faster, and no longer equal to the CPU to 1e-4.
    average : {"none", "mirror", "rotate", "d4"}
        Average the probabilities of mirrored or turned versions of the input: 1, 4 mirrored ones, 4
        quarter turns, or all 8. Slower by that factor. (Ronneberger et al. 2015 averaged 7 rotated
        versions for their result on ISBI 2012.)
    rescale : {"auto", "off"} or float
        "auto": show the network the image at the voxel size that the model was trained at, if both
        are known and differ by more than a quarter; "off": never; a number from 0.1 to 10: rescale
        y and x by it, so that 0.5 halves the image. Results are always on the image's own grid.
    normalization : str or None
        ``"MEAN,STD"`` (one pair per channel, separated by ``;``) instead of the measured ones.
    probabilities : bool
        Also write the probability of each class.
    probability_type : {"float32", "float16"} or None
        How probabilities are stored; None = float32, float16 with instances.
    output_kind : {"classes", "instances"}
        "instances": probabilities are kept, and the objects of the segmentation are found as
        `napari-unet objects` finds them when nothing else is said.
    shards : bool
        Store one file per block instead of one per chunk, where the count of files would hurt.
    shard : str or None
        "i/N": compute only the i-th of N equal parts of the blocks, beside processes that
        compute the others; `napari-unet finish` then completes the output. None = all blocks.
    workers : int or None
        Processes that compute blocks at the same time, on this machine; None = this one alone. With
        a GPU there is one worker per GPU.
    scheduler : str or None
        Address of a scheduler of dask.distributed whose workers compute the blocks.
    tls_ca, tls_cert, tls_key : str or None
        Files (PEM) of the authority that has signed the scheduler's certificate, and of our own
        certificate and key; None = those of dask's configuration.
    insecure_cluster : bool
        Allow a scheduler on another machine whose connections are not encrypted.
    cluster : {"slurm", "pbs", "lsf", "sge"} or None
        Batch system whose jobs compute the blocks, as dask's configuration of it says.
    jobs : int or None
        How many jobs to submit to the cluster.
    require_complete : bool
        Refuse an image with chunks that were never written, instead of reading its fill value.
    overwrite : bool
        Replace an output that was made with other options.
    ome_version : {"0.5", "0.4"}
        OME-Zarr version to write.
    """

    input: str
    model: str
    output: str
    name: LabelName | None = None
    region: str | None = None
    axes: str | None = None
    channel: Channels | None = None
    level: Annotated[int, Field(ge=0)] = 0
    time: Annotated[int, Field(ge=0)] | None = None
    tile_size: Annotated[int, Field(ge=1, le=16384)] | None = None
    batch_size: Annotated[int, Field(ge=1, le=1024)] | None = None
    block_size: Annotated[int, Field(ge=16, le=16384)] = DEFAULT_BLOCK_EDGE
    device: DeviceName = "auto"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    precision: Precision = "fp32"
    tf32: bool = False
    average: Average = "none"
    rescale: Rescale = "auto"
    normalization: str | None = None
    probabilities: bool = False
    probability_type: ProbabilityType | None = None
    output_kind: OutputKind = "classes"
    shards: bool = False
    shard: ShardName | None = None
    workers: Annotated[int, Field(ge=1, le=1024)] | None = None
    scheduler: SchedulerAddress | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    insecure_cluster: bool = False
    cluster: ClusterKind | None = None
    jobs: Annotated[int, Field(ge=1, le=10000)] | None = None
    require_complete: bool = False
    overwrite: bool = False
    ome_version: OmeVersion = "0.5"

    @model_validator(mode="after")
    def _check_shard(self) -> SegmentJob:
        if self.shard is None:
            return self
        number, shards = map(int, self.shard.split("/"))
        if number > shards:
            raise ValueError(f"there is no shard {self.shard}; the last one is {shards}/{shards}")
        if self.overwrite:
            raise ValueError(
                "with overwrite each shard would delete what the others made; delete the old "
                "output first, or give another name"
            )
        return self

    @model_validator(mode="after")
    def _check_division(self) -> SegmentJob:
        ways = ("shard", "workers", "scheduler", "cluster")
        given = [way for way in ways if getattr(self, way) is not None]
        if len(given) > 1:
            raise ValueError(
                f"blocks are computed in one of these ways; give {' or '.join(given)}, not "
                f"{'both' if len(given) == 2 else 'all of them'}"
            )
        if (self.cluster is None) != (self.jobs is None):
            raise ValueError("cluster and jobs belong together; write for example slurm and 4")
        return self

    @model_validator(mode="after")
    def _check_encryption(self) -> SegmentJob:
        address = self.scheduler or ""
        files = (self.tls_ca, self.tls_cert, self.tls_key)
        if any(files) and not address.startswith("tls://"):
            raise ValueError("tls_ca, tls_cert and tls_key are for a scheduler at tls://")
        if any(files) and not (self.tls_ca and self.tls_cert):
            raise ValueError(
                "tls_ca and tls_cert belong together; the key may be in the file of the certificate"
            )
        plain = address.startswith("tcp://") and not is_loopback(address)
        if plain and not self.insecure_cluster:
            raise ValueError(
                f"{address}: connections to it are not encrypted, and whoever reaches it runs code "
                "as you; start the scheduler with TLS and write tls://, or say that you trust "
                "everybody on that network with --insecure-cluster"
            )
        return self

    @property
    def computes_elsewhere(self) -> bool:
        """Whether blocks are computed where this process's devices do not count."""
        return self.scheduler is not None or self.cluster is not None

    def undivided(self) -> SegmentJob:
        """Return the job as one process alone computes it.

        Examples
        --------
        >>> SegmentJob(input="a", model="b", output="c", workers=2).undivided().workers
        """
        defaults = {name: SegmentJob.model_fields[name].default for name in DIVIDING}
        return self.model_copy(update=defaults)

    @property
    def stored_probabilities(self) -> ProbabilityType | None:
        """How probabilities are stored; None = they are not.

        Examples
        --------
        >>> job = SegmentJob(input="a.tif", model="em-membranes", output="a.zarr")
        >>> job.stored_probabilities
        >>> job.model_copy(update={"output_kind": "instances"}).stored_probabilities
        'float16'
        """
        if self.output_kind == "instances":
            # Half the disk, and the same number of objects (docs/reference/objects.md#methods).
            return self.probability_type or "float16"
        return (self.probability_type or "float32") if self.probabilities else None


def is_loopback(address: str) -> bool:
    """Return whether an address is this machine's own, which no other one can reach.

    Examples
    --------
    >>> [is_loopback(f"tcp://{host}:8786") for host in ("127.0.0.1", "[::1]", "node7", "0.0.0.0")]
    [True, True, False, False]
    """
    host = urlsplit(address).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
