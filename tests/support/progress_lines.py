"""Progress bars for people: redrawn in place on a terminal, a line for each quarter elsewhere."""

from __future__ import annotations

from typing import TextIO

_WIDTH = 32
_START_OF_CLEARED_LINE = "\r\x1b[2K"


class ProgressLines:
    """One bar after the other, each begun by its first `show` and ended by `finish`."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._in_place = out.isatty()
        self._label = ""
        self._note = ""
        self._quarters_shown = -1

    def show(self, label: str, fraction: float, note: str = "") -> None:
        """Show how far something is; another label ends the bar before.

        Args:
            fraction: 0 to 1.
            note: What stands behind the bar.
        """
        if label != self._label:
            self.finish()
            self._label, self._quarters_shown = label, -1
        self._note = note
        filled = round(fraction * _WIDTH)
        line = f"   {label:<11} {'█' * filled}{'░' * (_WIDTH - filled)} {fraction:4.0%}  {note}".rstrip()
        if self._in_place:
            self._out.write(_START_OF_CLEARED_LINE + line)
        elif int(fraction * 4) > self._quarters_shown:
            self._quarters_shown = int(fraction * 4)
            self._out.write(line + "\n")
        self._out.flush()

    def finish(self) -> None:
        """Show the present bar as full, and go to the next line."""
        if self._label:
            self.show(self._label, 1, self._note)
        self.leave()

    def leave(self) -> None:
        """Leave the present bar as it is, and go to the next line."""
        if self._label and self._in_place:
            self._out.write("\n")
        self._label = ""
