"""What the panel Segment says before it begins, how a run pauses and goes on, what it shows."""

from __future__ import annotations

import json
import shlex
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from napari.layers import Image, Labels
from qtpy.QtCore import QObject
from qtpy.QtWidgets import QApplication
from tests.widgets.test_dock import bright

from napari_unet.app.job_files import read_settings_file
from napari_unet.cli import segment as segment_command
from napari_unet.cli.main import app
from napari_unet.core.job import SegmentJob
from napari_unet.widgets import _estimate, _one_shot, _tile_times
from napari_unet.widgets._estimate import estimate_words, offer_words
from napari_unet.widgets._one_shot import OneShot, OneShotEnd
from napari_unet.widgets._process import ENGINE_ARGUMENTS
from napari_unet.widgets._seams import seam_words
from napari_unet.widgets._shown_command import CommandDialog, shown_command
from napari_unet.widgets._tile_times import TileTime

if TYPE_CHECKING:
    from collections.abc import Callable

FAKE_COMMANDS = Path(__file__).parent / "fake_commands.py"

PLAN: dict[str, Any] = {
    "tiles": 40,
    "blocks": 10,
    "blocks_left": 10,
    "memory_bytes": 700_000_000,
    "disk_bytes": 3_000_000,
    "tile_shape": [1, 512, 512],
    "objects": None,
    "begun": None,
    "storage": {"free_bytes": 50_000_000_000},
    "measured": {"network_seconds": 0.5, "reading_seconds": 0.75, "device": "cpu (2 threads)"},
    "rescale": None,
    "suggested_rescale": None,
    "notes": [],
}
BEGUN = {"state": "incomplete", "differs": [], "blocks_done": 4}

REPORT = {
    "tiles": 36,
    "pixels": 589_824,
    "largest_difference": 3e-7,
    "differing_pixels": 0,
    "holds": True,
    "place": [3, 40, 50],
}


