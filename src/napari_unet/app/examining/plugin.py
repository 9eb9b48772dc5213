"""Qt and OpenGL, which only the plugin needs: asked in another process, which they may end."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from napari_unet.app.examining.child import TIMEOUT_SECONDS, ask
from napari_unet.app.examining.finding import Finding
from napari_unet.app.examining.software import installed_version

if TYPE_CHECKING:
    from collections.abc import Mapping

PROBE_MODULE = "napari_unet.widgets._probe"

DISPLAY_VARIABLES = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")

SOFTWARE_RENDERERS = ("llvmpipe", "softpipe", "swrast", "software", "gdi generic", "basic render")
"""What the names of renderers hold that draw on the CPU."""

LEAST_GL = (2, 1)
"""Version of OpenGL that napari draws with."""

NO_PLUGIN = "the command line and Python need none"


def examine_plugin(timeout: float = TIMEOUT_SECONDS) -> list[Finding]:
    """Return the findings: qt, opengl."""
    if installed_version("napari") is None:
        text = f"napari is not installed; {NO_PLUGIN}"
        return [Finding("qt", "note", text, 'for the plugin: pip install "napari-unet[all]"')]
    if not _has_display():
        text = f"there is no display for the plugin; {NO_PLUGIN}"
        return [Finding("qt", "note", text, "sit at a desktop, or use ssh -X or a virtual display")]
    answer = ask(PROBE_MODULE, timeout=timeout)
    if answer.facts is None:
        remedy = (
            "try napari --info; install napari[all] anew; on Linux Qt 6 needs the system's "
            "libxcb-cursor0"
        )
        return [Finding("qt", "problem", f"Qt does not work: {answer.failure}", remedy)]
    facts = answer.facts
    text = f"{facts['binding']}, Qt {facts['qt']} on {facts['platform']}"
    return [
        Finding("qt", "ok", text, values=_only(facts, "binding", "qt", "platform")),
        judge_opengl(facts),
    ]


def judge_opengl(facts: Mapping[str, Any]) -> Finding:
    """Return whether napari can draw, and whether a GPU does it.

    Parameters
    ----------
    facts : mapping
        What the probe says: ``renderer``, ``version``, ``max_texture_size``.
    """
    values = _only(facts, "renderer", "version", "max_texture_size")
    renderer, version = facts["renderer"], facts["version"]
    text = f"{renderer}, OpenGL {version}"
    if not renderer or _version(version) < LEAST_GL:
        remedy = "install or update the driver of the graphics card"
        what = f"napari needs OpenGL 2.1; there is {text if renderer else 'none'}"
        return Finding("opengl", "problem", what, remedy, values)
    if any(word in renderer.lower() for word in SOFTWARE_RENDERERS):
        text = f"drawn by the CPU ({text}): it works, but large images move slowly"
        remedy = "with a screen at the machine, install the driver of the graphics card"
        return Finding("opengl", "note", text, remedy, values)
    return Finding("opengl", "ok", text, values=values)


def _version(text: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with.

    Examples
    --------
    >>> _version("4.5 (Compatibility Profile) Mesa 22.3.6")
    (4, 5)
    """
    numbers = text.split(" ")[0].split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdecimal())


def _has_display() -> bool:
    if not sys.platform.startswith("linux"):
        return True
    return any(os.environ.get(name) for name in DISPLAY_VARIABLES)


def _only(facts: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: facts[name] for name in names}
