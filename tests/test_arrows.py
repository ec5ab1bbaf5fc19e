"""The arrows between the packages: screening -> rules -> consent, and who may import what."""

import ast
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
OURS = {"consent", "rules", "screening"}
MAY_IMPORT_OF_OURS = {
    "consent": {"consent"},
    "rules": {"rules", "consent"},
    "screening": {"screening", "rules", "consent"},
}
ONLY_IN = {
    "redis": ("consent/index/servers.py", "screening/embedded.py"),
    "sqlalchemy": ("consent/record/",),
    "alembic": ("consent/record/",),
    "fastapi": ("screening/",),
    "starlette": ("screening/",),
    "uvicorn": ("screening/",),
    "pydantic": ("screening/",),
    "pydantic_settings": ("screening/",),
    "orjson": ("screening/",),
    "grpc": ("screening/",),
    "prometheus_client": ("screening/",),
    "typer": ("screening/",),
}
NOT_IN_RULES = {"time", "random", "secrets", "socket", "asyncio", "threading", "subprocess", "os"}


def imports(path: Path) -> set[str]:
    """The top-level modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found.add((node.module or "").split(".")[0])
    return found


MODULES = sorted(SOURCE.rglob("*.py"))


def test_there_is_something_to_walk() -> None:
    """Each of the three packages has modules, so the walk below means something."""
    assert {path.relative_to(SOURCE).parts[0] for path in MODULES} == OURS


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_arrows_go_one_way(path: Path) -> None:
    """A module imports only packages to the right of its own, and libraries where they belong."""
    relative = path.relative_to(SOURCE).as_posix()
    package = relative.split("/")[0]
    imported = imports(path)
    assert imported & OURS <= MAY_IMPORT_OF_OURS[package]
    for library, places in ONLY_IN.items():
        if library in imported:
            assert relative.startswith(places), f"{relative} imports {library}"
    third_party = imported - OURS - set(sys.stdlib_module_names)
    if package == "rules":
        assert third_party <= {"re2"}, f"{relative}: rules are pure"
        if relative != "rules/__main__.py":
            assert not imported & NOT_IN_RULES, f"{relative}: rules have no I/O and no clock"


def test_migrations_are_one_line() -> None:
    """Each migration follows another one, and the newest is the schema's: two that were made at
    once would open no database."""
    folder = SOURCE / "consent" / "record" / "migrations" / "versions"
    steps = {}
    for path in sorted(folder.glob("r*.py")):
        values = {
            target.id: node.value.value
            for node in ast.parse(path.read_text("utf-8")).body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        assert values["revision"] == path.name[1:5], path.name
        assert values["revision"] not in steps, path.name
        steps[values["revision"]] = values["down_revision"]
    numbers = sorted(steps)
    assert [steps[number] for number in numbers] == [None, *numbers[:-1]]
    assert f'REVISION: Final = "{numbers[-1]}"' in (folder.parents[1] / "schema.py").read_text(
        "utf-8"
    )
