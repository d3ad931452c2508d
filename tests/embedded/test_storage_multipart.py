"""Upload forms, however the network cuts them."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedded.storage.errors import StorageError
from embedded.storage.multipart import FIELDS_LIMIT, UploadForm

CONTENT_TYPE = "multipart/form-data; boundary=frontier"


def form_of(*parts: bytes) -> bytes:
    return b"".join(b"--frontier\r\n" + part + b"\r\n" for part in parts) + b"--frontier--\r\n"


def field(name: str, value: bytes) -> bytes:
    return f'Content-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + value


def file_part(data: bytes, *, name: str = "file", content_type: str | None = "image/png") -> bytes:
    header = f'Content-Disposition: form-data; name="{name}"; filename="ring.png"\r\n'
    if content_type is not None:
        header += f"Content-Type: {content_type}\r\n"
    return header.encode() + b"\r\n" + data


async def in_pieces(body: bytes, cuts: list[int] | None = None) -> AsyncIterator[bytes]:
    places = [0, *sorted(cut % (len(body) + 1) for cut in cuts or []), len(body)]
    for start, end in itertools.pairwise(places):
        yield body[start:end]


async def read(body: bytes, cuts: list[int] | None = None) -> tuple[UploadForm, bytes]:
    form = UploadForm(CONTENT_TYPE, in_pieces(body, cuts))
    await form.read_fields()
    return form, b"".join([chunk async for chunk in form.file_chunks()])


@given(
    data=st.one_of(st.binary(max_size=200), st.sampled_from([b"\r\n--frontie", b"\r\n--frontier-", b"\r\n\r\n--"])),
    cuts=st.lists(st.integers(min_value=0, max_value=1000), max_size=20),
)
async def test_file_and_fields_come_out_whole_wherever_the_body_is_cut(data: bytes, cuts: list[int]) -> None:
    body = form_of(field("cacheControl", b"3600"), field("metadata", b'{"a":1}'), file_part(data))
    if b"\r\n--frontier" in data:
        return
    form, received = await read(body, cuts)
    assert form.fields == {"cacheControl": "3600", "metadata": '{"a":1}'}
    assert form.file_content_type == "image/png"
    assert received == data


async def test_the_file_may_have_an_empty_name_and_no_type() -> None:
    """storage-js names the part of a Blob with the empty string."""
    form, received = await read(form_of(file_part(b"x", name="", content_type=None)))
    assert (form.file_content_type, received) == (None, b"x")


async def test_the_fields_are_known_before_the_bytes_of_the_file_are_read() -> None:
    """The right to upload is checked with them, so nothing else may be needed."""
    received = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal received
        yield form_of(field("cacheControl", b"60"), file_part(b"beginning"))[:-20]
        while True:
            received += 1
            yield b"more"

    form = UploadForm(CONTENT_TYPE, endless())
    await form.read_fields()
    assert form.fields == {"cacheControl": "60"}
    assert received == 0


async def test_a_second_file_and_later_fields_do_not_count() -> None:
    form, received = await read(form_of(file_part(b"first"), field("metadata", b"{}"), file_part(b"second")))
    assert (form.fields, received) == ({}, b"first")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (form_of(field("cacheControl", b"3600")), 400),
        (form_of(file_part(b"x" * 100))[:-30], 400),
        (b"not a form at all", 400),
        (form_of(field("metadata", b"x" * (FIELDS_LIMIT + 1)), file_part(b"x")), 413),
    ],
    ids=["no file", "cut short", "no form", "endless fields"],
)
async def test_a_broken_form_is_refused(body: bytes, status: int) -> None:
    with pytest.raises(StorageError) as caught:
        await read(body)
    assert caught.value.status == status


async def test_a_form_without_a_boundary_is_refused() -> None:
    with pytest.raises(StorageError):
        UploadForm("multipart/form-data", in_pieces(b""))
