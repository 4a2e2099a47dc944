"""What an operator sees of a wrong configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.configs import Secrets, write_config
from tests.support.servers import clean_environment, failed_start

SECRET = "too-short-a-secret"


@pytest.mark.parametrize(("app", "workers"), [("distributor", 1), ("loader", 2), ("app", 1)])
def test_a_wrong_configuration_stops_the_start_with_one_message(app: str, workers: int, tmp_path: Path) -> None:
    config = write_config(
        tmp_path,
        Secrets().settings()
        | {
            "MAIN_DIR": str(tmp_path / "storage"),
            "MANAGER_URL": "ftp://manager",
            "TRANSFER_JWT_SECRET": SECRET,
            "JOB_TTL_SECONDS": "soon",
            "NO_SETTING_OF_OURS": "ignored",
        },
    )
    environment = clean_environment() | {"OW_CONFIG": str(config)}
    status, printed = failed_start(app, tmp_path, environment, workers=workers)
    assert status != 0
    for name in ("MANAGER_URL", "ACCESS_SERVICE_URL", "TRANSFER_JWT_SECRET", "JOB_TTL_SECONDS"):
        assert 1 <= printed.count(f"  {name} ") <= workers, printed
    assert "Traceback" not in printed
    assert SECRET not in printed and "NO_SETTING_OF_OURS" not in printed
    assert not (tmp_path / "storage").exists()
