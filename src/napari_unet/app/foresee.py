"""What a big run will take: counted from its geometry, timed on one tile, less what is done."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from napari_unet.app.device_memory import first_tile_edge
from napari_unet.app.foreseeing.begun import find_begun
from napari_unet.app.foreseeing.storage import foresee_storage
from napari_unet.app.foreseeing.timing import measure_tile
from napari_unet.app.job_files import command_line
from napari_unet.app.objecting.estimate import foresee_objects
from napari_unet.app.plan import estimate, plan_segment
from napari_unet.app.rescale import decide_rescaling
from napari_unet.app.segmenting.preparation import open_backend
from napari_unet.core.boxes import format_region
from napari_unet.core.intensities import describe_far, measure_quantiles
from napari_unet.errors import InputError
from napari_unet.io.pyramid import plan_levels

if TYPE_CHECKING:
    from napari_unet.app.foreseeing.begun import Begun
    from napari_unet.app.foreseeing.storage import Storage
    from napari_unet.app.foreseeing.timing import MeasuredTile
    from napari_unet.app.objecting.estimate import ObjectsEstimate
    from napari_unet.app.plan import Estimate, SegmentPlan
    from napari_unet.core.job import SegmentJob

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Foresight:
    """What a job will take.

    Parameters
    ----------
    plan : SegmentPlan
        The job; its image is closed.
    cost : Estimate
        Counts, memory of one worker, and disk as the job has it.
    storage : Storage
        Disk, with and without probabilities.
    objects : ObjectsEstimate or None
        What the objects will cost; None = the job asks for none.
    begun : Begun or None
        What is in the output already; None = nothing.
    measured : MeasuredTile or None
        None = not measured.
    workers : tuple of int
        Numbers of workers that hours are asked for.
    notes : tuple of str
        What the user should know, in sentences.
    """

    plan: SegmentPlan
    cost: Estimate
    storage: Storage
    objects: ObjectsEstimate | None
    begun: Begun | None
    measured: MeasuredTile | None
    workers: tuple[int, ...]
    notes: tuple[str, ...]

    @property
    def blocks_left(self) -> int:
        """Blocks that are still to be computed."""
        begun = self.begun
        if begun is None or begun.differs or self.plan.job.overwrite:
            return self.cost.blocks
        return 0 if begun.state == "complete" else self.cost.blocks - begun.blocks_done

    def hours(self, workers: int) -> float | None:
        """Return the hours that so many workers take, each like the measured one; None = unknown.

        Writing goes on beside computing and is not counted, nor are coarser levels and objects.
        """
        if self.measured is None:
            return None
        left = self.blocks_left
        tiles_per_block = self.cost.tiles / self.cost.blocks
        rounds = -(-left // workers)
        return rounds * tiles_per_block * self.measured.seconds / 3600

    def _suggested_rescale(self) -> list[float] | None:
        """Return the factors (y, x) by which the model needs the image rescaled; None = not."""
        plan = self.plan
        voxel_size = plan.source.levels[0].voxel_size
        factors = decide_rescaling("auto", voxel_size, plan.model.header.input).factors
        return None if factors is None else list(factors)

    def to_json(self) -> dict[str, Any]:
        """Return all of it, ready for JSON; see docs/reference/plan.md."""
        plan = self.plan
        source = plan.source
        return {
            "schema": SCHEMA_VERSION,
            "input": plan.job.input,
            "shape": list(source.shape[-len(source.spatial_axes) :]),
            "type": str(source.dtype),
            "model": {"name": plan.model.name, "sha256": plan.model.sha256},
            "output": plan.job.output,
            "name": plan.name,
            "region": format_region(plan.region),
            "tile_shape": list(plan.grid.tile_shape),
            "block_shape": list(plan.grid.block_shape),
            "rescale": None if plan.factors is None else list(plan.factors),
            "suggested_rescale": self._suggested_rescale(),
            **asdict(self.cost),
            "storage": asdict(self.storage),
            "objects": None if self.objects is None else asdict(self.objects),
            "begun": None if self.begun is None else asdict(self.begun),
            "blocks_left": self.blocks_left,
            "measured": None if self.measured is None else asdict(self.measured),
            "hours": [{"workers": n, "hours": self.hours(n)} for n in self.workers],
            "command": list(command_line(plan.job)),
            "notes": list(self.notes),
        }


def foresee(job: SegmentJob, workers: tuple[int, ...] = (1,), *, measure: bool = True) -> Foresight:
    """Return what a job will take, without doing it: nothing is written.

    Takes as long and as much memory for a terabyte as for a slice: what is read is metadata, the
    ledger of an earlier run, one tile, and a few boxes if the model knows the gray values that it
    was trained on.

    Parameters
    ----------
    job : SegmentJob
        What to do; who computes it does not count: shards, workers, a scheduler, jobs of a cluster.
    workers : tuple of int
        Numbers of workers that hours are asked for.
    measure : bool
        Time one tile on the job's device.

    Raises
    ------
    UNetError
        If the image, the model, an option or the output cannot be used.
    """
    # A plan is of all of it.
    job = job.undivided()
    backend = open_backend(job)
    edge, remembered = first_tile_edge(job, backend)
    plan = plan_segment(job, edge)
    with closing(plan.source):
        cost, storage = estimate(plan, job.batch_size or 1), foresee_storage(plan)
        begun = find_begun(plan)
        measured, said = measure_tile(plan, backend) if measure else (None, ())
        notes = plan.notes + remembered + said + gray_notes(plan)
        notes += tuple(_warnings(plan, cost, storage, begun))
        return Foresight(
            plan, cost, storage, foreseen_objects(plan), begun, measured, workers, notes
        )


def gray_notes(plan: SegmentPlan) -> tuple[str, ...]:
    """Return what is to be said of the image's gray values, where the model knows its own."""
    expected = plan.model.header.input.intensities
    if expected is None:
        return ()
    try:
        said = describe_far(expected, measure_quantiles(plan.source))
    except InputError as error:
        said = f"the gray values cannot be looked at: {error}"
    return () if said is None else (said,)


def foreseen_objects(plan: SegmentPlan) -> ObjectsEstimate | None:
    """Return what the objects of a job will cost; None if it asks for none."""
    if plan.job.output_kind == "classes":
        return None
    rules = plan.model.header.object_defaults()
    axes = plan.source.spatial_axes
    return foresee_objects(rules, plan_levels(plan.source), plan.region, axes)


def _warnings(
    plan: SegmentPlan, cost: Estimate, storage: Storage, begun: Begun | None
) -> list[str]:
    found = []
    if begun is not None and begun.differs and not plan.job.overwrite:
        found.append(
            f"the run would be refused: {plan.name!r} is in {plan.job.output} already, made with "
            f"other options ({'; '.join(begun.differs)}); give another --name or --output, or "
            "--overwrite to replace it"
        )
    elif begun is not None and begun.shards is not None and begun.state != "complete":
        found.append(
            f"the run was begun in {begun.shards} shards: go on with --shard 1/{begun.shards} to "
            f"{begun.shards}/{begun.shards}, then napari-unet finish"
        )
    if cost.disk_bytes > storage.free_bytes:
        found.append(
            f"the output may take {cost.disk_bytes / 1e9:.0f} GB and {storage.free_bytes / 1e9:.0f}"
            " GB are free; that is without compression, but leave room or choose another --output"
        )
    return found
