from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import config
from config import Settings, load_settings
from errors import ConfigError

ROOT = Path(__file__).parent.parent
MINIMAL: dict[str, Any] = {"supabase_url": "http://127.0.0.1:54321", "supabase_service_role_key": "sb_secret_test"}


def settings(**changes: Any) -> Settings:
    return Settings.model_validate(MINIMAL | changes)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


def test_every_setting_is_explained_in_the_example_file() -> None:
    explained = set(re.findall(r"^#? ?([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert explained == {name.upper() for name in Settings.model_fields}


def test_the_defaults_in_the_example_file_are_true() -> None:
    lines = re.findall(r"^# ([A-Z][A-Z0-9_]+)=(.+)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    shown = {name.lower(): value for name, value in lines if "<" not in value}
    assert len(shown) > 20
    assert settings(**shown) == settings()


def test_missing_settings_are_named_all_at_once() -> None:
    with pytest.raises(ConfigError, match=r"^SUPABASE_URL is missing; SUPABASE_SERVICE_ROLE_KEY is missing$"):
        load_settings()


def test_a_wrong_setting_is_named_and_its_value_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", "sb_secret_hush")
    monkeypatch.setenv("MAX_RETRIES", "hush-hush")
    with pytest.raises(ConfigError) as raised:
        load_settings()
    assert "MAX_RETRIES" in str(raised.value)
    assert "hush" not in str(raised.value)


def test_secrets_do_not_show_when_settings_are_printed() -> None:
    shown = repr(settings(api_key="k-hush", reve_api_key="r-hush", database_url="postgresql://u:p-hush@h/d"))
    assert "hush" not in shown
    assert "sb_secret_test" not in shown


def test_an_empty_variable_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", "key")
    monkeypatch.setenv("REVE_API_KEY", "")
    assert load_settings().reve_api_key is None


def test_production_wants_an_api_key() -> None:
    with pytest.raises(ValueError, match="API_KEY is missing"):
        settings(environment="production")
    assert settings(environment="production", api_key="k").api_key is not None


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:54321", "http://localhost:8000", "http://10.0.0.5", "http://192.168.1.2", "http://box"]
)
def test_nanobanana_needs_a_public_storage_address(url: str) -> None:
    with pytest.raises(ValueError, match="SUPABASE_PUBLIC_URL is not a public address"):
        settings(nanobanana_api_key="k", supabase_public_url=url)


def test_nanobanana_is_content_with_a_public_storage_address() -> None:
    assert settings(nanobanana_api_key="k", supabase_public_url="https://shop.supabase.co").nanobanana_api_key


def test_the_older_spelling_of_nanobanana_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """JW-33, JW-34: earlier set-ups write NANOBANA_."""
    monkeypatch.setenv("SUPABASE_URL", "https://shop.supabase.co")
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", "key")
    monkeypatch.setenv("NANOBANA_VARIANT_PROMPT_2", "on silk")
    monkeypatch.setenv("NANOBANA_PROMPT", "unused")
    assert load_settings().scene_prompt_overrides == (None, "on silk", None, None)


def test_lists_are_written_with_commas_or_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("http://a.example, http://b.example", '["http://a.example", "http://b.example"]'):
        assert settings(cors_origins=text).cors_origins == ("http://a.example", "http://b.example")


def test_an_unknown_provider_is_refused() -> None:
    with pytest.raises(ValueError, match="background_removal_providers"):
        settings(background_removal_providers="reve,nobody")


def test_the_table_name_cannot_be_changed() -> None:
    """JW-46: the variable is known, but the SQL functions name the table."""
    with pytest.raises(ValueError, match="db_table_name"):
        settings(db_table_name="goods")


def test_addresses_have_no_trailing_slash() -> None:
    made = settings(supabase_url="http://127.0.0.1:54321/", supabase_public_url="https://cdn.example/")
    assert (made.base_url, made.public_url) == ("http://127.0.0.1:54321", "https://cdn.example")


@pytest.mark.parametrize(
    ("host", "public"), [("8.8.8.8", True), ("127.0.0.1", False), ("shop.example", True), ("nas.local", False)]
)
def test_public_hosts(host: str, public: bool) -> None:
    assert config.is_public_host(host) is public
