"""Makes a provider's words fit for logs and for a user's screen."""

from __future__ import annotations

import re

LONGEST_WORDS = 300  # characters

_HTML = re.compile(r"\s*<(!doctype|html|head|body|\?xml)", re.IGNORECASE)
_LINK = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
_ADDRESS = re.compile(r"\S+@\S+")
_CODE = re.compile(r"[A-Za-z0-9+/=_.~-]{32,}")  # keys, tokens, base64


def redacted(words: str, *, secret: str) -> str:
    """One line of at most 300 characters, without links (they may be signed), addresses and long codes.

    `secret`, which is not empty, is taken out wherever it stands.
    """
    if _HTML.match(words):
        return "(an HTML page)"
    words = words.replace(secret, "[key]")[: 4 * LONGEST_WORDS]
    for pattern, stand_in in ((_LINK, "[link]"), (_ADDRESS, "[address]"), (_CODE, "[code]")):
        words = pattern.sub(stand_in, words)
    printable = "".join(character if character.isprintable() else " " for character in words)
    return " ".join(printable.split())[:LONGEST_WORDS]
