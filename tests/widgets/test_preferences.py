"""The page in napari's preferences, and what the panels make of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from npe2 import PluginManifest

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
