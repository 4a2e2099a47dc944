"""Has others send what a client may have: nginx, or the store itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from urllib.parse import quote

from open_workshop_storage.core.settings import Settings
from open_workshop_storage.services.downloads.plan import Header, Plan, hand_over
from open_workshop_storage.services.storage.bucket_requests import Credentials
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


def delegate_of(settings: Settings) -> Delegate | None:
    """Return who sends files in place of the distributor, if the settings name one."""
    nginx = settings.accel_redirect_prefix
    if not settings.s3_bucket:
        return partial(_nginx_from_disk, nginx) if nginx else None
    addresses = _Addresses(credentials_of(settings))
    if nginx:
        return partial(_nginx_from_bucket, nginx, addresses)
    return partial(_store, addresses) if settings.s3_downloads == "redirect" else None


class _Addresses:
    """Addresses at which the store gives files out for a while, labelled as the distributor would label them."""

    def __init__(self, credentials: Credentials) -> None:
        self.endpoint = credentials.endpoint
        self._credentials = credentials

    def of(self, file: StoredFile, plan: Plan) -> str:
        """Return the address of a file; with it a client can read that object, and nothing else."""
        labels = {f"response-{name.decode()}": value.decode() for name, value in plan.headers if name in _LABELS}
        # That of an answer with several parts is another one.
        labels["response-content-type"] = media_type(file.name)
        url = self._credentials.url(file.name)
        return signed_url(self._credentials.key, "GET", url, _SIGNED_SECONDS, labels)


def _nginx_from_disk(nginx: str, plan: Plan, requested: Mapping[str, str], file: StoredFile) -> Plan:
    return hand_over(plan, requested, f"{nginx}/{quote(os.fsencode(file.name))}")


def _nginx_from_bucket(
    nginx: str, addresses: _Addresses, plan: Plan, requested: Mapping[str, str], file: StoredFile
) -> Plan:
    return hand_over(plan, requested, nginx + addresses.of(file, plan).removeprefix(addresses.endpoint))


def _store(addresses: _Addresses, plan: Plan, requested: Mapping[str, str], file: StoredFile) -> Plan:
    if plan.status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT) or not plan.pieces:
        return plan
    headers = [header for header in plan.headers if header[0] not in {*_ABOUT_THE_FILE, _NOT_KEPT[0]}]
    location = addresses.of(file, plan).encode()
    return Plan(HTTPStatus.FOUND, [*headers, _NOT_KEPT, (b"location", location), (b"content-length", b"0")], [])
