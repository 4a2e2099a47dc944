"""What is told of a ZIP by its first bytes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from open_workshop_storage.utils.archives.faults import EncryptedData
from open_workshop_storage.utils.archives.zip_headers import refuse_encrypted_start
from tests.archives.refused import SOUND, TEXT
from tests.archives.zips import ENCRYPTED, Entry, streamed, zip_from
from tests.support.archives import SMALL_MOD, seven_zip_of, tar_of, zip_of

SECRET = Entry(b"secret", TEXT, flags=ENCRYPTED)


def is_refused(sent: bytes) -> bool:
    """Tell whether the bytes are refused for what their first entry is."""
    try:
        refuse_encrypted_start(sent)
    except EncryptedData:
        return True
    return False


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(zip_from([SECRET, SOUND]), id="at the start"),
        pytest.param(zip_from([Entry(b"a/", method=0), Entry(b"a/b/", method=0), SECRET]), id="behind folders"),
        pytest.param(zip_from([replace(SECRET, before=b"PK00")]), id="behind the mark of a single piece"),
        pytest.param(seven_zip_of({"a": TEXT}, "-tzip", "-psecret", "-mem=AES256"), id="with AES"),
    ],
)
def test_a_zip_whose_first_file_is_encrypted_is_refused_without_its_end(sent: bytes) -> None:
    assert is_refused(sent[: sent.index(b"PK\1\2")])


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(bytes(1000), id="zeros"),
        pytest.param(tar_of(SMALL_MOD), id="a tar"),
        pytest.param(zip_of(SMALL_MOD), id="a sound zip"),
        pytest.param(zip_from([SECRET])[:20], id="less than a header"),
        pytest.param(zip_from([SOUND, Entry(b"zip", zip_from([SECRET]), method=0)]), id="an encrypted zip in a zip"),
        pytest.param(zip_from([SOUND, SECRET]), id="encrypted from its second file on"),
        pytest.param(zip_from([Entry(b"folder/", TEXT), SECRET]), id="encrypted behind a folder with content"),
        pytest.param(zip_from([streamed(Entry(b"folder/")), SECRET]), id="encrypted behind a folder of unknown size"),
    ],
)
def test_a_file_is_not_judged_beyond_its_first_entry(sent: bytes) -> None:
    assert not is_refused(sent)
