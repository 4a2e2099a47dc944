"""How the configuration is read and judged."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from open_workshop_storage.core.settings import (
    Settings,
    SettingsError,
    load_settings,
    setting_name,
)

PROJECT = Path(__file__).resolve().parents[2]
HASH = "$2b$12$SoijuBRD8.b/Vx3z1u5l5.S7OyDHPpj9CN/T/mw1YlqmIUuyKrHqm"
REQUIRED: dict[str, object] = {
    "MANAGER_URL": "http://manager.test",
    "ACCESS_SERVICE_URL": "http://access.test",
    "TRANSFER_JWT_SECRET": "s" * 32,
    "upload_file": HASH,
    "delete_file": HASH,
    "storage_manage_token": HASH,
}

Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Reads a configuration of the required settings and those given, in an environment without settings."""
    for field in Settings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)
        monkeypatch.delenv(field, raising=False)
    config = tmp_path / "config.py"
    monkeypatch.setenv("OW_CONFIG", str(config))

    def load(changes: dict[str, object] | None = None) -> Settings:
        values = REQUIRED | (changes or {})
        config.write_text("".join(f"{name} = {value!r}\n" for name, value in values.items()))
        return load_settings()

    return load


def complaint(load: Load, changes: dict[str, object]) -> str:
    """Return the message that a faulty configuration is refused with."""
    with pytest.raises(SettingsError) as refusal:
        load(changes)
    return str(refusal.value)


def test_what_is_left_out_has_its_default(load: Load) -> None:
    settings = load()
    assert settings.main_dir == PROJECT / "storage"
    assert settings.transfer_download_concurrency == 8
    assert settings.storage_reserve_bytes == 1024**3
    assert settings.redis_url == ""


def test_the_environment_wins_over_the_file(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    other_hash = HASH.replace("$12$", "$10$")
    monkeypatch.setenv("TRANSFER_MAX_BYTES", "5")
    monkeypatch.setenv("UPLOAD_FILE", other_hash)
    monkeypatch.setenv("REDIS_URL", "")
    settings = load({"TRANSFER_MAX_BYTES": 7, "REDIS_URL": "redis://redis.test", "TRANSFER_REPACK_CONCURRENCY": 1})
    assert settings.transfer_max_bytes == 5
    assert settings.upload_file == other_hash
    assert settings.redis_url == ""
    assert settings.transfer_repack_concurrency == 1


def test_the_environment_alone_is_enough(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty.py").touch()
    monkeypatch.setenv("OW_CONFIG", str(tmp_path / "empty.py"))
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name.upper(), str(value))
    assert load_settings().manager_url == "http://manager.test"


def test_a_relative_config_file_starts_at_the_project(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load()
    path = Path("..", *[".."] * len(PROJECT.parents), tmp_path.relative_to("/"), "config.py")
    monkeypatch.setenv("OW_CONFIG", str(path))
    monkeypatch.chdir("/")
    assert load_settings().manager_url == "http://manager.test"


def test_paths_start_at_the_project(load: Load, tmp_path: Path) -> None:
    assert load({"MAIN_DIR": "files"}).main_dir == PROJECT / "files"
    assert load({"MAIN_DIR": str(tmp_path)}).main_dir == tmp_path


def test_other_names_are_ignored(load: Load) -> None:
    settings = load({"SOMETHING_ELSE": "x", "main_dir": "lower case", "UPLOAD_FILE": "upper case"})
    assert settings.main_dir == PROJECT / "storage"
    assert settings.upload_file == HASH


S3: dict[str, object] = {"S3_BUCKET": "files", "S3_ACCESS_KEY_ID": "id", "S3_SECRET_ACCESS_KEY": "secret"}


def test_a_bucket_has_a_key(load: Load) -> None:
    assert load(S3 | {"S3_PREFIX": "a/b/", "S3_ENDPOINT_URL": "http://store.test/"}).s3_prefix == "a/b"
    assert load(S3 | {"S3_REGION": ""}).s3_region == load(S3).s3_region == "us-east-1"
    for name in S3:
        assert "S3_BUCKET is not valid" in complaint(load, {**S3, name: ""})
        assert "S3_BUCKET is not valid" in complaint(load, {name: S3[name]})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("S3_BUCKET", "a/b"),
        ("S3_PREFIX", "/a"),
        ("S3_PREFIX", "a//b"),
        ("S3_PREFIX", "../a"),
        ("S3_REGION", "eu west"),
        ("S3_ENDPOINT_URL", "store.test"),
        ("S3_DOWNLOADS", "proxy"),
    ],
)
def test_what_names_no_bucket_is_refused(name: str, value: str, load: Load) -> None:
    assert f"{name} is not valid" in complaint(load, {**S3, name: value})


