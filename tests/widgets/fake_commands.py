"""Answers ``plan`` and ``seams`` as the command line does, at once and without a network.

Each call is entered with its words into the file that the variable FAKE_COMMANDS names; what is
answered stands there beside it, as ``ANSWER-COMMAND.json`` (an exit code, and a document or null).
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path


def main() -> int:
    log = Path(os.environ["FAKE_COMMANDS"])
    with log.open("a") as file:
        file.write(json.dumps(sys.argv[1:]) + "\n")
    code, document = json.loads((log.parent / f"ANSWER-{sys.argv[1]}.json").read_text())
    if code == "hang":
        time.sleep(600)
    if document is None:
        sys.stderr.write("a library's warning\nerror: the image has 3 channels\n")
        return int(code)
    # As `plan --json` does: one document over several lines.
    sys.stdout.write(json.dumps(document, indent=2))
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
