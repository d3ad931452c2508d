"""The shape of the product: imports point one way, and nothing of it knows the embedded stack or the sandbox."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: Each layer may import from those above it in this list, never from its own neighbours' users.
LAYERS = [
    {"errors"},
    {"domain"},
    {"logging_config", "byte_budget", "picture_formats", "transport", "config", "limits", "breaker"},
    {"pictures", "packs"},
    {"providers", "supabase_client", "provider_gate"},
    {"model_wrappers", "supabase_rpc"},
    {"ai_clients", "database", "shop_records", "storage", "bell"},
    {"recipes"},
    {"planning"},
    {"pipeline", "estimates", "maintenance"},
    {"routes"},
    {"main", "worker"},
]
LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}
FOREIGN = {"embedded", "sandbox", "scripts", "tests", "bench"}


def product_files() -> list[Path]:
    folders = [ROOT / name for name in LAYER_OF if (ROOT / name).is_dir()]
    return sorted([*ROOT.glob("*.py"), *(file for folder in folders for file in folder.rglob("*.py"))])


def imported_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def test_every_root_module_has_a_layer() -> None:
    unknown = {file.stem for file in ROOT.glob("*.py")} - LAYER_OF.keys()
    assert not unknown, f"give these a place in LAYERS: {unknown}"


@pytest.mark.parametrize("file", product_files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_one_way(file: Path) -> None:
    own = file.relative_to(ROOT).parts[0].removesuffix(".py")
    names = set(imported_names(ast.parse(file.read_text(encoding="utf-8"))))
    assert not names & FOREIGN
    upwards = {name for name in names - {own} if name in LAYER_OF and LAYER_OF[name] > LAYER_OF[own]}
    assert not upwards


@pytest.mark.parametrize("file", product_files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_stand_at_the_top(file: Path) -> None:
    """An import inside a function that dodges a cycle means that a piece is in the wrong file."""
    for function in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            assert not list(imported_names(function)), function.name


def test_only_config_reads_the_environment() -> None:
    readers = {
        str(file.relative_to(ROOT))
        for file in product_files()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    }
    assert readers <= {"config.py"}
