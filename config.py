"""All settings, from the environment or `.env`: the only place that reads either. `.env.example` explains each one."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, HttpUrl, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from errors import ConfigError

ProviderName = Literal["reve", "nanobanana"]
CommaSeparated = Annotated[tuple[str, ...], NoDecode]
Providers = Annotated[tuple[ProviderName, ...], NoDecode]


class Settings(BaseSettings):
    """Frozen; built once in the entry point and passed down. Units ride in the names."""

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True, env_ignore_empty=True
    )

    environment: Literal["development", "test", "staging", "production"] = "development"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    # Supabase
    supabase_url: HttpUrl
    supabase_service_role_key: SecretStr
    supabase_public_url: HttpUrl | None = None  # what browsers and providers see; default: supabase_url
    database_url: SecretStr | None = None  # only migrations use it
    db_table_name: Literal["products"] = "products"  # the SQL functions name it
    raw_bucket_name: str = "plant-images"
    raw_storage_folder: str = "products"
    processed_bucket_name: str = "plant-images"
    processed_storage_folder: str = "products/processed"

    # The API
    api_key: SecretStr | None = None
    cors_origins: CommaSeparated = ("http://localhost:3000",)
    trusted_hosts: CommaSeparated = ("*",)
    max_upload_mb: float = Field(default=10, gt=0, le=50)
    max_pixels: int = Field(default=32_000_000, gt=0)  # what every provider takes, with room to spare
    max_side_px: int = Field(default=8192, gt=0)

    # Providers, in order of preference
    background_removal_providers: Providers = ("reve",)
    generate_providers: Providers = ("nanobanana",)
    colourise_providers: Providers = ("reve",)
    restore_providers: Providers = ("reve",)
    provider_concurrency: int = Field(default=16, ge=1)  # a start that few accounts refuse; doubles in a round trip
    provider_max_concurrency: int = Field(default=256, ge=1)  # paid requests at once, by one worker to one provider
    provider_wait_seconds: float = Field(default=60, gt=0)  # for a place; then the run is better off in the queue
    sandbox_url: HttpUrl | None = None  # stands in for every provider that has no key
    reve_api_key: SecretStr | None = None
    reve_base_url: HttpUrl = HttpUrl("https://api.reve.com")
    reve_version: str = "latest"
    reve_prompt: str | None = None
    nanobanana_api_key: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("nanobanana_api_key", "nanobana_api_key")
    )
    nanobanana_base_url: HttpUrl = HttpUrl("https://api.nanobananaapi.ai")
    nanobanana_result_hosts: CommaSeparated = ("tempfile.aiquickdraw.com",)
    nanobanana_variant_prompt_1: str | None = Field(
        default=None, validation_alias=AliasChoices("nanobanana_variant_prompt_1", "nanobana_variant_prompt_1")
    )
    nanobanana_variant_prompt_2: str | None = Field(
        default=None, validation_alias=AliasChoices("nanobanana_variant_prompt_2", "nanobana_variant_prompt_2")
    )
    nanobanana_variant_prompt_3: str | None = Field(
        default=None, validation_alias=AliasChoices("nanobanana_variant_prompt_3", "nanobana_variant_prompt_3")
    )
    nanobanana_variant_prompt_4: str | None = Field(
        default=None, validation_alias=AliasChoices("nanobanana_variant_prompt_4", "nanobana_variant_prompt_4")
    )
    nanobanana_prompt: str | None = Field(  # kept from earlier set-ups; four scenes never use it
        default=None, validation_alias=AliasChoices("nanobanana_prompt", "nanobana_prompt")
    )
    scene_pack: str = "jewellery"

    # Money
    on_unknown_charge: Literal["retry_once", "hold"] = "retry_once"
    daily_budget_usd: float | None = Field(default=None, gt=0)
    owner_daily_budget_usd: float | None = Field(default=None, gt=0)
    run_budget_usd: float | None = Field(default=None, gt=0)

    # The worker
    worker_id: str | None = None  # a name of its own lets a restarted worker take its runs back at once
    worker_concurrency: int = Field(default=8, ge=1, le=500)
    max_retries: int = Field(default=3, ge=0, le=20)
    processing_timeout_seconds: float = Field(default=300, gt=0)
    pending_deadline_hours: int = Field(default=24, ge=1)  # of a run that no worker could finish: better a clear end
    lease_seconds: int = Field(default=30, ge=3)  # renewed every third of it; a dead worker's runs wait this long
    poll_seconds: float = Field(default=5, gt=0)  # the net under the bell
    shutdown_grace_seconds: float = Field(default=200, gt=0)  # longer than the slowest synchronous call (Reve: 180)
    memory_budget_mb: int = Field(default=512, ge=64)  # for picture bytes in flight

    @field_validator(
        "cors_origins", "trusted_hosts", "nanobanana_result_hosts", "background_removal_providers",
        "generate_providers", "colourise_providers", "restore_providers", mode="before",
    )  # fmt: skip
    @classmethod
    def _split_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.strip("[]").replace('"', "").split(",") if part.strip())
        return value

    @field_validator("raw_storage_folder", "processed_storage_folder")
    @classmethod
    def _trim_slashes(cls, value: str) -> str:
        if not value.strip("/"):
            raise ValueError("must name a folder")
        return value.strip("/")

    @model_validator(mode="after")
    def _refuse_what_cannot_work(self) -> Self:
        if self.api_key is None and self.environment != "development":
            raise ValueError("API_KEY is missing: writing without a key is only possible in development")
        if self.nanobanana_api_key is not None and not is_public_host(urlsplit(self.public_url).hostname or ""):
            raise ValueError(
                "SUPABASE_PUBLIC_URL is not a public address, but NanoBanana (NANOBANANA_API_KEY is set) has to fetch "
                "pictures from it"
            )
        return self

    @property
    def base_url(self) -> str:
        """Supabase's address without a trailing slash, as this process reaches it."""
        return str(self.supabase_url).rstrip("/")

    @property
    def public_url(self) -> str:
        """Supabase's address without a trailing slash, as browsers and providers reach it."""
        return str(self.supabase_public_url or self.supabase_url).rstrip("/")

    @property
    def max_upload_bytes(self) -> int:
        return int(self.max_upload_mb * 1_000_000)

    @property
    def budget_limits_micros(self) -> dict[str, int]:
        """The caps that are set, in whole micro-dollars: of a day, of an owner's day, of a run."""
        caps = {"day": self.daily_budget_usd, "owner": self.owner_daily_budget_usd, "run": self.run_budget_usd}
        return {scope: round(usd * 1_000_000) for scope, usd in caps.items() if usd is not None}

    @property
    def scene_prompt_overrides(self) -> tuple[str | None, ...]:
        """Prompts that replace the pack's, by position."""
        return (
            self.nanobanana_variant_prompt_1,
            self.nanobanana_variant_prompt_2,
            self.nanobanana_variant_prompt_3,
            self.nanobanana_variant_prompt_4,
        )


def is_public_host(host: str) -> bool:
    """Whether a provider on the internet could reach this host: not loopback, private or a bare name."""
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith((".local", ".internal", ".localhost"))


def load_settings() -> Settings:
    """The settings of this process.

    Raises:
        ConfigError: Names every variable that is missing or wrong, and no value.
    """
    try:
        return Settings()
    except ValidationError as error:
        problems = [_describe(problem["loc"], problem["msg"]) for problem in error.errors(include_input=False)]
        raise ConfigError("; ".join(problems)) from None


def _describe(location: tuple[int | str, ...], message: str) -> str:
    message = message.removeprefix("Value error, ")
    if not location:
        return message
    variable = str(location[0]).upper()
    return f"{variable} is missing" if message == "Field required" else f"{variable}: {message}"
