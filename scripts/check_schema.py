"""Check that the Supabase in SUPABASE_URL has the tables and functions that this version needs, and say how if not."""

from __future__ import annotations

import asyncio
import sys
from urllib.parse import urlsplit

from config import Settings, load_settings
from database import Database
from errors import ConfigError, StoreUnavailableError
from supabase_client import connect_supabase
from transport import build_http_client

PATIENCE_S = 10.0

HOW_TO_MIGRATE = """\
Apply them with the Supabase CLI (https://supabase.com/docs/guides/cli):
  npx supabase login
  npx supabase link --project-ref {reference}
  npx supabase db push
or set DATABASE_URL (Dashboard > Connect, as role postgres), and it is done for you at each start."""


async def check(settings: Settings) -> None:
    async with build_http_client() as http:
        client = await connect_supabase(settings, http)
        await Database(client, patience_s=PATIENCE_S).check_schema()


def project_reference(url: str) -> str:
    """`abc` of `https://abc.supabase.co`."""
    host = urlsplit(url).hostname or ""
    return host.removesuffix(".supabase.co") if host.endswith(".supabase.co") else "<your project's reference>"


def main() -> None:
    try:
        settings = load_settings()
    except ConfigError as error:
        sys.exit(str(error))
    try:
        asyncio.run(check(settings))
    except StoreUnavailableError:
        sys.exit(f"Supabase does not answer at {urlsplit(settings.base_url).netloc} (SUPABASE_URL).")
    except ConfigError as error:
        sys.exit(f"{error}\n{HOW_TO_MIGRATE.format(reference=project_reference(settings.base_url))}")


if __name__ == "__main__":
    main()
