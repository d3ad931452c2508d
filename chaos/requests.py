"""Names for what a worker asks for, so that "the third upload of a scene" is the same request in every run."""

from __future__ import annotations

import re

#: (method, path, name), first match; named groups fill the name.
_KINDS = tuple(
    (method, re.compile(path), name)
    for method, path, name in (
        ("POST", r"/rest/v1/rpc/(?P<function>\w+?)(?:_v\d+)?(?:\?|$)", "rpc {function}"),
        ("POST", r"/storage/v1/object/sign/.*/temp/", "sign cut-out"),
        ("POST", r"/storage/v1/object/.*/temp/", "upload cut-out"),
        ("POST", r"/storage/v1/object/.*/processed/", "upload scene"),
        ("GET", r"/storage/v1/object/.*/temp/", "download cut-out"),
        ("GET", r"/storage/v1/object/.*/processed/", "download scene"),
        ("GET", r"/storage/v1/object/", "download photograph"),
        ("GET", r"/realtime/v1/websocket", "listen"),
        ("POST", r"/v1/image/edit", "buy cut-out"),
        ("POST", r"/api/v1/nanobanana/generate", "buy scene"),
        ("GET", r"/api/v1/nanobanana/record-info", "poll"),
        ("GET", r"/results/", "fetch result"),
    )
)

LISTEN = "listen"
BUY_CUTOUT, BUY_SCENE = "buy cut-out", "buy scene"
PAID = {BUY_CUTOUT, BUY_SCENE}
ACCEPT_TASK = "rpc accept_task"
UPLOAD_CUTOUT = "upload cut-out"
FETCH_RESULT = "fetch result"
#: What comes by the clock, so that its number differs from run to run: how many each run has for certain.
BY_THE_CLOCK = {"rpc heartbeat": 1, "rpc claim_runs": 2, "poll": 4}


def kind_of(method: str, path: str) -> str:
    """What a request is, whichever product it is for."""
    for wanted, pattern, name in _KINDS:
        found = pattern.match(path) if method == wanted else None
        if found:
            return name.format(**found.groupdict())
    return f"{method} {path.partition('?')[0]}"