class Commands:
    """What the fake command line is asked, and answers."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "asked.jsonl"
        self._folder = folder

    def answer(self, command: str, document: object, code: object = 0) -> None:
        path = self._folder / f"ANSWER-{command}.json"
        path.write_text(json.dumps([code, document]))

    def asked(self) -> list[list[str]]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines]


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """A fake command line for all but jobs; tile times lie in the folder of the test."""
    folder = tmp_path / "commands"
    folder.mkdir()
    found = Commands(folder)
    monkeypatch.setenv("FAKE_COMMANDS", str(found.log))
    monkeypatch.setattr(_one_shot, "PROGRAM", (str(FAKE_COMMANDS),))
    monkeypatch.setattr(_estimate, "REST_MS", 0)
    monkeypatch.setattr(_tile_times, "times_path", lambda: tmp_path / "cache" / "times.json")
    found.answer("plan", PLAN)
    found.answer("seams", REPORT)
    return found


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tile_times, "times_path", lambda: tmp_path / "cache" / "times.json")


@pytest.fixture
def real_dock(make_dock: Callable[..., Any], tiny_model: Path) -> Any:
    """A dock over the real engine, with the tiny model chosen in it."""
    dock = make_dock(arguments=ENGINE_ARGUMENTS["segment"])
    dock.panel.form.add_model_file(tiny_model)
    return dock


def collect(shot: OneShot) -> tuple[list[Any], list[OneShotEnd]]:
    said: list[Any] = []
    ends: list[OneShotEnd] = []
    shot.said.connect(said.append)
    shot.ended.connect(ends.append)
    return said, ends


# -------------------------------------------------------------------------- one command


def test_one_command_says_its_document_and_ends(qtbot: Any, user: Any, commands: Commands) -> None:
    parent = QObject()
    said, ends = collect(OneShot(parent, ("plan", "a b.tif")))
    user.wait_until(lambda: bool(ends))
    assert said == [PLAN]
    assert ends[0].code == 0
    assert commands.asked() == [["plan", "a b.tif"]]


def test_one_command_says_why_it_failed(qtbot: Any, user: Any, commands: Commands) -> None:
    commands.answer("plan", None, 2)
    parent = QObject()
    said, ends = collect(OneShot(parent, ("plan",)))
    user.wait_until(lambda: bool(ends))
    assert said == []
    assert ends == [OneShotEnd(2, "a library's warning\nerror: the image has 3 channels")]
    assert ends[0].reason == "the image has 3 channels"


def test_a_stopped_command_says_nothing_and_is_dead(
    qtbot: Any, user: Any, commands: Commands
) -> None:
    commands.answer("plan", PLAN, "hang")
    parent = QObject()
    shot = OneShot(parent, ("plan",))
    said, ends = collect(shot)
    user.wait_until(lambda: bool(commands.asked()))
    pid = int(shot._process.processId())
    shot.stop()
    assert not shot.is_running
    user.wait_until(lambda: not user.is_alive(pid))
    assert (said, ends) == ([], [])


def test_one_command_is_the_command_line(
    qtbot: Any, user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = QObject()
    _, ends = collect(OneShot(parent, ("plan", "--no-such-option")))
    user.wait_until(lambda: bool(ends))
    assert ends[0].code == 2
    assert "--no-such-option" in ends[0].log


# -------------------------------------------------------------------------- words

TIME = TileTime(0.75, (1, 512, 512), "cpu (2 threads)")


@pytest.mark.parametrize(
    ("changed", "time", "wanted"),
    [
        ({}, TIME, "40 tiles, about 30 s on cpu (2 threads). 700 MB of memory; at most 3 MB of"),
        ({}, None, "40 tiles. 700 MB of memory; at most 3 MB of disk, 50 GB are free."),
        ({"begun": BEGUN, "blocks_left": 6}, TIME, "24 tiles, about 18 s"),
        ({"begun": BEGUN, "blocks_left": 6}, TIME, "4 of 10 blocks are done: Segment goes on"),
        ({"begun": BEGUN, "blocks_left": 0}, TIME, "This was done before: Segment shows it."),
        # Begun with other options: nothing goes on from there.
        ({"begun": BEGUN | {"differs": ["level: 0 -> 1"]}, "blocks_left": 6}, TIME, "24 tiles"),
        ({"notes": ["the image is gray"]}, TIME, "\nThe image is gray."),
        (
            {"objects": {"memory_bytes": 9e9, "disk_bytes": 1e6}},
            TIME,
            "9 GB of memory; at most 4 MB",
        ),
        ({"tiles": 1, "blocks": 1, "blocks_left": 1}, None, "1 tile. "),
    ],
)
def test_a_plan_in_words(changed: dict[str, Any], time: TileTime | None, wanted: str) -> None:
    assert wanted in estimate_words(PLAN | changed, time)


def test_the_offer_to_rescale_says_what_is_not_so() -> None:
    far = PLAN | {"suggested_rescale": [0.5, 0.5]}
    assert offer_words(PLAN) == ("", "")
    words, button = offer_words(far)
    assert "shown 0.5 x" in words
    assert button == "Rescale"
    assert offer_words(far | {"rescale": [0.5, 0.5]}) == ("", "Do not rescale")


def test_seams_in_words() -> None:
    assert seam_words(REPORT).startswith("No seams. 36 tiles")
    assert "no pixel gets another class" in seam_words(REPORT)
    bad = REPORT | {"holds": False, "largest_difference": 0.123, "differing_pixels": 1234}
    words = seam_words(bad)
    assert words.startswith("There are seams!")
    assert "0.1, 1,234 pixels get another class" in words
    assert "z 3, y 40, x 50" in words


def test_times_of_tiles_are_remembered(commands: Commands) -> None:
    job = SegmentJob(input="a", model="m", output="b")
    key = _tile_times.occasion_of(job, "1" * 64)
    assert _tile_times.recall(key) == ()
    smaller = TileTime(0.1, (1, 64, 64), "cpu (2 threads)")
    for time in (replace(TIME, seconds=9.0), smaller, TIME):
        _tile_times.remember(key, time)
    assert set(_tile_times.recall(key)) == {smaller, TIME}
    others = ({"device": "cpu"}, {"average": "d4"}, {"tile_size": 64}, {"rescale": "off"})
    keys = {_tile_times.occasion_of(job.model_copy(update=other), "1" * 64) for other in others}
    assert len(keys | {key, _tile_times.occasion_of(job, "2" * 64)}) == 6
    assert not any(_tile_times.recall(other) for other in keys)
    damaged: tuple[object, ...] = (
        {"seconds": "x"},
        {"a": {"seconds": "x", "tile_shape": [1], "device": ""}},
        [],
        1,
    )
    for text in ("{", "[]", '{"times": 1}', *(json.dumps({"times": {key: d}}) for d in damaged)):
        _tile_times.times_path().write_text(text)
        assert _tile_times.recall(key) == ()


# -------------------------------------------------------------------------- before it begins


def words_of(dock: Any) -> str:
    return str(dock.panel.estimate.words.text())


def test_it_says_what_it_takes_and_measures_once(
    user: Any, make_dock: Any, commands: Commands, stored_stack: Any
) -> None:
    dock = make_dock(show=True)
    dock.panel._viewer.add_image(stored_stack, name="em")
    user.wait_until(lambda: "40 tiles, about 30 s" in words_of(dock))
    (first,) = commands.asked()
    assert first[:2] == ["plan", str(stored_stack.store.root)]
    assert {"--measure", "--json"} <= set(first)
    commands.answer("plan", PLAN | {"measured": None})
    user.choose(dock, region="all slices")
    user.wait_until(lambda: len(commands.asked()) == 2)
    assert "--no-measure" in commands.asked()[1]
    assert "--region" not in commands.asked()[1]
    user.wait_until(lambda: not dock.panel.estimate._shot)
    assert "40 tiles, about 30 s" in words_of(dock)
    # Another tile than the one that was measured: once more.
    commands.answer("plan", PLAN | {"measured": None, "tile_shape": [1, 256, 256]})
    user.choose(dock, region="this slice")
    user.wait_until(lambda: len(commands.asked()) >= 4)
    assert ["--no-measure" in words for words in commands.asked()[2:4]] == [True, False]
    # And not again and again.
    user.wait_until(lambda: not dock.panel.estimate._shot)
    assert len(commands.asked()) == 4
    assert words_of(dock).startswith("40 tiles. ")


def test_what_was_not_answered_is_asked_again(
    user: Any, make_dock: Any, commands: Commands, stored_stack: Any
) -> None:
    commands.answer("plan", PLAN, "hang")
    dock = make_dock(show=True)
    dock.panel._viewer.add_image(stored_stack, name="em")
    user.wait_until(lambda: words_of(dock) == "Estimating ...")
    dock.pages.setCurrentIndex(2)
    # Nobody estimates now.
    assert words_of(dock) == ""
    commands.answer("plan", PLAN)
    dock.pages.setCurrentIndex(0)
    user.wait_until(lambda: "40 tiles" in words_of(dock))


def test_nothing_is_asked_while_nobody_looks_or_a_job_runs(
    user: Any, qtbot: Any, make_dock: Any, commands: Commands, stored_stack: Any
) -> None:
    dock = make_dock("slow")
    dock.panel._viewer.add_image(stored_stack, name="em")
    user.wait_until(lambda: dock.panel.runner.is_warm)
    qtbot.wait(200)
    assert not commands.asked()
    dock.panel._viewer.window._qt_window.show()
    user.wait_until(lambda: "40 tiles" in words_of(dock))
    commands.answer("plan", PLAN, "hang")
    user.choose(dock, region="all slices")
    user.wait_until(lambda: len(commands.asked()) == 2)
    shot = dock.panel.estimate._shot
    user.click(dock.panel.segment_button)
    assert not shot.is_running
    dock.panel.form.changed.emit()
    qtbot.wait(100)
    assert len(commands.asked()) == 2
    user.wait_until(lambda: not dock.panel.is_running)


def test_names_of_other_choices_are_passed_over(
    user: Any, make_dock: Any, commands: Commands, stored_stack: Any
) -> None:
    """As a click does: what was made with other options keeps its name."""
    commands.answer("plan", PLAN | {"begun": BEGUN | {"differs": ["level: 0 -> 1"]}})
    dock = make_dock(show=True)
    dock.panel._viewer.add_image(stored_stack, name="em")
    user.wait_until(lambda: "40 tiles" in words_of(dock))
    names = [words[words.index("--name") + 1] for words in commands.asked()]
    assert names == ["fake", "fake-2", "fake-3", "fake-4", "fake-5"]
    assert ["--measure" in words for words in commands.asked()] == [True] + 4 * [False]
    assert dock.panel.form.anew_box.isHidden()


def test_what_cannot_be_planned_is_said(
    user: Any, make_dock: Any, commands: Commands, stored_stack: Any
) -> None:
    commands.answer("plan", None, 2)
    dock = make_dock(show=True)
    viewer = dock.panel._viewer
    viewer.add_image(stored_stack, name="em")
    user.wait_until(lambda: words_of(dock) == "the image has 3 channels")
    viewer.add_image(np.zeros((8, 8, 3), np.uint8), rgb=True, name="photo")
    user.choose(dock, layer="photo")
    user.wait_until(lambda: "Split RGB" in words_of(dock))
    assert len(commands.asked()) == 1


def test_a_layer_in_memory_is_planned_without_copying_it(
    user: Any, make_dock: Any, commands: Commands, stack: Any, temporary_root: Path
) -> None:
    dock = make_dock(show=True)
    dock.panel._viewer.add_image(stack, name="mine")
    user.wait_until(lambda: "40 tiles" in words_of(dock))
    path = Path(commands.asked()[0][1])
    stand_in = zarr.open_array(path / "0", mode="r")
    assert stand_in.shape == stack.shape
    assert stand_in.nchunks_initialized == 0
    words = user.segment_and_wait(dock)
    assert words.startswith("Done"), words
    np.testing.assert_array_equal(
        np.asarray(dock.panel._viewer.layers[-1].data)[1], bright(stack)[1]
    )
    dock.panel.close_engine(let_job_go_on=False)
    dock.panel.open()
    assert not path.exists()


def test_the_offer_to_rescale_can_be_taken(
    user: Any, make_dock: Any, commands: Commands, stored_stack: Any
) -> None:
    commands.answer("plan", PLAN | {"rescale": [0.5, 0.5], "suggested_rescale": [0.5, 0.5]})
    dock = make_dock(show=True)
    form = dock.panel.form
    dock.panel._viewer.add_image(stored_stack, name="em")
    button = dock.panel.estimate.offer_button
    user.wait_until(lambda: button.text() == "Do not rescale")
    assert form.rescale_combo.currentText() == "as the model needs (0.5 x)"
    commands.answer("plan", PLAN | {"suggested_rescale": [0.5, 0.5]})
    user.click(button)
    assert form.choices().options["rescale"] == "off"
    user.wait_until(lambda: button.text() == "Rescale")
    words = commands.asked()[-1]
    assert words[words.index("--rescale") + 1] == "off"
    user.click(button)
    assert form.choices().options["rescale"] == "auto"


def test_to_start_anew_is_offered_where_there_is_something(
    user: Any, make_dock: Any, commands: Commands, stored_stack: Any
) -> None:
    commands.answer("plan", PLAN | {"begun": BEGUN, "blocks_left": 6})
    dock = make_dock(show=True)
    form = dock.panel.form
    dock.panel._viewer.add_image(stored_stack, name="em")
    user.wait_until(lambda: not form.anew_box.isHidden())
    assert not form.choices().anew
    form.anew_box.click()
    assert form.choices().anew
    user.wait_until(lambda: len(commands.asked()) == 2)
    commands.answer("plan", PLAN)
    user.choose(dock, region="all slices")
    user.wait_until(form.anew_box.isHidden)
    assert not form.choices().anew


# -------------------------------------------------------------------------- pause, stop, go on


def test_pause_and_go_on(user: Any, qtbot: Any, make_dock: Any, stored_stack: Any) -> None:
    dock = make_dock("held")
    panel = dock.panel
    panel._viewer.add_image(stored_stack, name="em")
    assert not panel.pause_button.isEnabled()
    user.choose(dock, region="all slices")
    user.click(panel.segment_button)
    labels = user.wait_for_labels(dock)
    user.wait_until(lambda: panel.progress_bar.value() > 0)
    user.click(panel.pause_button)
    user.wait_until(lambda: panel.pause_button.text() == "Go on")
    assert panel.progress_label.text() == "Paused"
    # The bar stands where the job does.
    assert (panel.progress_bar.minimum(), panel.progress_bar.maximum()) == (0, 1000)
    before = int(np.count_nonzero(np.asarray(labels.data)))
    qtbot.wait(400)
    assert int(np.count_nonzero(np.asarray(labels.data))) == before
    user.click(panel.pause_button)
    user.wait_until(lambda: not panel.is_running)
    assert panel.message.toPlainText().startswith("Done")
    assert panel.pause_button.text() == "Pause"
    assert np.asarray(labels.data).all()


def test_a_paused_job_can_be_stopped_or_left_to_go_on(
    user: Any, make_dock: Any, stored_stack: Any, stack: Any
) -> None:
    dock = make_dock("held")
    panel = dock.panel
    panel._viewer.add_image(stored_stack, name="em")
    user.choose(dock, region="all slices")

    def begin_and_pause() -> Any:
        user.click(panel.segment_button)
        labels = user.wait_for_labels(dock)
        user.wait_until(lambda: panel.progress_bar.value() > 0)
        user.click(panel.pause_button)
        user.wait_until(lambda: panel.pause_button.text() == "Go on")
        return labels

    begin_and_pause()
    user.click(panel.stop_button)
    user.wait_until(lambda: not panel.is_running)
    assert panel.message.toPlainText().startswith("Stopped after")
    panel._viewer.layers.pop()
    path = begin_and_pause().metadata["napari-unet"]["labels"]
    pid = panel.runner.process_id
    panel.close_engine(let_job_go_on=True)
    user.wait_until(lambda: not user.is_alive(pid))
    np.testing.assert_array_equal(zarr.open_array(path, mode="r")[:], bright(stack))
    panel.open()


def test_after_a_stop_the_same_choices_go_on(
    user: Any, real_dock: Any, own_cache: None, tmp_path: Path, rng: np.random.Generator
) -> None:
    path = tmp_path / "em.zarr"
    array = zarr.create_array(
        path, shape=(6, 512, 512), dtype="uint8", chunks=(1, 512, 512),
        dimension_names=("z", "y", "x"),
    )  # fmt: skip
    array[:] = rng.integers(0, 256, array.shape, dtype=np.uint8)
    panel = real_dock.panel
    panel._viewer.add_image(zarr.open_array(path, mode="r"), name="em")
    user.choose(real_dock, region="all slices")
    user.click(panel.segment_button)
    user.wait_until(lambda: panel._run is not None and panel._run._meter.share > 0.3)
    user.click(panel.stop_button)
    user.wait_until(lambda: not panel.is_running)
    assert "Segment computes the rest." in panel.message.toPlainText()
    name = panel._viewer.layers[-1].metadata["napari-unet"]["name"]
    words = user.segment_and_wait(real_dock)
    assert words.startswith("Done"), words
    assert "blocks of tiny are done already" in words
    labels = path.parent / "em.unet.zarr" / "labels"
    assert [p.name for p in labels.iterdir() if p.is_dir()] == [name] == ["tiny"]
    # One layer shows it, not one for each click.
    assert [type(layer) for layer in panel._viewer.layers] == [Image, Labels]
    before = np.asarray(panel._viewer.layers[-1].data)
    assert before.all()
    # Once more: it is done, and shown at once. Other options get a name of their own.
    assert user.segment_and_wait(real_dock).startswith("This was done before")
    assert [type(layer) for layer in panel._viewer.layers] == [Image, Labels]
    panel.form.offer_anew(True)
    panel.form.anew_box.click()
    user.choose(real_dock, region="this slice")
    words = user.segment_and_wait(real_dock)
    assert sorted(p.name for p in labels.iterdir() if p.is_dir()) == ["tiny", "tiny-2"]
    user.wait_until(lambda: panel.runner.is_warm)
    panel.form.offer_anew(True)
    panel.form.anew_box.setChecked(True)
    words = user.segment_and_wait(real_dock)
    assert words.startswith("Done"), words
    assert sorted(p.name for p in labels.iterdir() if p.is_dir()) == ["tiny", "tiny-2"]


# -------------------------------------------------------------------------- results


@pytest.mark.parametrize("result", ["probabilities", "objects"])
def test_results_lie_on_the_image_with_names_and_colors(
    user: Any, real_dock: Any, own_cache: None, stored_stack: Any, result: str
) -> None:
    viewer = real_dock.panel._viewer
    image = viewer.add_image(stored_stack, name="em", scale=(20, 5, 5), translate=(1, 2, 3))
    image.units = ("nanometer",) * 3
    user.choose(real_dock, region="all slices", result=result)
    words = user.segment_and_wait(real_dock)
    assert words.startswith("Done"), words
    classes, *rest = (layer for layer in viewer.layers if layer is not image)
    assert not classes.visible
    for layer in rest:
        np.testing.assert_array_equal(layer.scale, image.scale)
        np.testing.assert_array_equal(layer.translate, image.translate)
        assert layer.units == image.units
        assert layer.metadata["napari-unet"]["output"].endswith("stack.unet.zarr")
    if result == "objects":
        (objects,) = rest
        assert objects.name == "em: tiny-objects"
        found = [n for n in np.unique(np.asarray(objects.data)) if n]
        assert f"{len(found)} objects; table" in words
        assert list(objects.features["index"]) == found
        return
    assert [layer.name for layer in rest] == ["em: tiny, interior", "em: tiny, membrane"]
    chances = [np.asarray(layer.data) for layer in rest]
    np.testing.assert_allclose(sum(chances), 1, atol=1e-5)
    np.testing.assert_array_equal(1 + (chances[1] > chances[0]), np.asarray(classes.data))
    np.testing.assert_allclose(rest[1].colormap.colors[1], (0xE8 / 255, 0xA3 / 255, 0x3D / 255, 1))
    assert tuple(rest[1].contrast_limits) == (0, 1)
    assert [layer.visible for layer in rest] == [False, True]


# -------------------------------------------------------------------------- the command


CHOICES: list[dict[str, str]] = [
    {},
    {"region": "all slices"},
    {"region": "the visible part"},
    {"result": "objects"},
    {"result": "probabilities"},
    {"device": "cpu"},
    {"rescale": "off"},
    {"average": "4 mirrored versions"},
    {"average": "4 turned versions"},
    {"average": "all 8 versions"},
    {"output": "in a folder ..."},
    {"output": "temporary"},
    {"tile": "192"},
    {"anew": "yes"},
    {"model": "a file"},
]


def parsed_by_the_command_line(words: str, monkeypatch: pytest.MonkeyPatch) -> SegmentJob:
    """Return the job that the CLI makes of a command line."""
    program, *arguments = shlex.split(words)
    assert program == "napari-unet"
    jobs: list[SegmentJob] = []

    def keep(found: list[SegmentJob], *_: object) -> int:
        jobs.extend(found)
        return 0

    monkeypatch.setattr(segment_command, "_run_all", keep)
    with pytest.raises(SystemExit) as ended:
        app(arguments)
    assert not ended.value.code
    (job,) = jobs
    return job


@pytest.mark.parametrize("choices", CHOICES, ids=lambda c: "-".join(c.values()) or "none")
def test_the_shown_command_is_what_the_click_does(
    user: Any,
    make_dock: Any,
    tiny_model: Path,
    stored_stack: Any,
    tmp_path: Path,
    choices: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dock = make_dock()
    form, panel = dock.panel.form, dock.panel
    panel._viewer.add_image(stored_stack, name="em")
    chosen = dict(choices)
    if "tile" in chosen:
        form.tile_spin.setValue(int(chosen.pop("tile")))
    if "model" in chosen:
        chosen.pop("model")
        form.add_model_file(tiny_model)
    if "anew" in chosen:
        chosen.pop("anew")
        form.offer_anew(True)
        form.anew_box.setChecked(True)
    if chosen.get("output") == "in a folder ...":
        form.choose_folder(tmp_path / "my results")
    user.choose(dock, **chosen)
    user.click(panel.command_button)
    (dialog,) = panel.findChildren(CommandDialog)
    command, file = dialog.command_text.toPlainText(), dialog.file_text.toPlainText()
    path = tmp_path / "job.toml"
    dialog.save(path)
    dialog.close()
    user.click(panel.segment_button)
    job = panel._run._job
    user.wait_until(lambda: not panel.is_running)
    if choices.get("output") == "temporary":
        job = job.model_copy(update={"output": "stack.unet.zarr"})
    assert parsed_by_the_command_line(command, monkeypatch) == job
    assert SegmentJob.parse(tomllib.loads(file), source="shown") == job
    assert SegmentJob.parse(read_settings_file(path), source="saved") == job
    default = shown_command(SegmentJob(input=job.input, model="m", output="o"))
    assert len(shlex.split(command)) > len(shlex.split(default))


def test_the_command_names_what_a_file_is_missing(user: Any, make_dock: Any, stack: Any) -> None:
    dock = make_dock()
    user.click(dock.panel.command_button)
    assert "no image layer" in dock.panel.message.toPlainText()
    dock.panel._viewer.add_image(stack, name="mine")
    job, notes = dock.panel._planner.shown(dock.panel.form.choices())
    assert job.input == "IMAGE.zarr"
    assert any("temporary folder" in note for note in notes)
    assert any("'mine' is in memory only" in note for note in notes)


# -------------------------------------------------------------------------- seams


def test_the_seam_check_says_a_sentence(
    user: Any, make_dock: Any, commands: Commands, stored_stack: Any
) -> None:
    dock = make_dock()
    seams = dock.panel.seams
    viewer = dock.panel._viewer
    user.click(seams.button)
    assert "no image layer" in seams.words.text()
    viewer.add_image(stored_stack, name="em")
    viewer.dims.set_point(0, 2)
    user.choose(dock, device="cpu", result="objects")
    user.click(seams.button)
    assert seams.is_running
    user.wait_until(lambda: not seams.is_running)
    assert seams.words.text().startswith("No seams.")
    (words,) = commands.asked()
    assert words[:2] == ["seams", str(stored_stack.store.root)]
    assert words[words.index("--region") + 1].startswith("2:3,")
    assert "--output-kind" not in words
    assert words[-1] == "--json"
    commands.answer("seams", None, 2)
    user.click(seams.button)
    user.wait_until(lambda: not seams.is_running)
    assert seams.words.text() == "The check failed: the image has 3 channels"
    commands.answer("seams", REPORT | {"holds": False}, 3)
    user.click(seams.button)
    user.wait_until(lambda: not seams.is_running)
    assert seams.words.text().startswith("There are seams!")


def test_a_seam_check_can_be_stopped_and_needs_a_file(
    user: Any, make_dock: Any, commands: Commands, stored_stack: Any, stack: Any
) -> None:
    commands.answer("seams", REPORT, "hang")
    dock = make_dock()
    seams = dock.panel.seams
    dock.panel._viewer.add_image(stored_stack, name="em")
    user.click(seams.button)
    user.wait_until(lambda: bool(commands.asked()))
    assert seams.button.text() == "Stop checking"
    user.click(seams.button)
    assert not seams.is_running
    assert seams.button.text() == "Check seams"
    dock.panel._viewer.add_image(stack, name="mine")
    user.choose(dock, layer="mine")
    user.click(seams.button)
    assert "in memory only" in seams.words.text()


# -------------------------------------------------------------------------- the form


def test_the_panel_fits_into_a_narrow_dock_and_tab_goes_from_top_to_bottom(
    make_dock: Any, stored_stack: Any
) -> None:
    dock = make_dock()
    panel = dock.panel
    panel._viewer.add_image(stored_stack, name="a layer whose name is much too long for the dock")
    panel.form.more.expand(animate=False)
    panel.estimate.words.setText(estimate_words(PLAN, TIME))
    panel.seams.words.setText(seam_words(REPORT))
    panel.seams.words.show()
    QApplication.processEvents()
    assert panel.minimumSizeHint().width() <= 300
    form = panel.form
    order = [
        form.layer_combo, form.model_combo, form.region_combo, form.result_combo,
        form.output_combo, form.anew_box, form.more.toggleButton(), form.device_combo,
        form.rescale_combo, form.average_combo, form.tile_spin, panel.seams.button,
        panel.command_button, panel.estimate.offer_button, panel.segment_button,
        panel.pause_button, panel.stop_button,
    ]  # fmt: skip
    found, widget = [form.layer_combo], form.layer_combo.nextInFocusChain()
    # Not beyond the panel: PySide6 keeps what of napari's window it has once returned.
    while widget is not form.layer_combo and len(found) < len(order):
        found += [widget] if widget in order else []
        widget = widget.nextInFocusChain()
    assert found == order
    assert all(widget.toolTip() for widget in order)


def test_a_run_of_before_goes_on_by_its_job(
    user: Any, make_dock: Any, stored_stack: Any, stack: Any
) -> None:
    dock = make_dock()
    panel = dock.panel
    layer = panel._viewer.add_image(stored_stack, name="em")
    output = Path(stored_stack.store.root).parent / "kept.zarr"
    job = SegmentJob(
        input=str(stored_stack.store.root), axes="zyx", model="gone", output=str(output),
        name="earlier", region="0:1,0:150,0:200", overwrite=True,
    )  # fmt: skip
    panel.go_on(layer, job)
    assert panel._run._job == job.model_copy(update={"overwrite": False})
    user.wait_until(lambda: not panel.is_running)
    assert panel.message.toPlainText().startswith("Done")
    stored = zarr.open_array(output / "labels" / "earlier" / "0", mode="r")
    np.testing.assert_array_equal(stored[0], bright(stack)[0])
