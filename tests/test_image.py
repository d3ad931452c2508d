"""The container image, as far as it can be tried without a container engine: what it copies, installs and starts."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from embedded.postgres import free_port
from tests.shop import API_KEY, Shop
from tests.test_architecture import LAYER_OF

ROOT = Path(__file__).parent.parent


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order: (name, arguments)."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1].strip()) for line in lines if line and line[0] != "#"]


def copied() -> list[str]:
    names = []
    for name, arguments in instructions():
        if name == "COPY":
            names += [source.rstrip("/") for source in shlex.split(arguments)[:-1]]
    return names


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the image would: the copied files and an environment with the locked requirements."""
    app = tmp_path_factory.mktemp("image")
    for name in copied():
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, app / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, app / name)
    subprocess.run([sys.executable, "-m", "venv", app / "venv"], check=True)
    install = [str(app / "venv/bin/pip"), "install", "--quiet", "--require-hashes", "-r", "requirements.txt"]
    subprocess.run(install, cwd=app, check=True, timeout=300)
    return app


def environment(shop: Shop, image: Path) -> dict[str, str]:
    return {
        "PATH": f"{image / 'venv/bin'}:{os.environ['PATH']}",
        "ENVIRONMENT": "production",
        "API_KEY": API_KEY,
        "SUPABASE_URL": shop.settings.base_url,
        "SUPABASE_SERVICE_ROLE_KEY": shop.stack.secret_key,
        "SANDBOX_URL": str(shop.settings.sandbox_url),
    }


def test_it_holds_the_whole_product_and_nothing_else() -> None:
    names = {name.removesuffix(".py") for name in copied()}
    assert names == LAYER_OF.keys() | {"requirements.txt"}


def test_its_base_is_pinned_and_it_does_not_run_as_root() -> None:
    found = dict(instructions())
    assert found["FROM"].count(":") == 1
    assert "latest" not in found["FROM"]
    names = [name for name, _ in instructions()]
    assert names.index("USER") < names.index("CMD")
    assert found["USER"] not in ("root", "0")


def test_the_linter_is_content() -> None:
    result = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.timeout(400)
async def test_both_commands_work_with_the_locked_requirements_alone(shop: Shop, image: Path) -> None:
    """JW-73, JW-78, TT-33, TT-34: the API by default, the worker by another command."""
    port = free_port()
    arguments = next(rest for name, rest in instructions() if name == "CMD")
    command = [part.replace("8000", str(port)).replace("0.0.0.0", "127.0.0.1") for part in json.loads(arguments)]
    api = subprocess.Popen(command, cwd=image, env=environment(shop, image), stdout=subprocess.PIPE, text=True)
    try:
        assert api.stdout is not None
        for line in api.stdout:
            if "Application startup complete" in line:
                break
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            answer = await client.post(
                "/process",
                files={"file": ("ring.jpg", (ROOT / "samples/ring.jpg").read_bytes())},
                headers={"X-API-Key": API_KEY},
            )
            assert answer.status_code == 202
            worker = [str(image / "venv/bin/python"), "worker.py", "--once"]
            subprocess.run(worker, cwd=image, env=environment(shop, image), check=True, timeout=60, capture_output=True)
            product = (await client.get(f"/product/{answer.json()['product_id']}")).json()
            assert (product["status"], len(product["generated_image_urls"])) == ("completed", 4)
    finally:
        api.send_signal(signal.SIGTERM)
        api.communicate(timeout=20)
    assert api.returncode in (0, -signal.SIGTERM)  # uvicorn shuts down cleanly, then lets the signal have its way
