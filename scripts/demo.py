"""`make demo PHOTO=ring.jpg OUT=folder`: one photograph in, pictures out, nothing left running.

Everything runs on ports and in a folder of its own, in the sandbox, so it costs nothing and meets no running Vitrine.
Besides, TITLE, JEWELLERY_TYPE and STEPS are read from the environment, and the scenes' prompts as the worker does.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import httpx
from PIL import Image

from scripts.child import StartError
from scripts.console import Console
from scripts.data_folder import DataFolder
from scripts.environment import OperatorError
from scripts.instance import Instance
from scripts.product_client import Product, ProductClient, RefusedError, cutout_url
from scripts.stack import StackStarter
from scripts.supervisor import Supervisor
from scripts.up import show_step

FORM_FIELDS = ("title", "jewellery_type", "steps")
DEFAULT_LIMIT_S = 300.0
USAGE = "Say which photograph and where to: make demo PHOTO=ring.jpg OUT=folder"


class DemoError(Exception):
    """There is no result; the message is one sentence that says why."""


async def run(photo: Path, out: Path, data: DataFolder, instance: Instance, console: Console, limit_s: float) -> int:
    """The exit code."""
    started = time.monotonic()
    supervisor = Supervisor(instance=instance, data=data, console=console, quiet=True, temporary=True)
    try:
        async with supervisor, httpx.AsyncClient(trust_env=False) as http:
            async with asyncio.timeout(limit_s):
                product = await _process(photo, supervisor, data, http, console)
                files = await _save(product, out, http)
    except asyncio.CancelledError:
        if supervisor.stop_signal is None:
            raise
        return _fail("The demo was stopped.", code=128 + supervisor.stop_signal)
    except TimeoutError:
        return _fail(f"The demo took longer than {limit_s:g} seconds (DEMO_TIMEOUT_SECONDS).")
    except RefusedError as error:
        return _fail(f"The photograph was refused: {error}")
    except StartError as error:
        for line in error.last_lines:
            console.log(error.service, line)
        return _fail(str(error))
    except (DemoError, OperatorError, httpx.HTTPError, OSError) as error:
        return _fail(str(error) or type(error).__name__)
    if product["error_message"]:
        return _fail(product["error_message"])
    console.line(f"{len(files)} files in {out}: {', '.join(files)} ({time.monotonic() - started:.0f} s).")
    return 0


async def _process(
    photo: Path, supervisor: Supervisor, data: DataFolder, http: httpx.AsyncClient, console: Console
) -> Product:
    """The finished product."""
    stack = await StackStarter(supervisor=supervisor, data=data, console=console, http=http).start_demo()
    client = ProductClient(http=http, api_url=stack.api_url, api_key=stack.api_key)
    fields = {name: value for name in FORM_FIELDS if (value := os.environ.get(name.upper()))}
    product_id = await client.post_photo(photo, fields)
    product = await client.follow(product_id, lambda news: show_step(console, news))
    if product is None:
        raise DemoError("The product has disappeared.")
    if product["status"] != "completed":
        raise DemoError(product["error_message"] or f"The product is {product['status']}.")
    return product


async def _save(product: Product, out: Path, http: httpx.AsyncClient) -> list[str]:
    """The names of the files written: the pictures there are, each at its scene's place, and the product."""
    urls = {f"variant_{place}.png": variant["url"] for place, variant in enumerate(product["variants"], start=1)}
    urls["cutout.png"] = cutout_url(product)
    pictures = {
        name: _as_png((await http.get(url, timeout=60)).raise_for_status().content) for name, url in urls.items() if url
    }
    for name in urls:
        (out / name).unlink(missing_ok=True)  # of an earlier demo
    for name, content in pictures.items():
        (out / name).write_bytes(content)
    (out / "product.json").write_text(json.dumps(product, indent=2, ensure_ascii=False) + "\n")
    return [*sorted(pictures), "product.json"]


def _as_png(content: bytes) -> bytes:
    with Image.open(io.BytesIO(content)) as picture:
        if picture.format == "PNG":
            return content
        png = io.BytesIO()
        picture.save(png, "PNG")
        return png.getvalue()


def _fail(message: str, *, code: int = 1) -> int:
    print(message, file=sys.stderr)
    return code


def _arguments() -> tuple[Path, Path, float]:
    """Photograph, folder for the results, time limit in seconds. Ends the program when one is not usable."""
    parser = argparse.ArgumentParser(description="Make pictures of one photograph, without a terminal.")
    parser.add_argument("photo", nargs="?", default="")
    parser.add_argument("out", nargs="?", default="")
    options = parser.parse_args()
    if not options.photo or not options.out:
        sys.exit(USAGE)
    photo, out = Path(options.photo).expanduser(), Path(options.out).expanduser()
    limit = os.environ.get("DEMO_TIMEOUT_SECONDS") or str(DEFAULT_LIMIT_S)
    try:
        limit_s = float(limit)
        with photo.open("rb"):
            pass
        out.mkdir(parents=True, exist_ok=True)
    except ValueError:
        sys.exit(f"DEMO_TIMEOUT_SECONDS is not a number: {limit}")
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}")
    return photo, out, limit_s


def main() -> None:
    photo, out, limit_s = _arguments()
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    console = Console(sys.stdout)
    data = DataFolder(Path(tempfile.mkdtemp(prefix="vitrine-demo-")))
    instance = Instance.claim(data)
    sys.exit(asyncio.run(run(photo, out, data, instance, console, limit_s)))


if __name__ == "__main__":
    main()
