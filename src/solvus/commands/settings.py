"""Commands with many options: a frozen dataclass of annotated fields in place of many parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any, TypeVar, get_type_hints

S = TypeVar("S")


def command(run: Callable[[S], None], settings: type[S]) -> Callable[..., None]:
    """Return a function for Typer: its options are fields of a dataclass, its help is that of `run`."""
    hints = get_type_hints(settings, include_extras=True)
    fields = dataclasses.fields(settings)  # pyright: ignore[reportArgumentType]

    def called(**given: Any) -> None:
        run(settings(**given))

    parameters = [
        Parameter(
            field.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if field.default is dataclasses.MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields
    ]
    called.__signature__ = Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
    called.__annotations__ = dict(hints)
    called.__name__, called.__doc__ = run.__name__, run.__doc__
    return called
