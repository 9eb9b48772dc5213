"""Where to paint next: a button, and a list of places that the view goes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QListWidget,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_unet.core.boxes import Box
from napari_unet.errors import TilingError, UNetError
from napari_unet.widgets._form import make_combo
from napari_unet.widgets._layers import LayerInput, find_input, spatial_shape
from napari_unet.widgets._one_shot import OneShot
from napari_unet.widgets._place_view import PlaceView
from napari_unet.widgets._view import as_spatial, current_slice

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from napari.layers import Image

    from napari_unet.widgets._one_shot import OneShotEnd

RANKINGS = (
    ("evenly spread", "random"),
    ("least sure first", "entropy"),
    ("models differ", "disagreement"),
)
"""What the user reads, and the value of ``--rank-by``; for painting, none was shown to be better
than the first, see docs/explanation/where-to-paint.md."""

SHORT_CHOICE = 6
"""Characters of a choice that are seen at least; two stand side by side."""

VISIBLE_ROWS = 5
"""Height of the list; more scroll."""

SEARCH, STOP = "Paint here next", "Stop searching"

CANCELLED_EXIT_CODE = 130
"""The command line's exit code for a search that was stopped."""


@dataclass(frozen=True, slots=True)
class PlacesInput:
    """Where a search takes from what it needs, at the time of the click.

    Parameters
    ----------
    image : callable
        The image layer that is painted on; None = none is chosen.
    model : callable
        Name of the model that learns, or path of its file; None = there is none yet.
    strokes : callable
        The stored annotation of the image, up to date; None = nothing is stored.
    parent : callable
        Another model to compare with; None = none.
    source : callable
        Where the engine can read what a layer shows; None = nowhere.
    """

    image: Callable[[], Image | None]
    model: Callable[[], str | None]
    strokes: Callable[[], Path | None] = lambda: None
    parent: Callable[[], str | None] = lambda: None
    source: Callable[[Image], LayerInput | None] = find_input


