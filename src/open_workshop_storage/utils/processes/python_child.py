"""The child process of `PythonChildren`: run with `-m`, it calls one function after another until its input ends.

Standard input is a socket. A call is a line of JSON, `[module, function, CPU seconds, argument…]`, sent with the open
files that the function gets before its arguments. The answer is a line too: `{"returned": …}`, or
`{"raised": name of the exception's class, "errno": its number or null, "text": what it says}`.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import json
import math
import os
import resource
import signal
import socket
import time
from contextlib import ExitStack
from typing import IO, Any

MAX_FILES = 4
"""How many open files one call can be given."""

_BLOCK_BYTES = 65536
_MAX_TEXT = 500
_MODES = {os.O_RDONLY: "rb", os.O_WRONLY: "wb", os.O_RDWR: "r+b"}


def main() -> None:
    """Answer calls until there are no more."""
    # A stop of the service may be sent to all its processes, but the worker may still want to finish its requests.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with socket.socket(fileno=os.dup(0)) as parent:
        # Keeps libraries from reading calls.
        os.dup2(2, 0)
        while (call := _next_call(parent)) is not None:
            parent.sendall(json.dumps(_answer(*call)).encode() + b"\n")
            # A cycle of references may hold hundreds of megabytes.
            gc.collect()


def _next_call(parent: socket.socket) -> tuple[bytes, list[int]] | None:
    line, descriptors = b"", list[int]()
    while not line.endswith(b"\n"):
        block, received, _, _ = socket.recv_fds(parent, _BLOCK_BYTES, MAX_FILES)
        if not block:
            return None
        line += block
        descriptors += received
    return line, descriptors


def _answer(line: bytes, descriptors: list[int]) -> dict[str, Any]:
    module, function, cpu_seconds, *arguments = json.loads(line)
    try:
        with ExitStack() as stack:
            files = [stack.enter_context(_opened(descriptor)) for descriptor in descriptors]
            called = getattr(importlib.import_module(module), function)
            # The collection after each call need not look through the modules.
            gc.freeze()
            _allow_cpu(cpu_seconds)
            return {"returned": called(*files, *arguments)}
    except Exception as error:
        text = str(error)[:_MAX_TEXT]
        return {"raised": type(error).__qualname__, "errno": getattr(error, "errno", None), "text": text}


def _opened(descriptor: int) -> IO[bytes]:
    return open(descriptor, _MODES[fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE])


def _allow_cpu(seconds: float) -> None:
    """Have the kernel end this process after so many more seconds of CPU time, even within C code."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time() + seconds), hard))


if __name__ == "__main__":
    main()
