"""The configuration: one typed, frozen object, read and validated once at start (docs/CONFIGURATION.md)."""

from __future__ import annotations

import ipaddress
import os
import re
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from redis.asyncio.connection import parse_url

from open_workshop_storage.core.storage_types import StorageType

# A cost of 4 to 31, 22 characters of salt, of which the last holds 2 bits only, and 31 of hash.
_BCRYPT_HASH = re.compile(r"\$2[abxy]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
_URL_PATH = re.compile(r"(/[A-Za-z0-9_-][A-Za-z0-9._~-]*)+/?")
_TOKEN_NAMES = frozenset({"delete_file", "upload_file", "storage_manage_token"})
_SPAN_KINDS = frozenset({"receive", "send", "operation"})


class SettingsError(Exception):
    """The configuration cannot be used; the text names every faulty setting and no value."""


def _bcrypt_hash(value: str) -> str:
    if not _BCRYPT_HASH.fullmatch(value):
        raise ValueError
    return value


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    # Reading the port raises if it is not valid.
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError
    if " " in value or not value.isprintable():
        raise ValueError
    return value


def _base_url(value: str) -> str:
    if "?" in value or "#" in value:
        raise ValueError
    return _http_url(value).rstrip("/")


def _optional_http_url(value: str) -> str:
    return _http_url(value) if value else value


def _redis_url(value: str) -> str:
    if value:
        parse_url(value)
    return value


def _jwt_secret(value: str) -> str:
    if len(value.encode()) < 32:
        raise ValueError
    return value


def _url_path(value: str) -> str:
    if value and not _URL_PATH.fullmatch(value):
        raise ValueError
    return value.rstrip("/")


def _header_value(value: str) -> str:
    if not value.isascii() or not value.isprintable() or value != value.strip():
        raise ValueError
    return value


def base_folder() -> Path:
    """Return where `ow_config.py` is looked for and relative paths start.

    It is the root of the checkout that this module stands in, or the current folder if it stands in none
    (docs/CONFIGURATION.md, "Where settings come from").
    """
    checkout = Path(__file__).resolve().parents[3]
    return checkout if (checkout / "ow_config_sample.py").is_file() else Path.cwd()


def listed(value: str) -> list[str]:
    """Return the items of a setting that holds several, separated by commas."""
    return [item.strip() for item in value.split(",") if item.strip()]


def _networks(value: str) -> str:
    for item in listed(value):
        ipaddress.ip_network(item)
    return value


def _patterns(value: str) -> str:
    try:
        for pattern in listed(value):
            re.compile(pattern)
    except re.error:
        raise ValueError from None
    return value


def _span_kinds(value: str) -> str:
    if not _SPAN_KINDS.issuperset(listed(value)):
        raise ValueError
    return value


def _no_empty_path(value: object) -> object:
    # An empty path would be the current folder.
    if value == "":
        raise ValueError
    return value


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError
    return value


Count = Annotated[int, Field(ge=0), BeforeValidator(_no_bool)]
Bytes = Annotated[int, Field(ge=0), BeforeValidator(_no_bool)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_no_bool)]
OptionalSeconds = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_no_bool)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
HeaderValue = Annotated[str, AfterValidator(_header_value)]
OptionalHttpUrl = Annotated[str, AfterValidator(_optional_http_url)]
BcryptHash = Annotated[str, AfterValidator(_bcrypt_hash)]

_COUNT = "a whole number, 0 for no limit"
_BYTES = "a whole number of bytes, 0 for no limit"
_SECONDS = "a number of seconds above 0"
_OPTIONAL_SECONDS = "a number of seconds, 0 for no time limit"
_CACHE_CONTROL = "the value of a Cache-Control header, or empty for none"
_HASH = "a bcrypt hash, as token_gen.py prints it"


