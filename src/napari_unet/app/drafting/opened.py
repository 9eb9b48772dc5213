"""Everything that a drafting session works with, opened and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet.app.drafting.feature_net import FeatureNet
from napari_unet.app.drafting.head import HeadMaker
from napari_unet.app.drafting.network_image import NetworkImage
from napari_unet.app.plan import plan_segment
from napari_unet.core.job import SegmentJob
from napari_unet.inference.device import choose_backend
from napari_unet.model.weights import load_model

if TYPE_CHECKING:
    from napari_unet.app.plan import SegmentPlan
    from napari_unet.core.draft_job import DraftJob
    from napari_unet.core.normalization import Normalization
    from napari_unet.inference.device import Backend


@dataclass(frozen=True, slots=True)
class OpenedDraft:
    """What is drafted on.

    Parameters
    ----------
    job : DraftJob
        What the user asked for.
    image : NetworkImage
        What the network sees.
    net : FeatureNet
        The network without its last layer.
    heads : HeadMaker
        Makes the last layer.
    """

    job: DraftJob
    image: NetworkImage
    net: FeatureNet
    heads: HeadMaker


def plan_draft(job: DraftJob, backend: Backend) -> SegmentPlan:
    """Return the segmentation whose part a draft is, its image opened.

    Raises
    ------
    InputError, AxesError, ModelFileError, ConfigError
        If something does not exist or does not fit.
    """
    fields = ("input", "model", "axes", "channel", "level", "time", "rescale", "device", "threads")
    segment = SegmentJob.parse(
        {"output": "", **{name: getattr(job, name) for name in fields}}, source="draft"
    )
    return plan_segment(segment, backend.default_tile_edge)


def draft_backend(job: DraftJob) -> Backend:
    """Return where a draft is computed, in fp32.

    Raises
    ------
    BackendError
        If the device is not there.
    """
    return choose_backend(job.device, threads=job.threads)


def open_draft(
    job: DraftJob, plan: SegmentPlan, backend: Backend, normalization: Normalization
) -> OpenedDraft:
    """Return what a session works with; the network is loaded.

    Raises
    ------
    ModelFileError
        If the model file is damaged.
    """
    loaded = load_model(plan.model.path, expected_sha256=plan.model.sha256)
    net = FeatureNet(loaded.net, loaded.header, backend)
    names = [item.name for item in loaded.header.classes]
    heads = HeadMaker(loaded.net.head, names, net.widths)
    image = NetworkImage(plan.source, normalization, plan.grid.resampling)
    return OpenedDraft(job, image, net, heads)
