"""napari finds the plugin, and its entries lead to things that exist."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from napari._app_model.constants import MenuId
from npe2 import PluginManifest

ROOT = Path(__file__).resolve().parents[2]
PACKAGED = ROOT / "src" / "napari_unet" / "napari.yaml"


@pytest.fixture
def manifest() -> PluginManifest:
    return PluginManifest.from_file(PACKAGED)


def test_the_file_at_the_top_is_the_packaged_one() -> None:
    assert (ROOT / "napari.yaml").read_bytes() == PACKAGED.read_bytes()


def test_the_installed_distribution_announces_the_manifest(manifest: PluginManifest) -> None:
    installed = PluginManifest.from_distribution("napari-unet")
    assert installed.contributions == manifest.contributions


def test_every_command_leads_to_something_that_can_be_imported(manifest: PluginManifest) -> None:
    manifest.validate_imports()


def test_the_widget_is_called_segment_with_unet_everywhere(manifest: PluginManifest) -> None:
    contributions = manifest.contributions
    (widget,) = contributions.widgets or ()
    command = next(c for c in contributions.commands or () if c.id == widget.command)
    assert command.title == widget.display_name == "Segment with U-Net"


def test_menus_are_open_to_plugins_and_lead_to_the_widget(manifest: PluginManifest) -> None:
    menus = manifest.contributions.menus
    assert set(menus) == {"napari/layers/segment"}
    # napari ignores every other menu without a word.
    assert set(menus) <= {str(menu) for menu in MenuId.contributables()}
    assert [item.command for item in menus["napari/layers/segment"]] == [
        "napari-unet.segment_with_unet"
    ]


def test_the_reader_claims_its_own_suffix_only(manifest: PluginManifest) -> None:
    (reader,) = manifest.contributions.readers or ()
    assert reader.filename_patterns == ["*.unet.json"]


def test_discovery_does_not_import_the_package() -> None:
    code = (
        "import sys; from npe2 import PluginManager\n"
        "manager = PluginManager(); manager.discover()\n"
        "print(manager.get_manifest('napari-unet').display_name, 'napari_unet' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["U-Net", "False"]
