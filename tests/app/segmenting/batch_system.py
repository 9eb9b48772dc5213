"""A batch system in miniature: jobs of SLURM's commands are processes of this machine."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from pathlib import Path

SBATCH = """#!{python}
import pathlib, re, subprocess, sys
queue = pathlib.Path({queue!r})
if (queue / "refuses").exists():
    sys.exit("sbatch: error: invalid partition specified: gpu")
job = len(list(queue.glob("*.sh"))) + 1
text = pathlib.Path(sys.argv[-1]).read_text()
(queue / f"{{job}}.sh").write_text(text)
if not (queue / "full").exists():
    logs = {{}}
    for option, name in (("e", "stderr"), ("o", "stdout")):
        found = re.search(rf"^#SBATCH -{{option}} (.*)$", text, flags=re.MULTILINE)
        path = found.group(1).strip("'").replace("%J", str(job)).replace("'/", "/")
        logs[name] = open(path, "w")
    words = ["bash", str(queue / f"{{job}}.sh")]
    process = subprocess.Popen(words, start_new_session=True, stdin=subprocess.DEVNULL, **logs)
    (queue / f"{{job}}.pid").write_text(str(process.pid))
print(f"Submitted batch job {{job}}")
"""

SCANCEL = """#!{python}
import os, pathlib, signal, sys
queue = pathlib.Path({queue!r})
job = sys.argv[-1]
(queue / f"{{job}}.cancelled").touch()
pid = queue / f"{{job}}.pid"
if pid.exists():
    try:
        os.killpg(int(pid.read_text()), signal.SIGTERM)
    except ProcessLookupError:
        pass
"""


class BatchSystem:
    """Fake commands of SLURM in a folder of their own.

    Parameters
    ----------
    folder : Path
        Where they, scripts and process ids go.
    """

    def __init__(self, folder: Path) -> None:
        self.queue = folder / "queue"
        self.bin = folder / "bin"
        self.queue.mkdir()
        self.bin.mkdir()
        for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
            path = self.bin / name
            path.write_text(text.format(python=sys.executable, queue=str(self.queue)))
            path.chmod(0o755)

    def be(self, how: str) -> None:
        """Be "full", so that no job begins, or one that "refuses" jobs."""
        (self.queue / how).touch()

    @property
    def submitted(self) -> int:
        """How many jobs were submitted."""
        return len(list(self.queue.glob("*.sh")))

    @property
    def cancelled(self) -> set[int]:
        """Jobs that were cancelled."""
        return {int(path.stem) for path in self.queue.glob("*.cancelled")}

    def processes(self) -> list[psutil.Process]:
        """Return all processes of all jobs that live."""
        found = []
        for path in self.queue.glob("*.pid"):
            with suppress(psutil.NoSuchProcess):
                leader = psutil.Process(int(path.read_text()))
                found += [leader, *leader.children(recursive=True)]
        return found

    def kill(self, job: int) -> None:
        """Let a job end as a node that fails does."""
        os.killpg(int((self.queue / f"{job}.pid").read_text()), signal.SIGKILL)

    def end(self) -> None:
        """Kill what is left."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
