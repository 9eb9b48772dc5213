"""What a job will do, worked out before it does it: geometry, cost, and what it must not touch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.app.models import ModelEntry, find_model
from napari_unet.app.rescale import decide_rescaling
from napari_unet.core.boxes import Box, format_region, parse_region
from napari_unet.core.normalization import Normalization
from napari_unet.core.resampling import Resampling
from napari_unet.core.tiling import TileGrid, nearest_tile_edge
from napari_unet.errors import AxesError, ConfigError, TilingError
from napari_unet.io.image import Selection, open_image
from napari_unet.io.pyramid import plan_levels
from napari_unet.io.repeated_channel import RepeatedChannel
from napari_unet.io.stored_image import StoredImage

if TYPE_CHECKING:
    from napari_unet.core.arrays import ImageSource
    from napari_unet.core.boxes import Shape
    from napari_unet.core.header import ModelHeader
    from napari_unet.core.job import SegmentJob

BASE_MEMORY = 400 * 2**20
"""Bytes of a process that has torch, zarr and scikit-image loaded (measured on Linux: 0.35 GB)."""

LIVE_FEATURE_MAPS = 9
"""Full-size feature maps of `base_channels` that are alive at the peak of a forward pass.

At the top of the expanding path: the skip (1), its crop and the up-convolved features joined
(2 + 2 while they are copied), and a convolution's input and output in the library's own layout (4).
"""


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """A job, resolved against the image and the model it names.

    Parameters
    ----------
    job : SegmentJob
        What the user asked for.
    source : ImageSource
        The opened image.
    model : ModelEntry
        The model; its tensors are not loaded.
    name : str
        Name of the label image.
    grid : TileGrid
        Blocks and tiles.
    region : Box
        What is segmented, (z, y, x).
    normalization : Normalization or None
        Given by the user; None = to be measured.
    notes : tuple of str
        What the user should know about the plan, in sentences.
    """

    job: SegmentJob
    source: ImageSource
    model: ModelEntry
    name: str
    grid: TileGrid
    region: Box
    normalization: Normalization | None
    notes: tuple[str, ...] = ()

    @property
    def factors(self) -> tuple[float, float] | None:
        """Voxels that the network sees per voxel of the image, (y, x); None = not rescaled."""
        return None if self.grid.resampling is None else self.grid.resampling.factors

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What decides the answer; tile, batch, threads and device do not."""
        job = self.job
        # The path does not count: an image that was moved is the same image.
        image = {key: v for key, v in self.source.identity().items() if key != "path"}
        # Named only where it matters: what was computed before there was rescaling stays done.
        rescaled = {} if self.factors is None else {"rescale": list(self.factors)}
        return {
            "input": image,
            "model_sha256": self.model.sha256,
            "region": format_region(self.region),
            "channel": job.channel,
            "level": job.level,
            "time": job.time,
            "normalization": job.normalization or self.model.header.input.normalization,
            "precision": job.precision,
            "tf32": job.tf32,
            "average": job.average,
            "block_size": job.block_size,
            "probabilities": job.stored_probabilities,
            "shards": job.shards,
            "ome_version": job.ome_version,
            **rescaled,
        }


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job costs.

    Parameters
    ----------
    tiles, blocks, pixels : int
        How many.
    redundancy : float
        Pixels that the network reads per pixel written, for a full tile.
    memory_bytes : int
        Upper estimate of the process's memory.
    disk_bytes : int
        Upper bound of the output: uncompressed, with all levels.
    """

    tiles: int
    blocks: int
    pixels: int
    redundancy: float
    memory_bytes: int
    disk_bytes: int


def selection_of(job: SegmentJob, header: ModelHeader) -> Selection:
    """Return which part of the file is the image that a model wants."""
    return Selection(
        axes=job.axes,
        channel=job.channel,
        level=job.level,
        time=job.time,
        colors=header.input.takes_colors,
    )


def plan_segment(
    job: SegmentJob, default_tile_edge: int, source: ImageSource | None = None
) -> SegmentPlan:
    """Return a job resolved against its image and model, without reading either's data.

    Parameters
    ----------
    job : SegmentJob
        What to do.
    default_tile_edge : int
        Tile edge when the job names none, in pixels.
    source : ImageSource or None
        The image, when it is open already; else ``job.input`` is opened.

    Raises
    ------
    InputError, AxesError, ModelFileError, ConfigError, TilingError
        If something does not exist or does not fit.
    """
    model = find_model(job.model)
    job = _absolute(job, model)
    opened = source is None
    if source is None:
        source = open_image(job.input, selection_of(job, model.header))
    try:
        stored, labels = source.num_channels, _label_notes(source)
        source, notes = _fitted(source, model)
        grid, more = _grid(job, model, source, default_tile_edge)
        region = _region(job, source)
        normalization = _given_normalization(job, stored, source.num_channels)
    except BaseException:
        if opened:
            source.close()
        raise
    name = job.name or model.name
    return SegmentPlan(job, source, model, name, grid, region, normalization, labels + notes + more)


def _label_notes(source: ImageSource) -> tuple[str, ...]:
    """Return a sentence if what was given for the image looks like labels."""
    folders = Path(source.path or "").parts if isinstance(source, StoredImage) else ()
    zarr = next((i for i, folder in enumerate(folders) if folder.endswith(".zarr")), len(folders))
    if "labels" in folders[zarr:]:
        why = f"lies among the labels of {folders[zarr]}"
    elif source.dtype.kind == "b" or (source.dtype.kind in "iu" and source.dtype.itemsize > 2):
        why = f"holds values of type {source.dtype}, as masks and label images do"
    else:
        return ()
    return (f"{source.name} {why}; if it is no image, give the one that was labeled",)


def _fitted(source: ImageSource, model: ModelEntry) -> tuple[ImageSource, tuple[str, ...]]:
    """Return the image with as many channels as the model takes, and what was done for that."""
    channels = model.header.input.channels
    wanted, given = len(channels), source.num_channels
    if wanted == given:
        return source, ()
    if given == 1 and model.header.input.takes_colors:
        note = f"{source.name} is gray; it is shown to {model.name} as red, green and blue alike"
        return RepeatedChannel(source, wanted), (note,)
    raise AxesError(
        f"{source.name} has {given} channels, the model {model.name} takes {wanted} "
        f"({', '.join(channels)}); choose with --channel, e.g. "
        f"--channel {','.join(str(i) for i in range(wanted))}"
    )


def _absolute(job: SegmentJob, model: ModelEntry) -> SegmentJob:
    """Return the job with absolute paths, so that its record works from any folder."""
    paths = {
        field: str(Path(text).expanduser().absolute())
        for field in ("input", "output", "tls_ca", "tls_cert", "tls_key")
        if (text := getattr(job, field))
    }
    if model.origin == "file":
        paths["model"] = str(model.path.absolute())
    return job.model_copy(update=paths)


def _grid(
    job: SegmentJob, model: ModelEntry, source: ImageSource, default_edge: int
) -> tuple[TileGrid, tuple[str, ...]]:
    """Return the tiles, and what the user should know about them."""
    net, block = model.header.geometry(), (1, job.block_size, job.block_size)
    stride = net.stride[-1]
    edge = nearest_tile_edge(job.tile_size or default_edge, stride)
    scale = decide_rescaling(job.rescale, source.levels[0].voxel_size, model.header.input)
    notes: tuple[str, ...] = () if scale.note is None else (scale.note,)
    if scale.factors is not None:
        resampling = Resampling(source.shape, scale.factors)
        tile = _rescaled_tile(block, source.shape, scale.factors, edge)
        return TileGrid(source.shape, net, tile, block, resampling), notes
    if job.block_size % stride:
        raise TilingError(
            f"block_size {job.block_size} is not a multiple of {stride}, the stride of the model "
            f"{model.name}; choose {nearest_tile_edge(job.block_size, stride)}"
        )
    edge = min(edge, job.block_size)
    if job.tile_size not in (None, edge):
        notes += (
            f"tile size {job.tile_size} was taken to {edge}, the nearest that the model's stride "
            "and the block allow",
        )
    return TileGrid(source.shape, net, (1, edge, edge), block), notes


def _rescaled_tile(
    block: Shape, shape: Shape, factors: tuple[float, float], edge: int
) -> tuple[int, int, int]:
    """Return the edges, in the image, of equal parts of a block that are about `edge` rescaled."""
    tile = []
    for whole, size, factor in zip(block[1:], shape[1:], factors, strict=True):
        extent = min(whole, size)
        tile.append(-(-extent // math.ceil(extent * factor / edge)))
    return (1, tile[0], tile[1])


def _region(job: SegmentJob, source: ImageSource) -> Box:
    if job.region is None:
        return Box.of_shape(source.shape)
    shape = source.shape[-len(source.spatial_axes) :]
    text = job.region
    # A plane is written y,x; the plugin always speaks of z, y and x.
    if len(shape) == 2 and text.count(",") == 2:
        shape = source.shape
    box = parse_region(text, shape, "zyx"[-len(shape) :])
    if len(shape) == 2:
        return Box((0, *box.start), (1, *box.stop))
    return box


def _given_normalization(job: SegmentJob, channels: int, repeated: int) -> Normalization | None:
    """Return the normalization that the job names, of the image's channels as they are stored."""
    if job.normalization is None:
        return None
    try:
        pairs = [tuple(map(float, pair.split(","))) for pair in job.normalization.split(";")]
        offset, scale = zip(*pairs, strict=True)
    except ValueError:
        raise ConfigError(
            f"normalization {job.normalization!r} is not MEAN,STD; write for example 128.5,31 "
            "(for several channels 128.5,31;90,12)"
        ) from None
    if len(pairs) != channels:
        raise ConfigError(
            f"normalization {job.normalization!r} is for {len(pairs)} channels, the image has "
            f"{channels}; separate channels by a semicolon"
        )
    times = repeated // channels
    return Normalization.parse(
        {"offset": offset * times, "scale": scale * times, "source": "given"},
        source="normalization",
    )


