"""Small ZIPs whose data are tested where their headers are read."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable

import pytest

from open_workshop_storage.core.errors import RepackFailed
from open_workshop_storage.utils.archives.central_directory import CentralHeader
from open_workshop_storage.utils.archives.zip_testing import MOST_TESTED_BYTES, is_intact
from tests.archives import fake_seven_zip
from tests.archives.workbench import Workbench
from tests.archives.zips import Entry, zip_from
from tests.support.archives import zip_of

pytestmark = pytest.mark.anyio

TEXT = b"some text that can be compressed " * 50
PACKED = Entry(b"a", TEXT).packed()
BEFORE = b"before"
SOUND = CentralHeader(20, 0, 8, 0, zlib.crc32(TEXT), len(PACKED), len(TEXT), 0, 0, b"a", None, True, 47)
EMPTY = SOUND._replace(crc=0, unpacked_bytes=0)
Changed = tuple[CentralHeader, bytes]


@pytest.mark.parametrize(
    ("changed", "intact"),
    [
        pytest.param((SOUND, PACKED), True, id="deflated"),
        pytest.param((SOUND, PACKED + b"the next entry"), True, id="followed by others"),
        pytest.param((SOUND._replace(method=0, packed_bytes=len(TEXT)), TEXT), True, id="stored"),
        pytest.param((EMPTY._replace(packed_bytes=2), b"\3\0"), True, id="empty, deflated"),
        pytest.param((EMPTY._replace(method=0, packed_bytes=0), b""), True, id="empty, stored"),
        pytest.param((SOUND, b"\7" + PACKED[1:]), False, id="data that cannot be inflated"),
        pytest.param((SOUND, PACKED[:-1]), False, id="a file that is cut off"),
        pytest.param((SOUND._replace(packed_bytes=len(PACKED) - 1), PACKED), False, id="less packed than there is"),
        pytest.param((SOUND._replace(packed_bytes=len(PACKED) + 1), PACKED + b"x"), False, id="bytes behind the end"),
        pytest.param((SOUND._replace(unpacked_bytes=len(TEXT) - 1), PACKED), False, id="more than the header says"),
        pytest.param((SOUND._replace(unpacked_bytes=len(TEXT) + 1), PACKED), False, id="less than the header says"),
        pytest.param((SOUND._replace(crc=1), PACKED), False, id="another checksum"),
        pytest.param((EMPTY._replace(packed_bytes=len(PACKED)), PACKED), False, id="empty by its header alone"),
        pytest.param((SOUND._replace(method=9), PACKED), False, id="another method"),
    ],
)
def test_only_data_that_are_all_that_the_header_says_are_intact(changed: Changed, intact: bool) -> None:
    header, data = changed
    assert is_intact(io.BytesIO(BEFORE + data), header, len(BEFORE)) is intact


def zip_over_the_limit() -> bytes:
    return zip_of({"half": bytes(MOST_TESTED_BYTES // 2), "and more": bytes(MOST_TESTED_BYTES // 2 + 1)})


def zip_with_wrong_data() -> bytes:
    return zip_from([Entry(b"a", TEXT), Entry(b"b", TEXT, packed_as=b"\7" + PACKED[1:])])


async def test_a_small_sound_zip_is_kept_without_7z(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_seven_zip.install(workbench.folder, "exit 1", monkeypatch)
    assert await workbench.is_kept(zip_of({"a": TEXT, "empty": b""}))


@pytest.mark.parametrize("sent", [zip_over_the_limit, zip_with_wrong_data])
async def test_7z_judges_a_larger_zip_and_one_that_is_not_sound(
    sent: Callable[[], bytes], workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_seven_zip.install(workbench.folder, "exit 1", monkeypatch)
    with pytest.raises(RepackFailed):
        await workbench.is_kept(sent())
