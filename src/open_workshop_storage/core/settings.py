"""The configuration: one typed, frozen object, read and validated once at start (docs/CONFIGURATION.md)."""

from __future__ import annotations

import ipaddress
import os
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from open_workshop_storage.core.job import Slot
from open_workshop_storage.core.setting_types import (
    NAMED_FAULT,
    USUAL_REGION,
    BaseUrl,
    BcryptHash,
    BucketName,
    Bytes,
    CacheControl,
    Count,
    FolderPath,
    JwtSecret,
    Networks,
    ObjectPrefix,
    OptionalBaseUrl,
    OptionalHttpUrl,
    OptionalSeconds,
    Patterns,
    RedisUrl,
    Region,
    ScannerAddress,
    Seconds,
    SpanKinds,
    UrlPath,
    listed,
)

_TOKEN_NAMES = frozenset({"delete_file", "upload_file", "storage_manage_token"})
ENVIRONMENT_ONLY = frozenset({"otel_exporter_otlp_endpoint", "otel_exporter_otlp_protocol"})
"""Fields that `ow_config.py` cannot set, since OpenTelemetry's own code reads them and their kin too."""


class SettingsError(Exception):
    """The configuration cannot be used; the text names every faulty setting and no value."""


def base_folder() -> Path:
    """Return where `ow_config.py` is looked for and relative paths start.

    It is the root of the checkout that this module stands in, or the current folder if it stands in none
    (docs/CONFIGURATION.md, "Where settings come from").
    """
    checkout = Path(__file__).resolve().parents[3]
    return checkout if (checkout / "ow_config_sample.py").is_file() else Path.cwd()


