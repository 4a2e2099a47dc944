"""What passes as a download URL when a transfer is started."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_workshop_storage.core.errors import BadRequest
from open_workshop_storage.services.intake.fetch import parse_url


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "HTTPS://example.com/mod.zip",
        "https://user:pass@example.com:8443/a/b.zip?x=1&y=%20#part",
        "http://127.0.0.1:8000/",
        "http://0177.0.0.1/",
        "http://[2606:4700::1111]:80/file",
        "http://bücher.example/моды/файл.zip",
        "http://example.com./",
        "http://xn--a-.example/",
    ],
)
def test_http_and_https_urls_pass(url: str) -> None:
    parse_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/file",
        "//example.com/file",
        "/etc/passwd",
        "file:///etc/passwd",
        "ftp://example.com/file",
        "gopher://example.com/",
        "javascript:alert(1)",
        "data:text/plain,x",
        "http:",
        "http://",
        "http:///path",
        "http://:80/",
        "http://user@/",
        "http:example.com",
        "http://example.com:0/",
        "http://example.com:65536/",
        "http://example.com:-1/",
        "http://example.com:port/",
        "http://[::1/",
        "http://[not-an-address]/",
        "http://256.1.1.1/",
        "http://[bad/",
        "http://exa mple.com/",
        "http://example.com /",
        "http://%31.example.com/",
        "http://127.0.0.1%2f/",
        "http://127.0.0.1%00.test/",
        " \t ",
        "http://①②⑦.0.0.1/",
        "http://ⓛocalhost/",
        "http://example.com/\r\nX: y",
        "http://example.com/\x00",
        "http://example.com/\u2028x",
        "http://exa\u200bmple.com/",
        "http://example.com/\ud800",
        "http://example.com/" + "a" * 70000,
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(BadRequest, match="^Invalid download URL$"):
        parse_url(url)


@pytest.mark.parametrize(
    ("pasted", "meant"),
    [
        (" http://example.com/a.zip\r\n", "http://example.com/a.zip"),
        ("\thttp://example.com/\u00a0", "http://example.com/"),
        ("\ufeff\u3000http://example.com/\u200b\u202f", "http://example.com/"),
        ("http://example.com/a\u00a0b\u3000c", "http://example.com/a%C2%A0b%E3%80%80c"),
        ("http://example.com/می\u200cخواهم", "http://example.com/%D9%85%DB%8C%E2%80%8C%D8%AE%D9%88%D8%A7%D9%87%D9%85"),
        ("http://example.com/\U0001fae9", "http://example.com/%F0%9F%AB%A9"),
        ("http://example.com/my mod (1).zip?name=a b", "http://example.com/my%20mod%20(1).zip?name=a%20b"),
        ("http://example.com/a%20b c", "http://example.com/a%20b%20c"),
    ],
)
def test_blanks_of_pasted_urls_are_dropped_or_encoded(pasted: str, meant: str) -> None:
    assert str(parse_url(pasted)) == meant


@given(st.text(max_size=40), st.sampled_from(["", "http://", "https://[", "http://user:@", "http://1.2.3."]))
def test_no_text_makes_it_stumble(text: str, start: str) -> None:
    try:
        parse_url(start + text)
    except BadRequest:
        pass