class PlacesBox(QWidget):
    """Asks `napari-unet suggest` where to paint next, and goes there on a click.

    Parameters
    ----------
    viewer : napari.Viewer
        Its camera and sliders are moved.
    given : PlacesInput
        What to search, and for which model.
    """

    went = Signal(object)
    """The `Box` that the view went to, (z, y, x)."""
    complained = Signal(str)
    """Why nothing was searched or found, in words."""

    def __init__(self, viewer: Any, given: PlacesInput) -> None:
        super().__init__()
        self._viewer, self._given = viewer, given
        self._search: OneShot | None = None
        self._image: Image | None = None
        self._places: list[dict[str, Any]] = []
        self._is_ranked = False
        self._complaint = ""
        self.view = PlaceView(viewer)
        self.button = QPushButton(SEARCH)
        self.scope_combo = make_combo((), "A volume is sampled; of a slice more is looked at")
        self.ranking_combo = make_combo(
            (),
            "Evenly spread: no other was shown to be better.\nLeast sure first: where the "
            "model doubts.\nModels differ: where it and the model that it was fine-tuned from say "
            "something else",
        )
        self.status = QLabel()
        self.list = QListWidget()
        self._lay_out()
        self.button.clicked.connect(self._on_clicked)
        self.list.itemClicked.connect(self._on_chosen)
        self.list.itemActivated.connect(self._on_chosen)

    def _lay_out(self) -> None:
        self.button.setToolTip(
            "Search places to paint in; those with strokes are left out. A click on one goes there"
        )
        self.scope_combo.addItem("in the volume", "volume")
        self.scope_combo.addItem("in this slice", "slice")
        self.scope_combo.setAccessibleName("Where to search")
        for words, ranking in RANKINGS:
            self.ranking_combo.addItem(words, ranking)
        self.ranking_combo.setAccessibleName("Which places come first")
        self.list.setAccessibleName("Places to paint in")
        self.list.setToolTip("Click a place to go there")
        self.list.setFixedHeight(self.fontMetrics().lineSpacing() * (VISIBLE_ROWS + 1))
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setWordWrap(True)
        self.list.hide()
        self.status.setWordWrap(True)
        self.status.setTextFormat(Qt.TextFormat.PlainText)
        self.status.hide()
        row = QHBoxLayout()
        row.setSpacing(4)
        for combo in (self.scope_combo, self.ranking_combo):
            combo.setMinimumContentsLength(SHORT_CHOICE)
        row.addWidget(self.scope_combo, stretch=1)
        row.addWidget(self.ranking_combo, stretch=1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.button)
        layout.addLayout(row)
        layout.addWidget(self.status)
        layout.addWidget(self.list)

    @property
    def is_searching(self) -> bool:
        """Whether a search is running."""
        return self._search is not None

    @property
    def places(self) -> tuple[Box, ...]:
        """The places that are listed, in order, (z, y, x)."""
        return tuple(_box(place) for place in self._places)

    def clear(self) -> None:
        """Forget all places, because image or model are others now; a search ends."""
        self.close_search()
        self._show([], ranked=False)
        self._say("")

    def close_search(self) -> None:
        """Stop a search and take the frame away; call it when the panel closes."""
        search, self._search = self._search, None
        if search is not None:
            search.stop()
        self.button.setText(SEARCH)
        self.view.remove()

    def _on_clicked(self) -> None:
        if self._search is not None:
            self.close_search()
            self._say("Stopped." if not self._places else "Stopped; these were found by then.")
            return
        try:
            arguments = self._arguments()
        except UNetError as error:
            self._complain(str(error))
            return
        self._complaint = ""
        self._show([], ranked=False)
        self._say("Searching")
        self.button.setText(STOP)
        self._search = OneShot(self, arguments)
        self._search.said.connect(self._on_said)
        self._search.ended.connect(self._on_ended)

    def _arguments(self) -> tuple[str, ...]:
        """Return the command line of a search; raises `UNetError` if nothing can be searched."""
        image, model = self._given.image(), self._given.model()
        if image is None:
            raise UNetError("there is no image to paint on; open one, and choose it")
        if model is None:
            raise UNetError("there is no model yet; choose one, or fine-tune first")
        shape = spatial_shape(image)
        source = self._given.source(image)
        if source is None:
            raise UNetError(
                f"the image {image.name!r} exists only in memory, where the search cannot read it; "
                "save it to a file and open that"
            )
        self._image = image
        options = {
            "--axes": source.axes,
            "--channel": source.channel,
            "--level": source.level or None,
            "--time": source.time,
            **self._ranking(),
            "--annotation": self._given.strokes(),
        }
        words = ["suggest", source.path, "--model", model, "--progress", "json"]
        for option, value in options.items():
            if value is not None:
                words += [option, str(value)]
        return (*words, *self._scope(image, shape))

    def _ranking(self) -> dict[str, str | None]:
        ranking = self.ranking_combo.currentData()
        if ranking != "disagreement":
            return {"--rank-by": ranking}
        parent = self._given.parent()
        if parent is None:
            raise UNetError(
                "there is no second model to compare with; choose one that was fine-tuned from "
                "another of your models, or places by another rule"
            )
        return {"--rank-by": ranking, "--compare-with": parent}

    def _scope(self, image: Image, shape: tuple[int, ...]) -> tuple[str, ...]:
        if self.scope_combo.currentData() != "slice" or len(shape) == 2:
            return ()
        if self._viewer.dims.ndisplay != 2:
            raise TilingError("a slice is chosen in the 2D display; switch to it")
        number = as_spatial(current_slice(self._viewer, image)).start[0]
        return "--scope", "slice", "--slice", str(number)

    def _on_said(self, event: dict[str, Any]) -> None:
        match event:
            case {"event": "suggest_progress", "done": done, "total": total}:
                self._say(f"Searching: {done} of {total} parts")
            case {"event": "place_found", "place": place} if not self._is_ranked:
                self._show([*self._places, place], ranked=False)
            case {"event": "places_ranked", "places": places, "ranking": ranking}:
                self._show(places, ranked=True)
                self._say(_how(ranking) if places else self._complaint)
            case {"event": "warned" | "failed", "message": message}:
                self._complaint = str(message)

    def _on_ended(self, end: OneShotEnd) -> None:
        self._search = None
        self.button.setText(SEARCH)
        if end.code in (0, CANCELLED_EXIT_CODE):
            return
        self._complain(self._complaint or f"The search ended: {end.reason}")

    def _show(self, places: list[dict[str, Any]], *, ranked: bool) -> None:
        """List places; what is chosen stays chosen while places are added."""
        kept = self.list.currentRow() if len(places) > self.list.count() else -1
        self._places, self._is_ranked = places, ranked
        self.list.clear()
        depth = 0 if self._image is None else len(spatial_shape(self._image)) - 2
        for place in places:
            self.list.addItem(_line(place, with_slice=depth > 0))
        self.list.setCurrentRow(kept)
        self.list.setVisible(bool(places))

    def _on_chosen(self, _: object) -> None:
        row, image = self.list.currentRow(), self._image
        if not 0 <= row < len(self._places):
            return
        if image is None or image not in self._viewer.layers:
            self._complain("The image of these places is closed; search again.")
            return
        box = _box(self._places[row])
        self.view.go_to(image, box)
        self.view.show_frame(image, box)
        self.went.emit(box)

    def _say(self, words: str) -> None:
        self.status.setText(words)
        self.status.setVisible(bool(words))

    def _complain(self, words: str) -> None:
        self._say(words)
        self.complained.emit(words)


def _box(place: Mapping[str, Any]) -> Box:
    box = place["box"]
    return Box(tuple(int(n) for n in box["start"]), tuple(int(n) for n in box["stop"]))


def _line(place: Mapping[str, Any], *, with_slice: bool) -> str:
    """Return a place in words: rank, slice, and how sure the model is."""
    rank = f"{place['rank']}. " if place["rank"] else ""
    z, y, x = place["box"]["start"]
    where = f"slice {z}" if with_slice else f"y {y}, x {x}"
    text = f"{rank}{where}: {place['words']}"
    return text[:1].upper() + text[1:] if not rank else text


def _how(ranking: str) -> str:
    if ranking == "random":
        return "Spread evenly, in any order; click one to go there."
    if ranking == "disagreement":
        return "Where the models differ most comes first; click one to go there."
    return "Where the model is least sure comes first; click one to go there."
