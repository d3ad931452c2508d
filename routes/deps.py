"""What every route may ask for: the parts made at start-up, and the shop's key."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from ai_clients import Models
from byte_budget import ByteBudget
from config import Settings
from database import Database
from shop_records import ShopRecords
from storage import ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiState:
    settings: Settings
    database: Database
    records: ShopRecords
    store: ObjectStore
    memory: ByteBudget
    models: Models | None  #: for prices; None when the API has no keys of theirs


def get_state(request: Request) -> ApiState:
    state: ApiState = request.app.state.vitrine
    return state


State = Annotated[ApiState, Depends(get_state)]

_header = APIKeyHeader(name="X-API-Key", auto_error=False)
_bearer = HTTPBearer(auto_error=False)


def require_api_key(
    state: State,
    header: Annotated[str | None, Depends(_header)],
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> None:
    """Refuse a request without the API key, as `X-API-Key` or as a bearer token. Only development may have no key."""
    expected = state.settings.api_key
    if expected is None:
        return
    given = header or (bearer.credentials if bearer else "")
    if not hmac.compare_digest(given.encode(), expected.get_secret_value().encode()):
        detail = "The API key is wrong." if given else "An API key is needed: send it as X-API-Key."
        raise HTTPException(401, detail, headers={"WWW-Authenticate": "Bearer"})


#: For everything that writes, and for what is nobody's business but the shop's.
ShopOnly = Depends(require_api_key)