class Settings(BaseSettings):
    """All settings of the services. `load_settings` reads them.

    A field's description completes the sentence "it should be …", which an operator reads when the value is not valid.
    The validator's own messages, which may contain the value, are never shown.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    main_dir: FolderPath = Field(Path("storage"), description="the path of the storage root")
    manager_url: BaseUrl = Field(description="the Manager's base URL, http:// or https://")
    access_service_url: BaseUrl = Field(description="the access service's base URL, http:// or https://")
    manager_transfer_callback_url: OptionalHttpUrl = ""
    transfer_jwt_secret: JwtSecret = Field(description="a text of at least 32 bytes, the same as the Manager's")
    transfer_callback_ttl_seconds: Seconds = 600
    transfer_max_bytes: Bytes = 0
    transfer_max_image_bytes: Bytes = 33554432
    transfer_max_unpacked_bytes: Bytes = 0
    transfer_max_unpacked_ratio: Count = 250
    transfer_max_entries: Count = 200000
    transfer_upload_concurrency: Count = 4
    transfer_download_concurrency: Count = 8
    transfer_repack_concurrency: Count = 4
    transfer_upload_timeout_seconds: OptionalSeconds = 3600
    transfer_download_timeout_seconds: OptionalSeconds = 3600
    transfer_idle_timeout_seconds: OptionalSeconds = 60
    transfer_min_bytes_per_second: Count = Field(1024, description="a whole number of bytes, 0 for any rate")
    transfer_allowed_networks: Networks = Field(
        "", description="CIDR networks separated by commas, such as 10.0.0.0/8,fd00::/8, or empty"
    )
    transfer_max_sockets: Count = 1500
    transfer_max_sockets_per_job: Count = 100
    transfer_resume_seconds: Seconds = 86400
    transfer_move_wait_seconds: OptionalSeconds = Field(20, description="a number of seconds, 0 or more")
    client_stall_timeout_seconds: OptionalSeconds = 60
    storage_reserve_bytes: Bytes = Field(1073741824, description="a whole number of bytes, 0 or more")
    upload_max_bytes: Bytes = 0
    upload_untrusted_max_bytes: Bytes = Field(67108864, description="a whole number of bytes, 0 or more")
    transfer_callback_timeout_seconds: Seconds = 30
    callback_retry_window_seconds: Seconds = 86400
    seven_zip_timeout_seconds: Seconds = 3600
    seven_zip_idle_timeout_seconds: Seconds = 60
    access_service_timeout_seconds: Seconds = 30
    access_cache_ttl_seconds: OptionalSeconds = Field(0, description="a number of seconds, 0 to ask every time")
    accel_redirect_prefix: UrlPath = Field(
        "", description="the path of an internal location of nginx, such as /stored-files, or empty"
    )
    cache_control_archive: CacheControl = "no-cache"
    cache_control_resource: CacheControl = "public, max-age=300"
    cache_control_avatar: CacheControl = "public, max-age=300"
    clamd_address: ScannerAddress = Field(
        "", description="unix: and the path of clamd's socket, tcp: with its host and port, or empty for no scanner"
    )
    scan_failure: Literal["refuse", "pass", "wait"] = Field("refuse", description="refuse, pass or wait")
    scan_timeout_seconds: Seconds = 120
    scan_wait_seconds: Seconds = 3600
    s3_endpoint_url: OptionalBaseUrl = Field(
        "", description="the base URL of an S3-compatible store, or empty for Amazon's of the region"
    )
    s3_region: Region = Field(USUAL_REGION, description=f"the name of the store's region, or empty for {USUAL_REGION}")
    s3_prefix: ObjectPrefix = Field("", description="what all keys of ours begin with, such as open-workshop, or empty")
    s3_access_key_id: str = ""
    s3_secret_access_key: str = ""
    s3_bucket: BucketName = Field(
        "",
        description="the name of a bucket, together with S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, or all three empty",
        validate_default=True,
    )
    s3_downloads: Literal["stream", "redirect"] = Field("stream", description="stream or redirect")
    blurhash_cache_size: Count = Field(100000, description="a whole number of entries, 0 or more")
    blurhash_cache_ttl_seconds: Seconds = 604800
    redis_url: RedisUrl = Field(
        "",
        description=(
            "a redis://, rediss:// or unix:// URL, one such as redis+sentinel://HOST:26379,HOST:26379/NAME/0 "
            "or rediss+sentinel://…, or empty to keep state in this process"
        ),
    )
    redis_prefix: str = Field(
        "open-workshop-storage", min_length=1, description="the text that every Redis key begins with"
    )
    cleanup_interval_seconds: Seconds = 60
    job_ttl_seconds: Seconds = 10800
    shutdown_grace_seconds: OptionalSeconds = Field(20, description="a number of seconds, 0 or more")
    console_enabled: bool = Field(False, description="true or false")
    delete_file: BcryptHash
    upload_file: BcryptHash
    storage_manage_token: BcryptHash
    log_format: Literal["text", "json"] = Field("text", description="text or json")
    uptrace_dsn: OptionalHttpUrl = Field("", description="the DSN that Uptrace shows for the project, or empty")
    otel_service_name: str = Field("open-workshop-storage", description="a text")
    otel_service_version: str = Field("", description="a text, or empty")
    otel_deployment_environment: str = Field("", description="a text, or empty")
    uptrace_otlp_protocol: Literal["grpc", "http"] = Field("grpc", description="grpc or http")
    uptrace_otlp_traces_url: OptionalHttpUrl = ""
    uptrace_otlp_grpc_url: OptionalHttpUrl = ""
    uptrace_fastapi_excluded_urls: Patterns = ""
    uptrace_fastapi_exclude_spans: SpanKinds = ""
    otel_exporter_otlp_endpoint: OptionalHttpUrl = ""
    otel_exporter_otlp_protocol: Literal["grpc", "http/protobuf"] = Field(
        "http/protobuf", description="grpc or http/protobuf"
    )
    metrics_enabled: bool = Field(False, description="true or false")

    @field_validator("main_dir", mode="after")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return base_folder() / value

    @field_validator("s3_bucket", mode="after")
    @classmethod
    def _all_or_nothing(cls, value: str, info: ValidationInfo) -> str:
        keys = {bool(info.data.get(name)) for name in ("s3_access_key_id", "s3_secret_access_key")}
        if keys != {bool(value)}:
            raise ValueError
        return value

    @property
    def exports_telemetry(self) -> bool:
        """Whether traces, metrics and log lines are sent to a receiver."""
        return bool(self.uptrace_dsn or self.otel_exporter_otlp_endpoint)

    @property
    def measures(self) -> bool:
        """Whether there is a use for metrics."""
        return self.exports_telemetry or self.metrics_enabled

    @property
    def callback_url(self) -> str:
        """The full URL that a transfer's end is reported to (docs/CONFIGURATION.md)."""
        return self.manager_transfer_callback_url or f"{self.manager_url}/internal/storage/transfer-completions"

    @property
    def slot_limits(self) -> Mapping[Slot, int]:
        """How many slots of each kind there are; 0 for any number."""
        return {
            Slot.UPLOAD: self.transfer_upload_concurrency,
            Slot.DOWNLOAD: self.transfer_download_concurrency,
            Slot.REPACK: self.transfer_repack_concurrency,
            # A queue of their own, but no other limit: a decoder takes a core and memory as 7z does.
            Slot.IMAGE: self.transfer_repack_concurrency,
        }

    @property
    def cache_control(self) -> Mapping[str, str]:
        """The `Cache-Control` of public files, by their storage type."""
        return {
            "archive": self.cache_control_archive,
            "resource": self.cache_control_resource,
            "avatar": self.cache_control_avatar,
        }

    @property
    def allowed_networks(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        """The networks that URL transfers may reach besides public addresses."""
        return tuple(map(ipaddress.ip_network, listed(self.transfer_allowed_networks)))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment override `ow_config.py`, and nothing else."""
        return init_settings, env_settings, ConfigModuleSource(settings_cls)


class ConfigModuleSource(PydanticBaseSettingsSource):
    """Reads `ow_config.py`, or the file that the `OW_CONFIG` variable names."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Satisfies the base class; `__call__` reads all fields at once."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the settings that the module sets, by field name.

        Raises:
            SettingsError: The module cannot be read, or does not run.
        """
        named = os.environ.get("OW_CONFIG")
        path = base_folder() / (named or "ow_config.py")
        if not named and not path.exists():
            return {}
        try:
            module = runpy.run_path(str(path))
        except SyntaxError as error:
            raise SettingsError(f"Configuration error: {path} has a syntax error in line {error.lineno}") from None
        except Exception as error:
            # The exception's own text may quote a secret.
            raise SettingsError(f"Configuration error: {path} fails with {type(error).__name__}") from None
        names = {setting_name(field): field for field in self.settings_cls.model_fields.keys() - ENVIRONMENT_ONLY}
        return {names[name]: value for name, value in module.items() if name in names}


def setting_name(field: str) -> str:
    """Return the name of a field in `ow_config.py`: upper case, but for the three tokens."""
    return field if field in _TOKEN_NAMES else field.upper()


def load_settings() -> Settings:
    """Read the settings from `ow_config.py` and the environment, which wins.

    Raises:
        SettingsError: At least one setting is missing, ill-typed or out of range.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = {}
        for fault in error.errors(include_url=False, include_input=False, include_context=False):
            field = str(fault["loc"][0]).lower()
            state = {"missing": "is missing", NAMED_FAULT: fault["msg"]}.get(fault["type"], "is not valid")
            lines[field] = f"  {setting_name(field)} {state}; it should be {Settings.model_fields[field].description}"
        raise SettingsError("Configuration error:\n" + "\n".join(lines.values())) from None