class Settings(BaseSettings):
    """All settings of the services. `load_settings` reads them.

    A field's description completes the sentence "it should be …", which an operator reads when the value is not valid.
    The validator's own messages, which may contain the value, are never shown.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    main_dir: Annotated[Path, BeforeValidator(_no_empty_path)] = Field(
        Path("storage"), description="the path of the storage root"
    )
    manager_url: BaseUrl = Field(description="the Manager's base URL, http:// or https://")
    access_service_url: BaseUrl = Field(description="the access service's base URL, http:// or https://")
    manager_transfer_callback_url: OptionalHttpUrl = Field("", description="a full http(s) URL, or empty")
    transfer_jwt_secret: Annotated[str, AfterValidator(_jwt_secret)] = Field(
        description="a text of at least 32 bytes, the same as the Manager's"
    )
    transfer_callback_ttl_seconds: Seconds = Field(600, description=_SECONDS)
    transfer_max_bytes: Bytes = Field(0, description=_BYTES)
    transfer_max_unpacked_bytes: Bytes = Field(0, description=_BYTES)
    transfer_max_unpacked_ratio: Count = Field(250, description=_COUNT)
    transfer_max_entries: Count = Field(200000, description=_COUNT)
    transfer_upload_concurrency: Count = Field(4, description=_COUNT)
    transfer_download_concurrency: Count = Field(8, description=_COUNT)
    transfer_repack_concurrency: Count = Field(4, description=_COUNT)
    transfer_upload_timeout_seconds: OptionalSeconds = Field(3600, description=_OPTIONAL_SECONDS)
    transfer_download_timeout_seconds: OptionalSeconds = Field(3600, description=_OPTIONAL_SECONDS)
    transfer_idle_timeout_seconds: OptionalSeconds = Field(60, description=_OPTIONAL_SECONDS)
    transfer_min_bytes_per_second: Count = Field(1024, description="a whole number of bytes, 0 for any rate")
    transfer_allowed_networks: Annotated[str, AfterValidator(_networks)] = Field(
        "", description="CIDR networks separated by commas, such as 10.0.0.0/8,fd00::/8, or empty"
    )
    transfer_max_sockets: Count = Field(1500, description=_COUNT)
    transfer_max_sockets_per_job: Count = Field(100, description=_COUNT)
    transfer_resume_seconds: Seconds = Field(86400, description=_SECONDS)
    client_stall_timeout_seconds: OptionalSeconds = Field(60, description=_OPTIONAL_SECONDS)
    storage_reserve_bytes: Bytes = Field(1073741824, description="a whole number of bytes, 0 or more")
    upload_max_bytes: Bytes = Field(0, description=_BYTES)
    upload_untrusted_max_bytes: Bytes = Field(1073741824, description=_BYTES)
    transfer_callback_timeout_seconds: Seconds = Field(30, description=_SECONDS)
    callback_retry_window_seconds: Seconds = Field(86400, description=_SECONDS)
    seven_zip_timeout_seconds: Seconds = Field(3600, description=_SECONDS)
    seven_zip_idle_timeout_seconds: Seconds = Field(60, description=_SECONDS)
    access_service_timeout_seconds: Seconds = Field(30, description=_SECONDS)
    access_cache_ttl_seconds: OptionalSeconds = Field(0, description="a number of seconds, 0 to ask every time")
    accel_redirect_prefix: Annotated[str, AfterValidator(_url_path)] = Field(
        "", description="the path of an internal location of nginx, such as /stored-files, or empty"
    )
    cache_control_archive: HeaderValue = Field("no-cache", description=_CACHE_CONTROL)
    cache_control_resource: HeaderValue = Field("public, max-age=300", description=_CACHE_CONTROL)
    cache_control_avatar: HeaderValue = Field("public, max-age=300", description=_CACHE_CONTROL)
    blurhash_cache_size: Count = Field(100000, description="a whole number of entries, 0 or more")
    blurhash_cache_ttl_seconds: Seconds = Field(604800, description=_SECONDS)
    redis_url: Annotated[str, AfterValidator(_redis_url)] = Field(
        "", description="a redis://, rediss:// or unix:// URL, or empty to keep state in this process"
    )
    redis_prefix: str = Field(
        "open-workshop-storage", min_length=1, description="the text that every Redis key begins with"
    )
    cleanup_interval_seconds: Seconds = Field(60, description=_SECONDS)
    job_ttl_seconds: Seconds = Field(10800, description=_SECONDS)
    shutdown_grace_seconds: OptionalSeconds = Field(20, description="a number of seconds, 0 or more")
    delete_file: BcryptHash = Field(description=_HASH)
    upload_file: BcryptHash = Field(description=_HASH)
    storage_manage_token: BcryptHash = Field(description=_HASH)
    log_format: Literal["text", "json"] = Field("text", description="text or json")
    uptrace_dsn: OptionalHttpUrl = Field("", description="the DSN that Uptrace shows for the project, or empty")
    otel_service_name: str = Field("open-workshop-storage", description="a text")
    otel_service_version: str = Field("", description="a text, or empty")
    otel_deployment_environment: str = Field("", description="a text, or empty")
    uptrace_otlp_protocol: Literal["grpc", "http"] = Field("grpc", description="grpc or http")
    uptrace_otlp_traces_url: OptionalHttpUrl = Field("", description="a full http(s) URL, or empty")
    uptrace_otlp_grpc_url: OptionalHttpUrl = Field("", description="a full http(s) URL, or empty")
    uptrace_fastapi_excluded_urls: Annotated[str, AfterValidator(_patterns)] = Field(
        "", description="regular expressions separated by commas, or empty"
    )
    uptrace_fastapi_exclude_spans: Annotated[str, AfterValidator(_span_kinds)] = Field(
        "", description="receive, send or operation, separated by commas, or empty"
    )

    @field_validator("main_dir", mode="after")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return base_folder() / value

    @property
    def callback_url(self) -> str:
        """The full URL that a transfer's end is reported to (docs/CONFIGURATION.md)."""
        return self.manager_transfer_callback_url or f"{self.manager_url}/internal/storage/transfer-completions"

    @property
    def cache_control(self) -> Mapping[StorageType, str]:
        """The `Cache-Control` of public files."""
        return {
            StorageType.ARCHIVE: self.cache_control_archive,
            StorageType.RESOURCE: self.cache_control_resource,
            StorageType.AVATAR: self.cache_control_avatar,
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
        names = {setting_name(field): field for field in self.settings_cls.model_fields}
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
            state = "is missing" if fault["type"] == "missing" else "is not valid"
            lines[field] = f"  {setting_name(field)} {state}; it should be {Settings.model_fields[field].description}"
        raise SettingsError("Configuration error:\n" + "\n".join(lines.values())) from None
