"""What happened in a run, and when."""

from __future__ import annotations

import time


class Timeline:
    """Notes with the seconds since the run began."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._began_at = time.strftime("%H:%M:%S")
        self._notes: list[tuple[float, str]] = []

    @property
    def now(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began

    def note(self, text: str) -> None:
        """Write something down."""
        self._notes.append((self.now, text))

    def about(self, subject: str) -> list[str]:
        """Return the notes that begin with a name."""
        return [f"{at:6.2f}  {text}" for at, text in self._notes if text.startswith(subject)]

    def __str__(self) -> str:
        return "\n".join([f"What happened from {self._began_at} on:", *self.about("")])