def test_settings_cannot_be_changed(load: Load) -> None:
    settings = load()
    with pytest.raises(ValidationError):
        settings.transfer_max_bytes = 1  # type: ignore[misc]


def test_every_missing_setting_is_named(load: Load, tmp_path: Path) -> None:
    (tmp_path / "config.py").touch()
    with pytest.raises(SettingsError) as refusal:
        load_settings()
    lines = str(refusal.value).splitlines()[1:]
    assert {line.split()[0] for line in lines} == set(REQUIRED)
    assert all("is missing; it should be " in line for line in lines)


def test_every_faulty_setting_is_named_at_once(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_TTL_SECONDS", "soon")
    lines = complaint(load, {"TRANSFER_MAX_BYTES": -1, "upload_file": "plain"}).splitlines()[1:]
    assert {line.split()[0] for line in lines} == {"TRANSFER_MAX_BYTES", "upload_file", "JOB_TTL_SECONDS"}
    assert all("is not valid; it should be " in line for line in lines)


@pytest.mark.parametrize("name", ["TRANSFER_JWT_SECRET", "upload_file", "REDIS_URL", "UPTRACE_DSN", "MANAGER_URL"])
def test_no_value_is_printed(load: Load, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "hush" not in complaint(load, {name: "hush"})
    monkeypatch.setenv(name.upper(), "hush-hush")
    assert "hush" not in complaint(load, {})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAIN_DIR", ""),
        ("MAIN_DIR", 5),
        ("MANAGER_URL", ""),
        ("MANAGER_URL", "FILL IN"),
        ("MANAGER_URL", "ftp://manager.test"),
        ("MANAGER_URL", "http://"),
        ("MANAGER_URL", "http://:80"),
        ("MANAGER_URL", "http://manager.test:port"),
        ("MANAGER_URL", "http://manager.test:70000"),
        ("MANAGER_URL", "http://manager.test/?x=1"),
        ("MANAGER_URL", "http://manager.test /"),
        ("MANAGER_URL", "http://manager.test/\n"),
        ("ACCESS_SERVICE_URL", None),
        ("MANAGER_TRANSFER_CALLBACK_URL", "callback"),
        ("TRANSFER_JWT_SECRET", "s" * 31),
        ("TRANSFER_JWT_SECRET", 10**40),
        ("TRANSFER_MAX_BYTES", -1),
        ("TRANSFER_MAX_BYTES", 1.5),
        ("TRANSFER_MAX_BYTES", True),
        ("TRANSFER_MAX_BYTES", ""),
        ("TRANSFER_MAX_BYTES", "1 GB"),
        ("TRANSFER_UPLOAD_CONCURRENCY", -1),
        ("TRANSFER_UPLOAD_TIMEOUT_SECONDS", -0.5),
        ("TRANSFER_UPLOAD_TIMEOUT_SECONDS", "inf"),
        ("TRANSFER_CALLBACK_TTL_SECONDS", 0),
        ("ACCESS_SERVICE_TIMEOUT_SECONDS", False),
        ("JOB_TTL_SECONDS", "nan"),
        ("TRANSFER_ALLOWED_NETWORKS", "10.0.0.1/8"),
        ("TRANSFER_ALLOWED_NETWORKS", "10.0.0.0/8;fd00::/8"),
        ("ACCESS_CACHE_TTL_SECONDS", -1),
        ("CLAMD_ADDRESS", "/run/clamav/clamd.ctl"),
        ("CLAMD_ADDRESS", "tcp:127.0.0.1"),
        ("SCAN_FAILURE", "ignore"),
        ("SCAN_TIMEOUT_SECONDS", 0),
        ("ACCEL_REDIRECT_PREFIX", "stored-files"),
        ("ACCEL_REDIRECT_PREFIX", "/"),
        ("ACCEL_REDIRECT_PREFIX", "/stored/../files"),
        ("CACHE_CONTROL_AVATAR", "public\r\nX-Injected: 1"),
        ("REDIS_URL", "127.0.0.1:6379"),
        ("REDIS_URL", "redis://127.0.0.1:port"),
        ("REDIS_URL", "redis://127.0.0.1?option=1"),
        ("REDIS_PREFIX", ""),
        ("upload_file", "$2b$12$tooshort"),
        ("delete_file", HASH.replace("$12$", "$99$")),
        ("storage_manage_token", "$2b$12$" + "z" * 53),
        ("UPTRACE_DSN", "token@uptrace.test"),
        ("UPTRACE_OTLP_PROTOCOL", "udp"),
        ("UPTRACE_FASTAPI_EXCLUDED_URLS", "healthz,("),
        ("UPTRACE_FASTAPI_EXCLUDE_SPANS", "receive,endpoint"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_what_will_not_do_is_refused(load: Load, name: str, value: object) -> None:
    (line,) = complaint(load, {name: value}).splitlines()[1:]
    assert line.strip().startswith(f"{name} is not valid; it should be ")


def test_what_is_wrong_with_a_sentinel_url_is_named_and_not_its_password(load: Load) -> None:
    (line,) = complaint(load, {"REDIS_URL": "redis+sentinel://user:hush@one:port/workshop"}).splitlines()[1:]
    assert line.strip().startswith("REDIS_URL has a sentinel whose port is not a number")
    assert "; it should be " in line and "hush" not in line


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("MANAGER_URL", "https://manager.test:8443/base/", "https://manager.test:8443/base"),
        ("MANAGER_URL", "http://[::1]:80", "http://[::1]:80"),
        ("MANAGER_TRANSFER_CALLBACK_URL", "http://manager.test/end/?key=1", "http://manager.test/end/?key=1"),
        ("TRANSFER_JWT_SECRET", "é" * 16, "é" * 16),
        ("TRANSFER_MAX_BYTES", "5", 5),
        ("TRANSFER_IDLE_TIMEOUT_SECONDS", 0, 0),
        ("CLEANUP_INTERVAL_SECONDS", 0.25, 0.25),
        ("TRANSFER_ALLOWED_NETWORKS", " 10.0.0.0/8, fd00::/8,", " 10.0.0.0/8, fd00::/8,"),
        ("ACCEL_REDIRECT_PREFIX", "/stored-files/", "/stored-files"),
        ("CACHE_CONTROL_AVATAR", "", ""),
        ("REDIS_URL", "rediss://user:word@redis.test:6380/2", "rediss://user:word@redis.test:6380/2"),
        ("REDIS_URL", "unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("REDIS_URL", "redis+sentinel://a:1,b:2/workshop/0", "redis+sentinel://a:1,b:2/workshop/0"),
        ("upload_file", HASH.replace("$2b$", "$2y$"), HASH.replace("$2b$", "$2y$")),
        ("UPTRACE_DSN", "https://token@api.uptrace.dev?grpc=4317", "https://token@api.uptrace.dev?grpc=4317"),
    ],
)
def test_what_will_do_is_read(load: Load, name: str, value: object, read: object) -> None:
    assert getattr(load({name: value}), name.lower()) == read


def test_networks_are_given_as_such(load: Load) -> None:
    settings = load({"TRANSFER_ALLOWED_NETWORKS": "10.0.0.0/8, fd00::/8,"})
    assert settings.allowed_networks == (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))


def test_the_callback_goes_to_the_manager_unless_told_otherwise(load: Load) -> None:
    assert load({"MANAGER_URL": "http://m/"}).callback_url == "http://m/internal/storage/transfer-completions"
    assert load({"MANAGER_TRANSFER_CALLBACK_URL": "http://c/x"}).callback_url == "http://c/x"


@pytest.mark.parametrize(
    ("source", "said"),
    [("x = 'hush\n", "syntax error in line 1"), ("raise ValueError('hush')", "ValueError"), ("hush", "NameError")],
)
def test_a_file_that_does_not_run_is_refused(load: Load, tmp_path: Path, source: str, said: str) -> None:
    (tmp_path / "config.py").write_text(source)
    with pytest.raises(SettingsError, match=said) as refusal:
        load_settings()
    assert str(tmp_path / "config.py") in str(refusal.value)
    assert "hush" not in str(refusal.value)


def test_a_named_file_must_exist(load: Load) -> None:
    with pytest.raises(SettingsError, match="config.py"):
        load_settings()


def test_a_default_is_a_valid_value(load: Load) -> None:
    settings = load()
    for field, info in Settings.model_fields.items():
        if not info.is_required() and field != "main_dir":
            assert getattr(load({setting_name(field): info.default}), field) == getattr(settings, field)
