"""Fixtures for what is done to images."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from tests.support.images import Normalised, normalise


@pytest.fixture
def normalised(tmp_path: Path) -> Normalised:
    """Normalises what a file contains, and opens the result."""

    def run(content: bytes) -> Image.Image:
        source, target = tmp_path / "source", tmp_path / "target.webp"
        source.write_bytes(content)
        normalise(source, target)
        image = Image.open(BytesIO(target.read_bytes()), formats=["WEBP"])
        image.load()
        return image

    return run
