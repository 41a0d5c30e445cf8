"""What all commands share: errors and warnings shown as one message each."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.markup import escape


@contextmanager
def plain_errors() -> Iterator[None]:
    """Show an error of the library as one message, without traceback, and end with code 2."""
    try:
        yield
    except (ArithmeticError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, typer.Exit):
            raise
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        message = escape(text or type(error).__name__)
        Console(stderr=True).print(f"[bold red]error[/] {message}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from None


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Show each warning once, as one line on the error output."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            for text in dict.fromkeys(str(warning.message) for warning in caught):
                note = f"[yellow]warning[/] {escape(text)}"
                Console(stderr=True).print(note, highlight=False, soft_wrap=True)
