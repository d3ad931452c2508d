"""What the operator has set (`.env`, environment), and from it the environment of the services."""

from __future__ import annotations

import os
from collections.abc import Mapping

from dotenv import dotenv_values
from pydantic import AliasChoices, Field, HttpUrl, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from config import Settings
from scripts.data_folder import ROOT

DOTENV = ".env"  # of the folder that we work in, as for `config.Settings`

#: Settings that a demo takes over: how pictures look. Keys and addresses it does not: it costs nothing, ever.
DEMO_PREFIXES = ("NANOBANANA_VARIANT_PROMPT_", "NANOBANA_VARIANT_PROMPT_", "REVE_PROMPT", "SCENE_PACK")


class OperatorError(Exception):
    """Vitrine cannot start until the operator has changed something; the message says what."""


class Given(BaseSettings):
    """The settings that decide what is started; `config.Settings` is what the services read."""

    model_config = SettingsConfigDict(
        env_file=DOTENV, extra="ignore", frozen=True, hide_input_in_errors=True, env_ignore_empty=True
    )

    supabase_url: HttpUrl | None = None
    supabase_service_role_key: SecretStr | None = None
    supabase_publishable_key: str | None = Field(
        default=None, validation_alias=AliasChoices("supabase_publishable_key", "supabase_anon_key")
    )
    supabase_public_url: HttpUrl | None = None
    database_url: SecretStr | None = None
    api_key: SecretStr | None = None
    worker_id: str | None = None
    shutdown_grace_seconds: float = Field(default=200, gt=0)  # as in `config.Settings`
    sandbox_url: HttpUrl | None = None
    reve_api_key: SecretStr | None = None
    nanobanana_api_key: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("nanobanana_api_key", "nanobana_api_key")
    )

    @property
    def has_own_supabase(self) -> bool:
        return self.supabase_url is not None

    @property
    def can_cost_money(self) -> bool:
        return self.reve_api_key is not None or self.nanobanana_api_key is not None

    @property
    def needs_sandbox(self) -> bool:
        """Some provider has no key, and nobody named a sandbox that runs already."""
        return self.sandbox_url is None and (self.reve_api_key is None or self.nanobanana_api_key is None)


def load_given() -> Given:
    """What the operator has set.

    Raises:
        OperatorError: A value is wrong, or one of two that belong together is missing.
    """
    try:
        given = Given()
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, item['loc'])).upper()}: {item['msg']}" for item in error.errors()]
        raise OperatorError("; ".join(problems)) from None
    if (given.supabase_url is None) != (given.supabase_service_role_key is None):
        there, missing = "SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY"
        if given.supabase_url is None:
            there, missing = missing, there
        raise OperatorError(
            f"{there} is set, but {missing} is not. Set both to use your own Supabase, or neither to use the embedded "
            "one."
        )
    return given


def services_environment(**settings: str | None) -> dict[str, str]:
    """This process's environment with some settings on top; `.env` the services read themselves."""
    return {**os.environ, **_for_python(), **_upper(settings)}


def demo_environment(**settings: str | None) -> dict[str, str]:
    """An environment without the operator's keys and addresses. To be used in a folder that has no `.env`."""
    given = {name.upper(): value for name, value in {**dotenv_values(DOTENV), **os.environ}.items()}
    taken_over = {name: value for name, value in given.items() if value and name.startswith(DEMO_PREFIXES)}
    known = setting_names()
    foreign = {name: value for name, value in os.environ.items() if name.upper() not in known}
    return {**foreign, **taken_over, **_for_python(), **_upper(settings)}


def setting_names() -> frozenset[str]:
    """Every environment variable that the API and the worker read, in upper case."""
    names: set[str] = set()
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        names |= {str(choice) for choice in alias.choices} if isinstance(alias, AliasChoices) else {name}
    return frozenset(name.upper() for name in names)


def _for_python() -> dict[str, str]:
    """Lines are to come at once, and our modules to be found from any folder."""
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(path)}


def _upper(settings: Mapping[str, str | None]) -> dict[str, str]:
    return {name.upper(): value for name, value in settings.items() if value is not None}
