"""What a Redis URL says, and which are refused."""

from __future__ import annotations

import pytest

from open_workshop_storage.utils.net.redis_urls import (
    RedisUrlError,
    is_sentinel_url,
    parse_sentinel_url,
    redis_options,
)


def test_sentinels_are_read_in_their_order_with_the_usual_port_where_none_is_said() -> None:
    url = parse_sentinel_url("redis+sentinel://one:26380,two,[::1]:3,[fd00::2]/workshop/2")
    assert url.sentinels == (("one", 26380), ("two", 26379), ("::1", 3), ("fd00::2", 26379))
    assert (url.primary, url.uses_tls, url.options, url.sentinel_options) == ("workshop", False, {"db": 2}, {})


def test_the_name_may_be_escaped_and_the_database_left_out() -> None:
    url = parse_sentinel_url("redis+sentinel://one/a%2Fb")
    assert (url.primary, url.options) == ("a/b", {})


def test_user_and_password_are_those_of_the_data_servers() -> None:
    url = parse_sentinel_url("redis+sentinel://user:pass%40word@one:1/workshop")
    assert (url.options, url.sentinel_options) == ({"username": "user", "password": "pass@word"}, {})


def test_sentinels_have_user_and_password_of_their_own_and_share_what_is_said_of_tls() -> None:
    query = "sentinel_username=watcher&sentinel_password=w%26rd&ssl_ca_certs=/ca.pem&ssl_check_hostname=false"
    url = parse_sentinel_url(f"rediss+sentinel://:word@one/workshop?{query}&protocol=2")
    tls = {"ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False}
    assert url.uses_tls
    assert url.options == {"password": "word", "protocol": 2, **tls}
    assert url.sentinel_options == {"username": "watcher", "password": "w&rd", **tls}


@pytest.mark.parametrize(
    ("rest", "fault"),
    [
        ("one:1", "names no primary"),
        ("one:1/", "names no primary"),
        ("one:1//0", "names no primary"),
        ("/workshop", "names no sentinel"),
        ("one:1,/workshop", "a comma too many"),
        (":1/workshop", "names no sentinel"),
        ("one:port/workshop", "whose port is not a number"),
        ("one:0/workshop", "whose port is not a number"),
        ("one:65536/workshop", "whose port is not a number"),
        ("one:/workshop", "whose port is not a number"),
        ("one:1/workshop/hush", "a database that is not a number"),
        ("one:1/workshop/0/hush", "a database that is not a number"),
        ("user:hush/hush@one:1/workshop", "a database that is not a number"),
        ("user:[hush@one:1/workshop", "cannot be read"),
        ("one:1/workshop?hush=1", "cannot be read"),
        ("one:1/workshop?protocol=hush", "cannot be read"),
        ("one:1/workshop?ssl_ca_certs=/hush", "cannot be read"),
    ],
)
def test_a_fault_is_named_without_anything_of_the_url(rest: str, fault: str) -> None:
    with pytest.raises(RedisUrlError) as refusal:
        parse_sentinel_url(f"redis+sentinel://{rest}")
    assert fault in str(refusal.value) and "hush" not in str(refusal.value)


def test_what_is_read_shows_no_password() -> None:
    url = "rediss+sentinel://user:hush@one:1/workshop?sentinel_password=hush"
    assert "hush" not in repr(parse_sentinel_url(url))


def test_a_url_names_sentinels_by_its_scheme() -> None:
    assert is_sentinel_url("redis+sentinel://one/workshop") and is_sentinel_url("rediss+sentinel://one/workshop")
    assert not is_sentinel_url("redis://one") and not is_sentinel_url("")


def test_options_of_other_urls_are_read() -> None:
    assert redis_options("redis://user:word@one:2/3?protocol=2") == {
        "username": "user",
        "password": "word",
        "host": "one",
        "port": 2,
        "db": 3,
        "protocol": 2,
    }


@pytest.mark.parametrize(
    "url", ["one:6379", "redis://one:port", "redis://one?option=1", "rediss://one?ssl_cert_reqs=x"]
)
def test_other_urls_that_cannot_be_used_are_refused(url: str) -> None:
    with pytest.raises(ValueError):
        redis_options(url)
