"""How many files and sockets this process may have open."""

from __future__ import annotations

import resource

_ENOUGH = 65536


def allow_open_files() -> None:
    """Let this process open as many files as the system lets it, up to 65,536.

    Shells and systemd start it with 1,024, so that programs which use select(2) stay sound; no more connections than
    that, and the server turns in circles and no file can be opened.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
