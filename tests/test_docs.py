"""The pages about rules, executed: what they tell a reader to do is done, as it stands there."""

import contextlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tests.running import ROOT, Running, environment_of, running_service, wait_for

from consent.derive import YEARS
from rules.cases import _FACT_FIELDS
from rules.pack import _RULE
from rules.rule import Mode
from screening.commands import consent, entity, subscriber

PAGE = (ROOT / "docs" / "rules.md").read_text("utf-8")
STEP = re.compile(r"```sh\n(.*?)```(?:\s*```text\n(.*?)```)?", re.DOTALL)
SERVE = re.compile(r"SCREENING_RULES_DIR=(\S+) screening serve\s*")
ADDRESS = "http://127.0.0.1:8080"


def shows(output: str, shown: str) -> bool:
    """Whether the output has what the page shows, where … stands for anything."""
    parts = (re.escape(part) for part in shown.strip("\n").split("…"))
    return re.search(".*?".join(parts), output, re.DOTALL) is not None


class Terminal:
    """A folder with the shipped packs, and the commands on its path as after an installation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.service: Running | None = None
        (folder / "deploy").symlink_to(ROOT / "deploy")
        commands = folder / "bin"
        commands.mkdir()
        for name, module in (("python", ""), ("screening", "-m screening")):
            command = commands / name
            command.write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n', "utf-8")
            command.chmod(0o755)
        self.environment = environment_of(folder / "state")
        self.environment["PATH"] = f"{commands}{os.pathsep}{self.environment['PATH']}"

    def run(self, lines: str) -> tuple[int, str]:
        """The exit code of the last of the lines and all that they print."""
        if self.service is not None:
            lines = lines.replace(ADDRESS, self.service.url)
        done = subprocess.run(
            ["bash", "-c", lines],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout


def test_a_rule_in_five_minutes(tmp_path: Path) -> None:
    """Every step of the page works, in order, and prints what the page shows."""
    terminal = Terminal(tmp_path)
    steps = STEP.findall(PAGE)
    assert len(steps) > 10
    with contextlib.ExitStack() as stack:
        for lines, shown in steps:
            if served := SERVE.fullmatch(lines):
                folder = str(tmp_path / served[1])
                service = running_service(tmp_path / "state", rules_dir=folder)
                terminal.service = stack.enter_context(service)
                continue
            if "curl" in lines:
                # What was done before comes into force within the second, not at once.
                before, _, asked = lines.rpartition("curl")
                code, output = terminal.run(before)
                assert code == 0, f"{before}\n{output}"
                wait_for(
                    lambda asked=asked, shown=shown: shows(terminal.run(f"curl{asked}")[1], shown),
                    seconds=20,
                    what=f"curl{asked} to answer {shown}",
                )
                continue
            code, output = terminal.run(lines)
            assert shows(output, shown), f"{lines}\n{output}"
            assert code == (1 if shown.startswith("gb/") else 0), f"{lines}\n{output}"


def test_the_tables_of_the_page_are_whole() -> None:
    """Each key of a rule and of a case's facts has its row, each mode its word; no other has."""
    rule, facts = PAGE.split("## What a rule says")[1], PAGE.split("| in `facts`")[1]
    rows = re.compile(r"^\| `(\w+)` \|", re.MULTILINE)
    assert set(rows.findall(rule.split("\n## ")[0])) == set(_RULE)
    assert set(rows.findall(facts.split("\n## ")[0])) == set(_FACT_FIELDS)
    assert all(f"`{mode}`" in rule for mode in Mode)
    assert f"from {YEARS[0]} to {YEARS[-1]}" in PAGE


@pytest.mark.parametrize("block", re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL))
def test_what_is_shown_as_toml_is_toml(block: str) -> None:
    """Each example can be copied."""
    assert tomllib.loads(block)


@pytest.mark.parametrize("link", re.findall(r"\]\(([\w./-]+\.md)(?:#[\w-]+)?\)", PAGE))
def test_links_lead_somewhere(link: str) -> None:
    """The pages that are named are there."""
    assert (ROOT / "docs" / link).is_file()


CONSENT = (ROOT / "docs" / "consent.md").read_text("utf-8")


def test_the_page_of_consent(tmp_path: Path) -> None:
    """Each step does what the page shows, in order, on the service that it names."""
    terminal = Terminal(tmp_path)
    (tmp_path / "var").symlink_to(tmp_path / "state")
    steps = STEP.findall(CONSENT)
    assert len(steps) >= 9
    with running_service(tmp_path / "state", "--sample") as service:
        terminal.service = service
        (before, _), *others = steps
        for lines, shown in others:
            code, output = terminal.run(before + lines)
            assert shows(output, shown), f"{lines}\n{output}"
            assert code == 0, f"{lines}\n{output}"


def test_the_page_of_consent_names_what_there_is() -> None:
    """Each command and link of the page is there."""
    for link in re.findall(r"\]\(([\w./-]+\.md)", CONSENT):
        assert (ROOT / "docs" / link).is_file()
    for command, words in re.findall(
        r"`screening (consent|subscriber|entity)\s+([^`-]+)`", CONSENT
    ):
        group = {"consent": consent.app, "subscriber": subscriber.app, "entity": entity.app}[
            command
        ]
        known = {each.name for each in group.registered_commands}
        assert words.split()[0] in known, f"{command} {words}"
