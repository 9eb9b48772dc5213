"""The page in napari's preferences, and what the panels make of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from npe2 import PluginManifest
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication

from napari_unet.app.models import find_model
from napari_unet.widgets._form import DEVICES
from napari_unet.widgets._preferences import PLUGIN, Preferences, preferred

MANIFEST = Path(__file__).resolve().parents[2] / "src" / "napari_unet" / "napari.yaml"


@pytest.fixture
def settings(plugin_settings: Any, npe2pm: Any) -> Any:
    """Our page of the preferences, whose file lies in the test's folder."""
    from napari.settings import get_plugin_settings

    npe2pm.register(PluginManifest.from_file(MANIFEST))
    return get_plugin_settings(PLUGIN).defaults


def test_nothing_is_set_at_first(settings: Any) -> None:
    assert preferred() == Preferences("auto", 0.0, None)
    header = find_model("em-membranes").header
    assert preferred().tile_size(header) is None


def test_what_is_set_counts(settings: Any, tmp_path: Path) -> None:
    settings.device = "cpu"
    settings.tile_memory = 0.1
    settings.folder = f" {tmp_path} "
    assert preferred() == Preferences("cpu", 0.1, tmp_path)
    size = preferred().tile_size(find_model("em-membranes").header)
    assert size is not None
    assert 16 <= size < 512


def test_what_cannot_be_is_refused(settings: Any) -> None:
    with pytest.raises(ValueError, match="vulkan"):
        settings.device = "vulkan"
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        settings.tile_memory = -1
    assert preferred() == Preferences()


def test_the_devices_are_those_of_the_form(settings: Any) -> None:
    manifest = PluginManifest.from_file(MANIFEST)
    properties = manifest.contributions.configurations["defaults"].properties
    assert tuple(properties["device"].enum) == DEVICES
    # napari shows the description below the title; without one it shows nothing.
    assert all(each.description for each in properties.values())


def test_a_napari_without_plugin_settings_gives_the_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import napari.settings

    monkeypatch.delattr(napari.settings, "get_plugin_settings")
    assert preferred() == Preferences()


def test_a_manifest_that_is_not_found_gives_the_defaults(plugin_settings: Any, npe2pm: Any) -> None:
    assert preferred() == Preferences()


def test_a_new_panel_begins_with_them(
    settings: Any, make_dock: Any, tmp_path: Path, stored_stack: Any, user: Any
) -> None:
    settings.device, settings.tile_memory = "cpu", 0.02
    settings.folder = str(tmp_path / "results")
    dock = make_dock()
    form, viewer = dock.panel.form, dock.panel._viewer
    viewer.add_image(stored_stack, name="em")
    assert (form.device_combo.currentText(), form.folder) == ("cpu", tmp_path / "results")
    assert form.output_combo.currentText() == "in a folder ..."
    assert form.tile_spin.text() == "within 0.02 GB"
    options = form.choices().options
    assert options["device"] == "cpu"
    assert options["tile_size"] == preferred().tile_size(form.choices().model.header)
    # What is chosen in the panel counts more.
    form.tile_spin.setValue(128)
    assert form.choices().options["tile_size"] == 128
    assert user.segment_and_wait(dock).startswith("Done")
    assert (tmp_path / "results" / "stack.unet.zarr").is_dir()


def test_an_open_panel_follows_them_when_their_dialog_is_closed(
    settings: Any, make_dock: Any, user: Any
) -> None:
    dock = make_dock()
    dock.pages.setCurrentIndex(1)
    user.wait_until(lambda: dock._window is not None)
    form = dock.panel.form
    form.device_combo.setCurrentText("cuda")
    # Nothing has changed: what was chosen stays.
    QApplication.sendEvent(dock._window, QEvent(QEvent.Type.WindowActivate))
    assert form.device_combo.currentText() == "cuda"
    settings.device = "cpu"
    QApplication.sendEvent(dock._window, QEvent(QEvent.Type.WindowActivate))
    assert form.device_combo.currentText() == "cpu"
    assert dock.fine_tune.form.options.device_combo.currentText() == "cpu"


def test_opening_does_not_read_all_manifests_for_nothing(
    plugin_settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import napari.settings

    def slow(_: str) -> None:
        raise AssertionError("the manifests are read")

    monkeypatch.setattr(napari.settings, "get_plugin_settings", slow)
    assert preferred() == Preferences()


def test_what_was_set_in_an_earlier_session_is_read(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import napari.settings

    settings.device = "cpu"
    (file,) = tmp_path.rglob("napari-unet.yaml")
    napari.settings._clear_plugin_settings_cache()
    napari_settings = type("Settings", (), {"config_path": file.with_name("settings.yaml")})
    monkeypatch.setattr(napari.settings, "get_settings", napari_settings)
    assert preferred() == Preferences("cpu")
