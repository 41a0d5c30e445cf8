"""The examples of the guides to TFNO and to operators on points run, and print what the comments say."""

import contextlib
import io
import re

import pytest


def mistakes(text):
    """What the code blocks of a guide print that their comments do not say."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.S))
    said = [part for note in re.findall(r"print\(.*\)  # (.*)", code) for part in note.split(", then ")]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "guide", "exec"), {})
    lines = printed.getvalue().splitlines()
    assert len(lines) == len(said) > 0
    return [(line, note) for line, note in zip(lines, said, strict=True) if not note.startswith(line)]


@pytest.mark.parametrize("guide", ["tfno.md", "graph-operators.md"])
def test_the_examples_of_a_guide_run(root, guide):
    assert mistakes((root / "docs" / guide).read_text()) == []


def test_a_wrong_comment_is_found():
    assert mistakes("```python\nprint(1 + 1)  # 3\n```") == [("2", "3")]
