"""The command line answers for every command that it offers."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer

from solvus.cli import app

BIN = Path(sys.executable).parent
COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def answer(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BIN / "solvus", *words], capture_output=True, text=True, check=False)


def test_the_commands_are_there():
    assert {"bench", "report", "solve", "doctor"} <= set(COMMANDS)


def test_help_lists_every_command():
    shown = answer("--help")
    assert shown.returncode == 0
    assert all(command in shown.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(command):
    shown = answer(command, "--help")
    assert shown.returncode == 0
    assert "Usage" in shown.stdout


def test_an_unknown_command_is_refused():
    shown = answer("conjure")
    assert shown.returncode != 0
    assert "conjure" in shown.stderr
