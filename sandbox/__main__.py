"""`python -m sandbox --port 8900 --data DIR`: run the sandbox on 127.0.0.1 until SIGTERM."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from sandbox.app import create_app
from sandbox.behaviour import Behaviour, parse_latency
from sandbox.control import RULES
from sandbox.sandbox import Sandbox
from sandbox.server import SandboxServer


def main() -> None:
    options = _options()
    sandbox = Sandbox(
        data_dir=options.data,
        seed=options.seed,
        behaviour=Behaviour(latency=options.latency, ready_made=options.ready_made),
    )
    if options.faults is not None:
        sandbox.rules.add(RULES.validate_json(options.faults.read_bytes()))
    SandboxServer(sandbox, create_app(sandbox), options.port).run()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox", description="A local stand-in for hosted model APIs. Not a model."
    )
    parser.add_argument("--port", type=int, required=True, help="0: any free one, told in the line `ready <url>`")
    parser.add_argument("--data", type=Path, required=True, help="folder for the invoice, tasks and results")
    parser.add_argument("--seed", type=int, default=0, help="same seed and same calls: same pictures, same faults")
    parser.add_argument("--faults", type=Path, default=os.environ.get("SANDBOX_FAULTS"), help="JSON list of rules")
    parser.add_argument(
        "--latency",
        type=parse_latency,
        default=os.environ.get("SANDBOX_LATENCY", ""),
        help="seconds that work takes at least, e.g. cutout=0.2,scene=0.5",
    )
    parser.add_argument("--ready-made", action="store_true", help="fixed pictures at no CPU, for benchmarks")
    return parser.parse_args()


if __name__ == "__main__":
    main()
