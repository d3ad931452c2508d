"""`make up`: run Vitrine in the foreground until Ctrl-C, SIGTERM or `make down`."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

import httpx

from scripts.child import StartError
from scripts.console import Console
from scripts.data_folder import DEFAULT_FOLDER, ROOT, DataFolder
from scripts.environment import Given, OperatorError, load_given
from scripts.instance import AlreadyRunningError, Instance
from scripts.product_client import FINAL_STATUSES, Product, ProductClient, RefusedError, StepNews
from scripts.stack import Stack, StackStarter
from scripts.summary import summary
from scripts.supervisor import Supervisor

SAMPLE = ROOT / "samples" / "ring.jpg"
SAMPLE_FIELDS = {"title": "Sample ring", "jewellery_type": "ring"}
SAMPLE_LIMIT_S = 300.0

NO_SAMPLE_OF_COST = "The sample was not processed: a provider's key is set, and pictures would cost money."
NO_SAMPLE_IN_YOURS = "The sample was not processed: your own Supabase holds only what you put there."


async def run(data: DataFolder, given: Given, instance: Instance, console: Console) -> int:
    """The exit code; 0 after a wanted stop."""
    supervisor = Supervisor(instance=instance, data=data, console=console, quiet=False, temporary=False)
    try:
        async with supervisor, httpx.AsyncClient(trust_env=False) as http:
            console.line(f"{console.bold('Vitrine is starting.')} Data and logs: {_shown(data.path)}")
            starter = StackStarter(supervisor=supervisor, data=data, console=console, http=http)
            stack = await (starter.start_with_own_supabase if given.has_own_supabase else starter.start_embedded)(given)
            sample, note = await _sample(stack, given, data, http, console)
            for line in summary(stack, sample=sample, note=note, shows_api_key=given.api_key is None):
                console.line(line)
            data.write_ready(_addresses(stack, sample))
            await asyncio.Event().wait()
    except asyncio.CancelledError:
        if supervisor.stop_signal is None:
            raise
        console.line("Vitrine has stopped.")
        return 0
    except StartError as error:
        console.problem(f"Vitrine cannot start. {error}")
        console.problem(f"All that it said is in {_shown(data.logs / error.service)}.log.")
        return 1
    except (OperatorError, OSError) as error:
        console.problem(f"Vitrine cannot start. {error}")
        return 1
    return 0


async def _sample(
    stack: Stack, given: Given, data: DataFolder, http: httpx.AsyncClient, console: Console
) -> tuple[Product | None, str | None]:
    """The sample as a product, made on the first start; or None and, if there is one, the reason."""
    if given.has_own_supabase:
        return None, NO_SAMPLE_IN_YOURS
    client = ProductClient(http=http, api_url=stack.api_url, api_key=stack.api_key)
    try:
        product_id = data.sample_product_id()
        if product_id is None:
            if given.can_cost_money:
                return None, NO_SAMPLE_OF_COST
            console.line(f"Making four pictures of {SAMPLE.relative_to(ROOT)}, in the sandbox ...")
            product_id = await client.post_photo(SAMPLE, SAMPLE_FIELDS)
            data.keep_sample_product_id(product_id)
        product = await client.fetch(product_id)
        if product is None or product["status"] in FINAL_STATUSES:
            return product, product["error_message"] if product else None
        async with asyncio.timeout(SAMPLE_LIMIT_S):
            product = await client.follow(product_id, lambda news: show_step(console, news))
    except TimeoutError:
        return None, f"The sample was not finished within {SAMPLE_LIMIT_S:.0f} seconds; the log above says more."
    except (RefusedError, httpx.HTTPError) as error:
        return None, f"The sample could not be processed: {error}"
    return product, product["error_message"] if product else None


def show_step(console: Console, news: StepNews) -> None:
    if news.state == "done":
        console.done(news.label, f"{news.after_s:.1f} s")
    else:
        console.trouble(f"{news.label}: {news.error or news.state}")


def _addresses(stack: Stack, sample: Product | None) -> dict[str, object]:
    """For programs that wait until everything runs. No secret among them."""
    return {
        "api_url": stack.api_url,
        "docs_url": f"{stack.api_url}/docs",
        "supabase_url": stack.supabase_url,
        "publishable_key": stack.publishable_key,
        "sandbox_url": stack.sandbox_url,
        "sample_product_id": sample["id"] if sample else None,
        "pid": os.getpid(),
    }


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _already_running(data: DataFolder, error: AlreadyRunningError) -> str:
    addresses = data.read_ready()
    if addresses is None:
        return f"{error} It is still starting or stopping. `make down` stops it."
    return (
        f"{error} The API is at {addresses['api_url']}, Supabase at {addresses['supabase_url']}. `make down` stops it."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Run Vitrine until Ctrl-C.")
    parser.add_argument("--data", type=Path, default=DEFAULT_FOLDER, help="the folder that holds everything")
    data = DataFolder(parser.parse_args().data.absolute())
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    console = Console(sys.stdout)
    try:
        given = load_given()
        instance = Instance.claim(
            data, on_wait=lambda: console.line("Waiting for what an earlier start left behind to stop ...")
        )
    except (OperatorError, OSError) as error:
        sys.exit(f"Vitrine cannot start. {error}")
    except AlreadyRunningError as error:
        sys.exit(_already_running(data, error))
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(asyncio.run(run(data, given, instance, console)))


if __name__ == "__main__":
    main()
