"""A disk that stands still for as long as a test likes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.mounts import mounted

_BYTES = 512 * 1024 * 1024
# Whatever becomes of the test, the end of its input lets the disk go on.
_STAND_STILL = 'fsfreeze --freeze "$1" && echo stands && read -r _; fsfreeze --unfreeze "$1"'


class StandingDisk:
    """A file system of its own, of half a GiB.

    Attributes:
        folder: Where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Have everything that would write to it wait until the block ends; reading goes on."""
        command = ["sh", "-c", _STAND_STILL, "sh", str(self.folder)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdout.readline() == b"stands\n"
            yield


@contextmanager
def standing_disk(folder: Path) -> Iterator[StandingDisk]:
    """Mount one until the block ends.

    Args:
        folder: Where to; is made. A file beside it holds the content.

    Raises:
        MountRefusedError: The machine does not let us.
    """
    image = folder.with_name(folder.name + ".img")
    with image.open("wb") as file:
        file.truncate(_BYTES)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    with mounted(folder, "-o", "loop", image):
        yield StandingDisk(folder)
    image.unlink()


def waiting_threads(pid: int) -> int:
    """Return how many threads of a process wait for a disk."""
    return sum(map(_waits, Path(f"/proc/{pid}/task").iterdir()))


def _waits(thread: Path) -> bool:
    try:
        return (thread / "stat").read_text().rpartition(")")[2].split()[0] == "D"
    except (FileNotFoundError, ProcessLookupError):
        return False  # It has just ended.
