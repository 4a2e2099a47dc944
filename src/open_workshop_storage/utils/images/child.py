"""The child process that opens images: run with `-m`, it does one task after the other until its input ends.

A task is a line of JSON, `[seconds, name, path…]`, and so is its outcome: `{"done": …}`, or
`{"failed": class of the exception, "errno": its number or null, "text": what it says}`. A task that takes longer than
its seconds, and some more for each MiB of the image, ends the process.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from open_workshop_storage.utils.images import pictures as images

_MAX_TEXT = 500
# Noise, which is the most work for its pixels, takes 0.1 to 0.5 seconds. A small file is not worth that of a large one:
# a JPEG of 2 MB can have 13,000 scans, and be read for minutes.
_SECONDS_PER_MEBIBYTE = 0.5
_TASKS: dict[str, Callable[..., Any]] = {"normalise": images.normalise, "blurhash": images.blurhash}


def main() -> None:
    """Do tasks until there are no more."""
    # A stop of the service may be sent to all its processes, but the worker may still want to finish its requests.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    outcomes = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    # Decoders in C may print.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    gc.freeze()
    for line in sys.stdin:
        seconds, name, *paths = json.loads(line)
        # The signal ends the process in the midst of a decoder's C code too, and when nobody waits any more.
        signal.setitimer(signal.ITIMER_REAL, seconds + _seconds_for(paths[0]))
        outcome = _outcome(name, paths)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps(outcome), file=outcomes, flush=True)
        # An image in a cycle of references may be hundreds of megabytes.
        gc.collect()


def _seconds_for(path: str) -> float:
    try:
        return os.stat(path).st_size / 1024**2 * _SECONDS_PER_MEBIBYTE
    except OSError:
        # The task will tell.
        return 0


def _outcome(name: str, paths: list[str]) -> dict[str, Any]:
    try:
        return {"done": _TASKS[name](*map(Path, paths))}
    except Exception as error:
        return {"failed": type(error).__name__, "errno": getattr(error, "errno", None), "text": str(error)[:_MAX_TEXT]}


if __name__ == "__main__":
    main()
