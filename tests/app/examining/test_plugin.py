"""Qt and OpenGL for the plugin: what draws is told, and what is broken hurts nobody else."""

from __future__ import annotations

import os
from typing import Any

import pytest

from napari_unet.app.examining import plugin
from napari_unet.app.examining.child import Answer, ask
from napari_unet.app.examining.plugin import PROBE_MODULE, examine_plugin, judge_opengl

GOOD = {
    "binding": "PyQt6",
    "qt": "6.11.2",
    "platform": "xcb",
    "renderer": "NVIDIA RTX A4000/PCIe/SSE2",
    "version": "4.6.0 NVIDIA 550.54",
    "max_texture_size": 32768,
}


def test_the_qt_of_these_tests_draws() -> None:
    findings = examine_plugin()
    assert [finding.name for finding in findings] == ["qt", "opengl"]
    assert findings[0].state == "ok"
    assert findings[0].values["binding"] in findings[0].text
    assert findings[1].state in {"ok", "note"}, findings[1].text
    assert findings[1].values["max_texture_size"] >= 2048


def test_a_qt_that_aborts_is_a_problem_and_no_more() -> None:
    environment = {"DISPLAY": ":4711", "QT_QPA_PLATFORM": "xcb", "WAYLAND_DISPLAY": ""}
    answer = ask(PROBE_MODULE, environment=environment)
    assert answer.facts is None
    assert "could not connect to display :4711" in answer.failure


def test_a_broken_qt_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "ask", lambda module, timeout: Answer(None, "ended by signal 6"))
    (finding,) = examine_plugin()
    assert (finding.name, finding.state) == ("qt", "problem")
    assert "ended by signal 6" in finding.text


@pytest.mark.parametrize(
    ("changed", "state", "text"),
    [
        ({}, "ok", "NVIDIA RTX A4000"),
        ({"renderer": "llvmpipe (LLVM 15.0.6, 256 bits)"}, "note", "drawn by the CPU"),
        ({"renderer": "GDI Generic", "version": "1.1.0"}, "problem", "OpenGL 1.1.0"),
        ({"renderer": "", "version": ""}, "problem", "there is none"),
    ],
)
def test_software_and_old_drivers_are_told(changed: dict[str, Any], state: str, text: str) -> None:
    finding = judge_opengl({**GOOD, **changed})
    assert finding.state == state
    assert text in finding.text


@pytest.mark.parametrize("name", ["napari", "display"])
def test_where_there_is_no_plugin_there_is_a_note(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name == "napari":
        monkeypatch.setattr(plugin, "installed_version", lambda name: None)
    else:
        monkeypatch.setattr("sys.platform", "linux")
        for variable in plugin.DISPLAY_VARIABLES:
            monkeypatch.setitem(os.environ, variable, "")
    (finding,) = examine_plugin()
    assert (finding.name, finding.state) == ("qt", "note")
    assert name in finding.text
