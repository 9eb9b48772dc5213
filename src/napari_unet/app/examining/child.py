"""Questions that another process answers, because the answer may be a crash or no answer at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_SECONDS = 90.0
"""Importing torch or napari from a cold network drive takes half a minute."""

_EXCERPT = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """What a process answered.

    Parameters
    ----------
    facts : dict or None
        What it said; None = it could not.
    failure : str
        Why it could not, in a sentence; empty if it could.
    """

    facts: dict[str, Any] | None
    failure: str = ""


def ask(
    module: str,
    *words: str,
    environment: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT_SECONDS,
) -> Answer:
    """Run a module in a process of its own and return the JSON object that its last line holds.

    Parameters
    ----------
    module : str
        Name of the module; it is not imported here.
    *words : str
        Its arguments.
    environment : mapping or None
        Variables to set for it, beside ours.
    timeout : float
        Seconds after which it is killed.
    """
    # -P: a file of the current folder must not be taken for a library.
    command = [sys.executable, "-P", "-W", "ignore", "-m", module, *words]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Answer(None, f"no answer within {timeout:g} s")
    except OSError as error:
        return Answer(None, f"{sys.executable} cannot be started: {error.strerror}")
    if done.returncode:
        return Answer(None, f"{_ending(done.returncode)}{_cause(done)}")
    try:
        facts = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        return Answer(None, "an answer that is none")
    return Answer(facts)


def _ending(code: int) -> str:
    return f"ended by signal {-code}" if code < 0 else f"ended with code {code}"


def _cause(done: subprocess.CompletedProcess[str]) -> str:
    """Return the line of standard error that says why a process ended."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if not lines:
        return ""
    # Python names the cause at the end; libraries complain before they abort.
    line = lines[0] if done.returncode < 0 else lines[-1]
    return f": {line[:_EXCERPT]}"
