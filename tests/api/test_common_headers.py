"""Headers for browsers, where several places write them."""

from __future__ import annotations

import re

from open_workshop_storage.api.common_headers import COMMON_HEADERS
from tests.support.servers import PROJECT

EXPOSED = COMMON_HEADERS["Access-Control-Expose-Headers"]


def test_nginx_exposes_the_same_headers() -> None:
    for name in ("nginx-site.conf", "nginx-downloads.conf"):
        text = (PROJECT / "deploy" / name).read_text()
        written = re.findall(r'add_header Access-Control-Expose-Headers "(.+?)"', text)
        assert written and set(written) == {EXPOSED}


def test_every_exposed_header_is_written_about() -> None:
    text = (PROJECT / "docs" / "API.md").read_text()
    assert [name for name in EXPOSED.split(", ") if f"`{name}`" not in text] == []
