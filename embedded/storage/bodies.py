"""JSON bodies of requests, as the official clients send them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from embedded.storage import errors

JSON_LIMIT = 1024 * 1024  # bytes; the default of Storage's web framework

FileSizeLimit = int | str | None  # bytes, or "20MB"
SortOrder = Literal["asc", "desc"]


class CreateBucket(BaseModel):
    name: str
    id: str | None = None
    public: bool | None = False
    file_size_limit: FileSizeLimit = None
    allowed_mime_types: list[str] | None = None
    type: Literal["STANDARD"] | None = None


class UpdateBucket(BaseModel):
    """What is absent stays as it is."""

    public: bool | None = None
    file_size_limit: FileSizeLimit = None
    allowed_mime_types: list[str] | None = None


class SortBy(BaseModel):
    column: Literal["name", "updated_at", "created_at", "last_accessed_at"] = "name"
    order: SortOrder = "asc"


class ListFolder(BaseModel):
    model_config = ConfigDict(extra="forbid")  # a filter that is not understood must not be ignored

    prefix: str
    limit: Annotated[int, Field(ge=1)] = 100
    offset: Annotated[int, Field(ge=0)] = 0
    search: str | None = None
    sort_by: Annotated[SortBy, Field(alias="sortBy")] = SortBy()


class SortByV2(BaseModel):
    column: Literal["name", "updated_at", "created_at"] = "name"
    order: SortOrder = "asc"


class ListUnderPrefix(BaseModel):
    model_config = ConfigDict(extra="forbid")

    prefix: str = ""
    limit: Annotated[int, Field(ge=1)] = 1000
    cursor: str | None = None
    with_delimiter: bool = False
    sort_by: Annotated[SortByV2, Field(alias="sortBy")] = SortByV2()


class SignLink(BaseModel):
    expires_in: Annotated[int, Field(alias="expiresIn", ge=1)]  # seconds
    transform: dict[str, Any] | None = None


class SignLinks(BaseModel):
    expires_in: Annotated[int, Field(alias="expiresIn", ge=1)]  # seconds
    paths: Annotated[list[str], Field(min_length=1, max_length=1000)]


class MoveObject(BaseModel):
    bucket_id: Annotated[str, Field(alias="bucketId")]
    source_key: Annotated[str, Field(alias="sourceKey")]
    destination_key: Annotated[str, Field(alias="destinationKey")]
    destination_bucket: Annotated[str | None, Field(alias="destinationBucket")] = None


class CopiedMetadata(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    cache_control: Annotated[str | None, Field(alias="cacheControl")] = None
    mimetype: str | None = None


class CopyObject(MoveObject):
    copy_metadata: Annotated[bool, Field(alias="copyMetadata")] = True
    metadata: CopiedMetadata = CopiedMetadata()


class ObjectName(BaseModel):
    path: str


class RemoveObjects(BaseModel):
    prefixes: Annotated[list[str | ObjectName], Field(min_length=1, max_length=1000)]  # exact names, despite the word

    @property
    def keys(self) -> list[str]:
        return [item if isinstance(item, str) else item.path for item in self.prefixes]


Body = TypeVar("Body", bound=BaseModel)


async def read_body(request: Request, model: type[Body]) -> Body:
    """The request's JSON as `model`.

    Raises:
        StorageError: It is too large, no JSON, or not of that shape.
    """
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > JSON_LIMIT:
            raise errors.entity_too_large("request body")
    try:
        return model.model_validate_json(bytes(received))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = "/".join(str(step) for step in ("body", *first["loc"]))
        raise errors.invalid_request(f"{place} {first['msg']}") from error
