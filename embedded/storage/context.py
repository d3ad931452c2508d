"""What the endpoints of Storage share: the database, the files, the signer, and who is asking."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from starlette.requests import Request

from embedded.database import Pool
from embedded.identity import Claims, Identity, InvalidTokenError
from embedded.storage import errors
from embedded.storage.files import FileStore
from embedded.storage.signing import LinkSigner
from embedded.storage.transactions import SERVICE, Connection, transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageContext:
    identity: Identity
    pool: Pool
    files: FileStore
    signer: LinkSigner

    def acting_as(
        self, claims: Claims, operation: str, *, rollback: bool = False
    ) -> AbstractAsyncContextManager[Connection]:
        """One transaction with the caller's rights; see `transactions.transaction`."""
        return transaction(self.pool, claims, operation, rollback=rollback)

    def acting_as_service(self, operation: str) -> AbstractAsyncContextManager[Connection]:
        """One transaction that sees past the policies."""
        return transaction(self.pool, SERVICE, operation)

    def caller(self, request: Request) -> Claims:
        """Who is asking.

        Raises:
            StorageError: The request brings no key and no token, or one that is not good.
        """
        token = self.identity.token_of_request(request.headers, request.query_params)
        if token is None:
            raise errors.missing_authorization()
        try:
            return self.identity.claims_of_token(token)
        except InvalidTokenError as error:
            raise errors.access_denied(_reason(error, token)) from error

    def caller_if_known(self, request: Request) -> Claims | None:
        """Who is asking, where a bad token only counts as none."""
        try:
            return self.caller(request)
        except errors.StorageError:
            return None


def _reason(error: InvalidTokenError, token: str) -> str:
    """The words of the library that Storage verifies tokens with."""
    if error.is_expired:
        return '"exp" claim timestamp check failed'
    return "signature verification failed" if token.count(".") == 2 else "Invalid Compact JWS"
