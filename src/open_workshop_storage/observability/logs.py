"""Where log lines go."""

from __future__ import annotations

import logging


def configure_logging() -> None:
    """Send this package's log lines, from INFO on, to standard error."""
    logger = logging.getLogger("open_workshop_storage")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("[%(levelname)s] %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    # It writes a line for each malformed form, and anyone can send those.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
