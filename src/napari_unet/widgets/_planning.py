"""The job that the form describes, for everybody who wants to know it before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from napari_unet.errors import ConfigError
from napari_unet.widgets._layers import LayerInput, find_input, local_path, spatial_shape
from napari_unet.widgets._output import TEMPORARY_FOLDERS, OutputPlace, output_path, stem_of
from napari_unet.widgets._request import Region, RunRequest, with_fitting_name, with_free_name
from napari_unet.widgets._spool import reserve, spool_request
from napari_unet.widgets._view import as_spatial, current_slice, visible_part

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_unet.core.boxes import Box
    from napari_unet.core.job import SegmentJob
    from napari_unet.widgets._request import Choices

UNSAVED = "IMAGE.zarr"
"""What stands for an image that is in no file."""


class Planner:
    """Makes jobs from choices, without running them.

    Parameters
    ----------
    viewer : napari.Viewer
        Its sliders and its camera say which slice and which part is meant.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._inputs: WeakKeyDictionary[Image, tuple[int, LayerInput | None]]
        self._inputs = WeakKeyDictionary()
        self._reserved: Path | None = None

    def request(self, choices: Choices) -> RunRequest:
        """Return what a click on Segment asks for.

        Raises
        ------
        TilingError
            If the wanted part of the layer is not in view.
        """
        model = choices.model
        return RunRequest(
            choices.layer,
            model.argument,
            model.name,
            self._region(choices),
            choices.place,
            choices.folder,
            choices.options,
            choices.anew,
        )

    def planned(self, choices: Choices) -> SegmentJob:
        """Return a job that takes what the chosen one will take, under the first name there is.

        Whether an earlier run has that name is not looked up: that takes a moment. A layer in
        memory is stood for by an empty file of its shape, until `forget`.

        Raises
        ------
        UNetError
            If layer, region or output cannot be used.
        """
        request, source = self.request(choices), self._input(choices.layer)
        if source is None:
            return with_free_name(_job(request, self._reserve(choices.layer)), request.model_name)
        job = _job(request, source)
        return job.model_copy(update={"name": request.model_name, "overwrite": request.anew})

    def shown(self, choices: Choices) -> tuple[SegmentJob, tuple[str, ...]]:
        """Return the job as the command line would do it, and what is to be said of it.

        Raises
        ------
        UNetError
            If layer, region or output cannot be used.
        """
        request, source = self.request(choices), self._input(choices.layer)
        notes: list[str] = []
        if request.place is OutputPlace.TEMPORARY:
            notes.append(
                "The panel writes into a temporary folder; this writes into the folder that it is "
                "run in."
            )
        if source is None:
            notes.append(
                f"The layer {request.layer.name!r} is in memory only: save it, and write its path "
                f"instead of {UNSAVED}."
            )
            job = _job(request, LayerInput(UNSAVED))
            return with_free_name(job, request.model_name), tuple(notes)
        job = _job(request, source)
        return with_fitting_name(job, request.model_name, anew=request.anew), tuple(notes)

    def checked(self, choices: Choices) -> SegmentJob:
        """Return the job whose seams are to be checked, in the middle of what is seen if it can be.

        Raises
        ------
        UNetError
            If layer or region cannot be used, or the layer is in memory only.
        """
        request, source = self.request(choices), self._input(choices.layer)
        if source is None:
            raise ConfigError(
                f"the layer {choices.layer.name!r} is in memory only, and the check reads files; "
                "save the layer and open the file"
            )
        return _job(request, source)

    def forget(self) -> None:
        """Delete what stood for a layer in memory."""
        if self._reserved is not None:
            TEMPORARY_FOLDERS.delete(self._reserved)
            self._reserved = None

    def _region(self, choices: Choices) -> Box | None:
        match choices.region:
            case Region.ALL_SLICES:
                return None
            case Region.THIS_SLICE:
                return as_spatial(current_slice(self._viewer, choices.layer))
            case Region.VISIBLE_PART:
                return as_spatial(visible_part(self._viewer, choices.layer))

    def _input(self, layer: Image) -> LayerInput | None:
        """Return where a layer is stored; looked up once for its data."""
        spatial_shape(layer)
        known = self._inputs.get(layer)
        if known is None or known[0] != id(layer.data):
            known = self._inputs[layer] = (id(layer.data), find_input(layer))
        return known[1]

    def _reserve(self, layer: Image) -> LayerInput:
        self.forget()
        self._reserved = TEMPORARY_FOLDERS.make()
        request = spool_request(layer, spatial_shape(layer), self._reserved)
        reserve(request)
        return LayerInput(str(request.path))


def _job(request: RunRequest, source: LayerInput) -> SegmentJob:
    """Return a request's job, not named yet; temporary output is in the current folder."""
    temporary = request.place is OutputPlace.TEMPORARY
    folder = Path() if temporary else request.folder
    image = local_path(request.layer)
    output = output_path(request.place, image, stem_of(image, request.layer.name), folder)
    return request.make_job(source, str(output))
