import errno
import shutil
from pathlib import Path

import pytest

from open_workshop_storage.core.errors import NoSpace
from open_workshop_storage.services.storage.disk import full_disk_is_no_space, has_space, require_space


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_and_a_full_quota_are_no_space(number: int) -> None:
    with pytest.raises(NoSpace) as refusal, full_disk_is_no_space():
        raise OSError(number, "full")
    assert isinstance(refusal.value.__cause__, OSError)


def test_other_errors_of_the_system_pass() -> None:
    with pytest.raises(PermissionError), full_disk_is_no_space():
        raise PermissionError(errno.EACCES, "no")


def test_the_reserve_stays_free(tmp_path: Path) -> None:
    total = shutil.disk_usage(tmp_path).total
    assert has_space(tmp_path, 0, 0)
    assert not has_space(tmp_path, 0, total + 1)
    with pytest.raises(NoSpace):
        require_space(tmp_path, total + 1, 0)
