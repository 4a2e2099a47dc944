"""Has others send what a client may have: nginx, or the store itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from http import HTTPStatus
from urllib.parse import quote

from open_workshop_storage.core.settings import Settings
from open_workshop_storage.services.downloads.plan import Header, Plan
from open_workshop_storage.services.storage.files import StoredFile
from open_workshop_storage.services.storage.opening import credentials_of
from open_workshop_storage.utils.auth.s3_signatures import signed_url
from open_workshop_storage.utils.http.media_types import media_type

Delegate = Callable[[Plan, Mapping[str, str], StoredFile], Plan]
"""Makes of the answer that is planned to a request one that leaves the file's bytes to another sender."""

_SIGNED_SECONDS = 300
_LABELS = (b"content-disposition", b"cache-control")
_NOT_KEPT: Header = (b"cache-control", b"no-store")
_ABOUT_THE_FILE = frozenset({b"content-type", b"content-disposition", b"content-length", b"content-range"})
# nginx makes these itself, but for `Accept-Ranges` with a part.
_NGINX_MAKES = {
    HTTPStatus.OK: frozenset({b"accept-ranges", b"content-length"}),
    HTTPStatus.PARTIAL_CONTENT: frozenset({b"content-length", b"content-range"}),
}
_UNKNOWN_TO_NGINX = frozenset({"if-match", "if-unmodified-since"})


def delegate_of(settings: Settings) -> Delegate | None:
    """Return what sends files in place of the distributor, if the settings name something."""
    nginx = settings.accel_redirect_prefix
    if not settings.s3_bucket:
        return _by_nginx(lambda file, plan: f"{nginx}/{quote(os.fsencode(file.name))}") if nginx else None
    credentials = credentials_of(settings)

    def address_of(file: StoredFile, plan: Plan) -> str:
        """Return where the store gives a file out for a while, labelled as the distributor would label it.

        With it a client can read that object, and nothing else.
        """
        labels = {f"response-{name.decode()}": value.decode() for name, value in plan.headers if name in _LABELS}
        # That of an answer with several parts is another one.
        labels["response-content-type"] = media_type(file.name)
        return signed_url(credentials.key, "GET", credentials.url(file.name), _SIGNED_SECONDS, labels)

    if nginx:
        return _by_nginx(lambda file, plan: nginx + address_of(file, plan).removeprefix(credentials.endpoint))
    return _by_the_store(address_of) if settings.s3_downloads == "redirect" else None


def _by_nginx(uri_of: Callable[[StoredFile, Plan], str]) -> Delegate:
    """Return what lets nginx send what is planned, and leaves a plan as it is if nginx would send something else.

    nginx obeys a single range and `If-Range` as we do. It refuses `Range` headers that are to be ignored, knows our
    entity tag too late for `If-Match`, and its parts of several ranges may overlap.

    Args:
        uri_of: Returns where nginx has a file, percent-encoded.
    """

    def delegate(plan: Plan, requested: Mapping[str, str], file: StoredFile) -> Plan:
        is_whole = plan.status == HTTPStatus.OK and "range" not in requested
        is_one_range = plan.status == HTTPStatus.PARTIAL_CONTENT and len(plan.pieces) == 1
        if not (is_whole or is_one_range) or not plan.pieces or not _UNKNOWN_TO_NGINX.isdisjoint(requested):
            return plan
        headers = [header for header in plan.headers if header[0] not in _NGINX_MAKES[plan.status]]
        uri = uri_of(file, plan).encode()
        return Plan(HTTPStatus.OK, [*headers, (b"x-accel-redirect", uri), (b"content-length", b"0")], [])

    return delegate


def _by_the_store(address_of: Callable[[StoredFile, Plan], str]) -> Delegate:
    def delegate(plan: Plan, requested: Mapping[str, str], file: StoredFile) -> Plan:
        if plan.status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT) or not plan.pieces:
            return plan
        headers = [header for header in plan.headers if header[0] not in {*_ABOUT_THE_FILE, _NOT_KEPT[0]}]
        location = address_of(file, plan).encode()
        return Plan(HTTPStatus.FOUND, [*headers, _NOT_KEPT, (b"location", location), (b"content-length", b"0")], [])

    return delegate
