"""What may block an event loop, although `blockbuster` fails the test that sees it."""

from __future__ import annotations

from blockbuster import BlockBuster

SHORT = ("threading.Lock.acquire", "threading.Lock.acquire_lock")
"""Work is handed to threads under locks that are held for a few instructions."""
PERMITTED = {
    # At start only: the settings, and redis-py's version.
    "open_workshop_storage/core/settings.py": {"__call__", "base_folder"},
    "redis/utils.py": {"get_lib_version"},
    # Directory entries, which the kernel has in memory: a thread would take longer than the look.
    "open_workshop_storage/services/storage/local.py": {"_real_folder", "_find"},
    "open_workshop_storage/services/transfers/stages.py": {"prepare"},
    # Pipes and sockets that are set not to block.
    "open_workshop_storage/utils/processes/children.py": {"read"},
    "open_workshop_storage/utils/processes/python_children.py": {"_received"},
    # Lines of the log, with the source of a traceback.
    "logging/__init__.py": {"emit", "format"},
    "inspect.py": {"getsourcefile"},
    # Tests that look at files while ours waits for them.
    "tests/intake/test_receive.py": {"body", "judge"},
    "tests/transfers/test_cleanup.py": {"_begin"},
}
"""Functions by the end of their file's path."""


def permit(blockbuster: BlockBuster) -> None:
    """Let pass what is known to be short."""
    for name in SHORT:
        blockbuster.functions[name].deactivate()
    for function in blockbuster.functions.values():
        for file, functions in PERMITTED.items():
            function.can_block_in(file, functions)
