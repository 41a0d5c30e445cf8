"""The README and the guides tell the truth: code runs, numbers are right, links lead somewhere."""

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
RUNNABLE = [p for p in PAGES if "```python\n" in p.read_text()]


def page_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def code_blocks(text: str, language: str) -> list[str]:
    """Fenced blocks of a language; a fence with further words, ```python fragment, is not run."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def said_outputs(block: str) -> list[str]:
    """What the comments behind print(...) say, "" where there is none."""
    outputs = []
    for line in block.splitlines():
        if line.strip().startswith("print("):
            _, mark, said = line.rpartition(")  # ")
            outputs.append(said.strip() if mark else "")
    return outputs


def wrong_outputs(text: str, folder: Path) -> list[tuple[str, str]]:
    """Run the Python blocks of a page in one namespace; return (said, printed) where they differ."""
    namespace: dict[str, object] = {"__name__": "page"}
    wrong = []
    with contextlib.chdir(folder):
        for block in code_blocks(text, "python"):
            shown = io.StringIO()
            with contextlib.redirect_stdout(shown):
                exec(compile(block, "page", "exec"), namespace)
            said, printed = said_outputs(block), shown.getvalue().splitlines()
            if len(said) == len(printed):
                pairs = zip(said, printed, strict=True)
                wrong += [(s, p) for s, p in pairs if s and s != p]
            elif any(said):
                wrong.append(("\n".join(said), "\n".join(printed)))
    return wrong


@pytest.mark.parametrize("page", RUNNABLE, ids=page_name)
def test_python_blocks_run_and_print_what_they_say(page, tmp_path):
    assert not wrong_outputs(page.read_text(), tmp_path)


def test_the_readme_asserts_numbers():
    said = [s for b in code_blocks((ROOT / "README.md").read_text(), "python") for s in said_outputs(b)]
    assert sum(bool(re.search(r"\d", s)) for s in said) >= 2


def test_a_wrong_number_is_found(tmp_path):
    page = "```python\nx = 2\n```\ntext\n```python\nprint(x + 1)  # 4\n```\n"
    assert wrong_outputs(page, tmp_path) == [("4", "3")]
    assert not wrong_outputs(page.replace("# 4", "# 3"), tmp_path)


def commands(text: str) -> list[str]:
    """Lines of console blocks that start with a prompt, comments removed."""
    lines = "\n".join(code_blocks(text, "console")).splitlines()
    return [line[2:].split("  #")[0].strip() for line in lines if line.startswith("$ ")]


COMMANDS = sorted({c for p in PAGES for c in commands(p.read_text())})


def refused(command: str) -> str:
    """Why a command that a page shows cannot be right, "" when it can: heavy ones are only parsed."""
    words = command.split()
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return "" if set(words[1:]) <= set(targets) else f"no such target: {command}"
    if words[0] == "python" and len(words) > 1 and words[1].startswith("benchmarks/"):
        check = [sys.executable, *words[1:], "--list"]
    elif words[0] == "solvus":
        if len(words) == 1 or words[1].startswith("-"):
            check = [sys.executable, "-m", "solvus.cli", *words[1:]]
        else:
            check = [Path(sys.executable).parent / "solvus", words[1], "--help"]
    else:
        return ""
    done = subprocess.run([str(w) for w in check], cwd=ROOT, capture_output=True, text=True, check=False)
    unknown = [w.split("=")[0] for w in words if w.startswith("--") and words[0] == "solvus"]
    gone = [w for w in unknown if w not in re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)]
    return done.stderr[-500:] if done.returncode else f"unknown options {gone}" if gone else ""


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_exist_and_take_what_is_shown(command):
    assert not refused(command)


def test_a_wrong_command_is_found():
    assert refused("make tea")
    assert refused("python benchmarks/nothing.py")
    assert refused("solvus conjure")


def broken_links(page: Path, text: str) -> list[str]:
    """Links to files that are not there."""
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    return [t for t in targets if "://" not in t and not (page.parent / t).exists()]


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_somewhere(page):
    assert not broken_links(page, page.read_text())


def test_a_broken_link_is_found():
    assert broken_links(ROOT / "README.md", "[x](docs/nothing.md)") == ["docs/nothing.md"]
