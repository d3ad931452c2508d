"""The block that `make up` ends its start with: where everything is, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.product_client import Product, cutout_url
from scripts.stack import Stack

READY = "Vitrine is ready."
RULE = "─" * 78
LABEL_WIDTH = 22


def summary(stack: Stack, *, sample: Product | None, note: str | None, shows_api_key: bool) -> list[str]:
    """Lines, the last of which is `READY`. `note` stands where the sample's pictures would, if there are none."""
    return [
        RULE,
        *_pictures(sample, note),
        *_addresses(stack, shows_api_key),
        *_next_steps(stack, sample, shows_api_key),
        RULE,
        READY,
    ]


def _pictures(sample: Product | None, note: str | None) -> Iterator[str]:
    if sample is not None and sample["generated_image_urls"]:
        yield f"{sample['title']}, from one photograph:"
        for variant in sample["variants"]:
            if variant["url"]:
                yield f"  {variant['label']:<{LABEL_WIDTH - 2}}{variant['url']}"
        if url := cutout_url(sample):
            yield f"  {'Cut-out':<{LABEL_WIDTH - 2}}{url}"
        yield ""
    if note:
        yield from (note, "")


def _addresses(stack: Stack, shows_api_key: bool) -> Iterator[str]:
    rows = {
        "API": f"{stack.api_url}   (documentation: {stack.api_url}/docs)",
        "API key": stack.api_key if shows_api_key else "your API_KEY",
        "Supabase": stack.supabase_url,
        "Publishable key": stack.publishable_key or "your project's (Dashboard > API Keys)",
    }
    for label, value in rows.items():
        yield f"{label:<{LABEL_WIDTH}}{value}"
    if stack.sandbox_url:
        yield f"{'Sandbox':<{LABEL_WIDTH}}{stack.sandbox_url}   (stands in for models without a key; it is none)"
    yield ""


def _next_steps(stack: Stack, sample: Product | None, shows_api_key: bool) -> Iterator[str]:
    api_key = stack.api_key if shows_api_key else "$API_KEY"
    product_id = sample["id"] if sample else "<product_id>"
    publishable_key = stack.publishable_key or "<publishable key>"
    yield from (
        "Process a photograph:",
        "",
        f'  curl -H "X-API-Key: {api_key}" -F file=@samples/necklace.jpg -F title="My necklace" \\',
        f"    {stack.api_url}/process",
        "",
        "Watch a product change, in a browser or in Node (npm install @supabase/supabase-js):",
        "",
        "  import { createClient } from '@supabase/supabase-js'",
        f"  const supabase = createClient('{stack.supabase_url}', '{publishable_key}')",
        "  supabase",
        "    .channel('one-product')",
        "    .on(",
        "      'postgres_changes',",
        "      { event: 'UPDATE', schema: 'public', table: 'products',",
        f"        filter: 'id=eq.{product_id}' }},",
        "      ({ new: product }) => console.log(product.status, product.generated_image_urls),",
        "    )",
        "    .subscribe()",
        "",
        "Stop: Ctrl-C here, or `make down` in another terminal.",
    )
