"""Storage's error answers.

Nearly all of them travel as HTTP 400: the truth is the *string* `statusCode` in the body. Source:
github.com/supabase/storage, src/internal/errors/codes.ts and src/http/error-handler.ts (read 2026-11-20).
"""

from __future__ import annotations

from starlette.responses import JSONResponse


class StorageError(Exception):
    """One error as clients see it: `{"statusCode", "error", "message", "code"}`."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        error: str,
        code: str | None = None,
        http_status: int = 400,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status  #: what the body's `statusCode` says
        self.message = message
        self.error = error
        self.code = code
        self.http_status = http_status
        self.headers = headers

    def to_response(self) -> JSONResponse:
        body = {"statusCode": str(self.status), "error": self.error, "message": self.message}
        if self.code is not None:
            body["code"] = self.code
        headers = {"cache-control": "no-store", **(self.headers or {})}
        return JSONResponse(body, status_code=self.http_status, headers=headers)


def no_such_bucket() -> StorageError:
    return StorageError(404, "Bucket not found", error="Bucket not found", code="NoSuchBucket")


def no_such_key() -> StorageError:
    return StorageError(404, "Object not found", error="not_found", code="NoSuchKey")


def related_resource_not_found() -> StorageError:
    return StorageError(404, "The related resource does not exist", error="InvalidRequest", code="InvalidRequest")


def already_exists(code: str) -> StorageError:
    """A name is taken; `code` is KeyAlreadyExists, BucketAlreadyExists or ResourceAlreadyExists."""
    return StorageError(409, "The resource already exists", error="Duplicate", code=code)


def bucket_not_empty() -> StorageError:
    message = "The bucket you tried to delete is not empty"
    return StorageError(409, message, error="ResourceNotEmpty", code="ResourceNotEmpty")


def access_denied(message: str = "Access denied") -> StorageError:
    return StorageError(403, message, error="Unauthorized", code="AccessDenied")


def missing_authorization() -> StorageError:
    return StorageError(400, "headers must have required property 'authorization'", error="Error")


def invalid_request(message: str) -> StorageError:
    return StorageError(400, message, error="InvalidRequest", code="InvalidRequest")


def invalid_key(key: str) -> StorageError:
    return StorageError(400, f"Invalid key: {key}", error="InvalidKey", code="InvalidKey")


def invalid_bucket_name() -> StorageError:
    return StorageError(400, "Bucket name invalid", error="Invalid Input", code="InvalidBucketName")


def invalid_token(reason: str) -> StorageError:
    """The token of a signed link is forged, cut or expired."""
    return StorageError(400, reason, error="InvalidJWT", code="InvalidJWT")


def invalid_signature(reason: str = "Invalid signature") -> StorageError:
    """The token of a signed link is genuine, but made for another path or another use."""
    return StorageError(400, reason, error="InvalidSignature", code="InvalidSignature")


def entity_too_large(entity: str = "object") -> StorageError:
    message = f"The {entity} exceeded the maximum allowed size"
    return StorageError(413, message, error="Payload too large", code="EntityTooLarge")


def invalid_mime_type(mimetype: str) -> StorageError:
    message = f"mime type {mimetype} is not supported"
    return StorageError(415, message, error="invalid_mime_type", code="InvalidMimeType")


def range_not_satisfiable(size: int) -> StorageError:
    return StorageError(
        416,
        "The requested range is not satisfiable",
        error="invalid_range",
        code="InvalidRange",
        http_status=416,
        headers={"content-range": f"bytes */{size}"},
    )


def resource_locked() -> StorageError:
    return StorageError(423, "The resource is locked", error="ResourceLocked", code="ResourceLocked")


def database_timeout() -> StorageError:
    return StorageError(
        544,
        "The connection to the database timed out",
        error="DatabaseTimeout",
        code="DatabaseTimeout",
        http_status=544,
    )


def database_error(message: str) -> StorageError:
    return StorageError(500, message, error="DatabaseError", code="DatabaseError", http_status=500)


def internal_error() -> StorageError:
    return StorageError(500, "Internal server error", error="InternalError", code="InternalError", http_status=500)


def unknown_route(method: str, path: str) -> StorageError:
    return StorageError(404, f"Route {method}:{path} not found", error="Not Found", http_status=404)


def not_implemented(feature: str) -> StorageError:
    message = f"{feature} is not part of the embedded Storage"
    return StorageError(501, message, error="NotSupported", code="NotSupported", http_status=501)
