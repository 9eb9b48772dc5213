"""Opens every hostile file in a process of its own, and measures what that costs.

    python -m tests.hostile.measure [WORDS]

One process imports everything once and forks for each file; so what is measured is the opening, in
time and in memory above the start. Only files whose name holds all WORDS are opened.
Each outcome is a line of JSON on standard output.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import select
import signal
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.hostile.case import CANARY
from tests.hostile.corpus import CASES
from tests.hostile.openers import OPENERS

from napari_unet.errors import UNetError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.hostile.case import Case

TIMEOUT_S = 30
BACKSTOP_BYTES = 2 * 2**30
"""Address space that a file may add; most of it is never touched."""


@dataclass(frozen=True)
class Outcome:
    """What came of opening a file.

    Parameters
    ----------
    kind, name : str
        Of the case.
    legal, worker : bool
        Of the case.
    ended : {"refused", "read", "crashed"}
        An error of ours; no error; anything else.
    error : str
        Type of the exception, or how the process ended.
    message : str
        Its text.
    names_file : bool
        Whether the text names the file.
    ran_code : bool
        Whether the canary was there.
    seconds, cpu_seconds, megabytes : float
        Time, processor time, and memory above the start, at the highest.
    """

    kind: str
    name: str
    legal: bool
    worker: bool
    ended: str
    error: str = ""
    message: str = ""
    names_file: bool = False
    ran_code: bool = False
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    megabytes: float = 0.0


def measure_all(words: list[str]) -> Iterator[Outcome]:
    """Yield the outcome of every case whose name holds all words; "-" leaves out the slow ones."""
    for case in CASES:
        chosen = all(word in str(case) for word in words if word != "-")
        if chosen and not (case.worker and "-" in words):
            with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
                yield measure(case, Path(folder))


def measure(case: Case, folder: Path) -> Outcome:
    """Make a file and open it in a fork of this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = case.make(folder)
    # A collection in the fork would copy every page that it shares with this process.
    gc.freeze()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _open_and_say(case, path, folder, writing)
    os.close(writing)
    said = _wait(reading, child)
    _, status = os.waitpid(child, 0)
    facts: dict[str, Any] = (
        json.loads(said) if said else {"ended": "crashed", "error": _end(status)}
    )
    ran = any((place / CANARY).exists() for place in (folder, Path.cwd()))
    return Outcome(case.kind, case.name, case.legal, case.worker, ran_code=ran, **facts)


def _wait(reading: int, child: int) -> bytes:
    """Return what the fork says; kill it when it takes too long."""
    said, deadline = b"", time.monotonic() + TIMEOUT_S
    with os.fdopen(reading, "rb") as stream:
        while select.select([stream], [], [], max(0, deadline - time.monotonic()))[0]:
            piece = os.read(stream.fileno(), 2**16)
            if not piece:
                return said
            said += piece
    os.kill(child, signal.SIGKILL)
    return b""


def _open_and_say(case: Case, path: Path, folder: Path, writing: int) -> None:
    """Open the file, write the facts, and end the process."""
    os.chdir(folder)
    used = _memory("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (used + BACKSTOP_BYTES,) * 2)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before, began, computed = _memory("VmRSS"), time.perf_counter(), time.process_time()
    facts: dict[str, Any] = {"ended": "read"}
    try:
        OPENERS[case.opener](path)
    except UNetError as error:
        facts = {"ended": "refused", "error": type(error).__name__, "message": str(error)}
    except BaseException as error:  # noqa: BLE001  # whatever it is, it is what is measured
        facts = {"ended": "crashed", "error": type(error).__name__, "message": str(error)[:2000]}
    facts["seconds"] = time.perf_counter() - began
    facts["cpu_seconds"] = time.process_time() - computed
    facts["megabytes"] = max(0, _memory("VmHWM") - before) / 2**20
    parts = [part for part in path.relative_to(folder).parts if len(part) > 3]
    # An image is called by its name without suffix in some messages.
    names = [Path(part).stem.partition(".")[0] for part in parts]
    facts["names_file"] = any(name in facts.get("message", "") for name in names)
    os.write(writing, json.dumps(facts).encode())
    os._exit(0)


def _memory(key: str) -> int:
    """Return an entry of this process's status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"this system does not say {key}")


def _end(status: int) -> str:
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit {os.waitstatus_to_exitcode(status)}"


if __name__ == "__main__":
    for outcome in measure_all(sys.argv[1:]):
        sys.stdout.write(json.dumps(asdict(outcome)) + "\n")
        sys.stdout.flush()