def estimate(plan: SegmentPlan, batch_size: int = 1) -> Estimate:
    """Return what a job costs, from its geometry alone.

    Parameters
    ----------
    plan : SegmentPlan
        The job.
    batch_size : int
        Tiles computed together.
    """
    grid, job = plan.grid, plan.job
    tile = grid.full_tile()
    tile_pixels = math.prod(tile.read.shape[-2:])
    net = plan.model.header.architecture
    classes = net.num_classes
    features = net.base_channels * LIVE_FEATURE_MAPS + net.in_channels
    block = math.prod(grid.block_shape)
    stored = job.stored_probabilities
    in_flight = 4 * block * (1 + (4 * classes if stored else 0))
    bytes_per_pixel = 1.0
    if stored:
        bytes_per_pixel += classes * (4 if stored == "float32" else 2)
    if grid.resampling is not None:
        seen = tile.read.intersection(Box.of_shape(grid.resampling.shape))
        # As stored, normalized, and with its rows taken apart for the sums: 4 bytes each at most.
        in_flight += 12 * grid.resampling.needed(seen).size * plan.source.num_channels
    full = math.prod(plan.source.shape)
    level_factor = sum(math.prod(level.shape) for level in plan_levels(plan.source)) / full
    return Estimate(
        tiles=grid.count_tiles(plan.region),
        blocks=grid.count_blocks(plan.region),
        pixels=plan.region.size,
        redundancy=grid.redundancy(),
        memory_bytes=BASE_MEMORY + 4 * batch_size * tile_pixels * features + in_flight,
        disk_bytes=round(plan.region.size * bytes_per_pixel * level_factor),
    )
