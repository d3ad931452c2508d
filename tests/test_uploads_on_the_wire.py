"""Uploads as bytes on a socket: what is refused is refused early, and what is cut off leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvicorn

from main import create_app
from tests.shop import API_KEY, Shop, small_photo

MEGABYTE = 1_000_000
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
END = b"\r\n--b--\r\n"


@pytest.fixture
async def port(shop: Shop) -> AsyncIterator[int]:
    server = uvicorn.Server(uvicorn.Config(create_app(shop.settings), port=0, log_config=None, lifespan="on"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await serving


async def request(port: int, *headers: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [
        "POST /process HTTP/1.1",
        "Host: localhost",
        "Content-Type: multipart/form-data; boundary=b",
        *headers,
    ]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    await writer.drain()
    return reader, writer


async def status_of(reader: asyncio.StreamReader) -> int:
    async with asyncio.timeout(20):
        return int((await reader.readline()).split()[1])


async def test_an_honest_length_is_refused_before_the_body_is_read(port: int) -> None:
    reader, writer = await request(port, f"X-API-Key: {API_KEY}", f"Content-Length: {11 * MEGABYTE}")
    assert await status_of(reader) == 413  # not a byte of the body was sent
    writer.close()


async def test_a_stranger_is_refused_before_the_body_is_read(port: int) -> None:
    reader, writer = await request(port, "X-API-Key: wrong", f"Content-Length: {5 * MEGABYTE}")
    assert await status_of(reader) == 401
    writer.close()


async def test_a_body_that_hides_its_length_is_cut_off_in_the_middle(port: int) -> None:
    reader, writer = await request(port, f"X-API-Key: {API_KEY}", "Transfer-Encoding: chunked")
    answer = asyncio.create_task(status_of(reader))
    sent = 0
    piece = bytes(64 * 1024)
    writer.write(f"{len(PART):x}\r\n".encode() + PART + b"\r\n")
    while not answer.done() and sent < 100 * MEGABYTE:
        writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        try:
            await writer.drain()
        except ConnectionError:
            break
        sent += len(piece)
        await asyncio.sleep(0)
    assert await answer == 413
    assert sent < 20 * MEGABYTE
    writer.close()


async def test_a_client_that_leaves_in_the_middle_leaves_nothing_behind(port: int, shop: Shop) -> None:
    before = shop.rows("select count(*) as n from storage.objects")
    body = PART + small_photo() + END
    for cut in (10, len(PART) + 5, len(body) - 3):
        _, writer = await request(port, f"X-API-Key: {API_KEY}", f"Content-Length: {len(body)}")
        writer.write(body[:cut])
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    reader, writer = await request(port, f"X-API-Key: {API_KEY}", f"Content-Length: {len(body)}")
    writer.write(body)
    assert await status_of(reader) == 202  # and the service goes on
    writer.close()
    assert len(shop.rows("select 1 from products")) == 1
    [after] = shop.rows("select count(*) as n from storage.objects")
    assert after["n"] == before[0]["n"] + 1
