"""Which clients take gzip (RFC 9110, section 12.5.3)."""

from __future__ import annotations

import pytest

from open_workshop_storage.utils.http.accepted_codings import prefers_gzip


@pytest.mark.parametrize(
    ("header", "is_preferred"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("gzip, deflate, br, zstd", True),
        ("deflate;q=0.5 , gzip;q=1.0", True),
        ("gzip ; q=0.001", True),
        ("gzip;Q=0.5", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000, *", False),
        ("*", True),
        ("*;q=0.1", True),
        ("*;q=0", False),
        ("br;q=1, *;q=0", False),
        ("identity", False),
        ("identity, gzip", True),
        ("identity;q=0.5, gzip;q=0.4", False),
        ("identity;q=0.5, gzip", True),
        ("identity;q=0", False),
        ("identity;q=0, *", True),
        ("deflate, br", False),
        ("gzip;q=1.5", False),
        ("gzip;q=", False),
        ("gzip;q=0.1234", False),
        ("gzip;level=9", False),
        ("gzip;q=1;level=9", False),
        ("gzipped", False),
        (",;,=;q,gzip", True),
        pytest.param("gzip" + "," * 1020, True, id="1 KiB"),
        pytest.param("gzip" + "," * 1021, False, id="more than that"),
    ],
)
def test_gzip_goes_to_those_that_take_it_as_gladly_as_nothing(header: str, is_preferred: bool) -> None:
    assert prefers_gzip(header) is is_preferred
