"""An upload form read as a stream: the text fields first, then the file, never held whole in memory.

As in Storage itself, fields count only when they come before the file; both official clients send them so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from embedded.storage import errors

#: bytes of all text fields together; the largest one, `metadata`, may have 1 MiB in Storage
FIELDS_LIMIT = 1024 * 1024 + 64 * 1024


class UploadForm:
    """A `multipart/form-data` request with one file. Call `read_fields` first, then iterate `file_chunks` once."""

    def __init__(self, content_type: str, body: AsyncIterator[bytes]) -> None:
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise errors.invalid_request("The multipart boundary is missing")
        self.fields: dict[str, str] = {}
        self.file_content_type: str | None = None
        self._body = body
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_begin": self._begin_header,
                "on_header_field": self._read_header_name,
                "on_header_value": self._read_header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._read_data,
                "on_part_end": self._end_part,
                "on_end": self._end_form,
            },
        )
        self._headers: dict[bytes, bytes] = {}
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._field_name: str | None = None
        self._field_value = bytearray()
        self._fields_size = 0
        self._file_began = False
        self._in_file = False
        self._form_ended = False
        self._file_data: list[bytes] = []

    async def read_fields(self) -> None:
        """Read up to the beginning of the file, filling `fields` and `file_content_type`.

        Raises:
            StorageError: The form is broken, has no file, or its fields are too large.
        """
        async for chunk in self._body:
            self._parse(chunk)
            if self._file_began:
                return
        raise errors.invalid_request("No content provided")

    async def file_chunks(self) -> AsyncIterator[bytes]:
        """The bytes of the file, as they arrive.

        Raises:
            StorageError: The form is broken or ends before its closing boundary.
        """
        for data in self._take_file_data():
            yield data
        async for chunk in self._body:
            self._parse(chunk)
            for data in self._take_file_data():
                yield data
        if not self._form_ended:
            raise errors.invalid_request("The multipart body ended before its closing boundary")

    def _parse(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise errors.invalid_request(f"The multipart body cannot be read: {error}") from error

    def _take_file_data(self) -> list[bytes]:
        data, self._file_data = self._file_data, []
        return data

    # -- what the parser calls, in the order of the wire

    def _begin_part(self) -> None:
        self._headers.clear()

    def _begin_header(self) -> None:
        self._header_name.clear()
        self._header_value.clear()

    def _read_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _read_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        self._headers[bytes(self._header_name).lower()] = bytes(self._header_value)

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if self._file_began:
            return  # only the first file counts, and fields after it do not
        if b"filename" in options:
            self._file_began = self._in_file = True
            content_type = self._headers.get(b"content-type")
            self.file_content_type = content_type.decode("latin-1") if content_type else None
        else:
            self._field_name = options.get(b"name", b"").decode(errors="replace")
            self._field_value.clear()

    def _read_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._file_data.append(data[start:end])
        elif self._field_name is not None:
            self._fields_size += end - start
            if self._fields_size > FIELDS_LIMIT:
                raise errors.entity_too_large("user_metadata")
            self._field_value += data[start:end]

    def _end_part(self) -> None:
        if self._field_name is not None:
            self.fields[self._field_name] = self._field_value.decode(errors="replace")
            self._field_name = None
        self._in_file = False

    def _end_form(self) -> None:
        self._form_ended = True
