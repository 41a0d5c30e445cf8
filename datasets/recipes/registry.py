"""The recipes that have a name: found by it, imported when asked for, set up from words."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any, final

from pydantic import TypeAdapter, ValidationError

from ..recipe import Recipe

RECIPES = {
    **dict.fromkeys(
        ("poisson", "darcy", "darcy-lognormal", "darcy-rough", "darcy-multiscale", "helmholtz"), "elliptic"
    ),
    **dict.fromkeys(("heat", "advection", "burgers", "kdv"), "transport"),
    **dict.fromkeys(("navier-stokes", "kuramoto-sivashinsky", "fisher-kpp", "gray-scott"), "patterns"),
    **dict.fromkeys(("darcy-shapes", "elasticity-shapes"), "shapes"),
}
_RESOLUTION = "resolution"


class UnknownEquation(ValueError):
    """No recipe has this name."""


class UnknownSetting(ValueError):
    """The recipe has no setting of this name."""


class WrongSetting(ValueError):
    """A value of a setting cannot be understood."""


@final
@dataclass(frozen=True)
class Setting:
    """A setting of a recipe: its name, its type in words, what it is when nobody says."""

    name: str
    kind: Any
    default: Any

    @property
    def kind_in_words(self) -> str:
        """The type as it is written."""
        return self.kind.__name__ if isinstance(self.kind, type) else str(self.kind).replace("typing.", "")

    def parse(self, equation: str, text: str) -> Any:
        """Return the value that a text stands for; "none" where the setting may be None."""
        try:
            return TypeAdapter(self.kind).validate_strings(text)
        except ValidationError:
            if text.lower() == "none" and self.default is None:
                return None
            raise WrongSetting(
                f"{self.name} of {equation} is of type {self.kind_in_words} (default {self.default}), "
                f"got {text!r}"
            ) from None


def function_named(name: str) -> Callable[..., Recipe]:
    """Return the function that makes a recipe.

    Raises:
        UnknownEquation: no recipe has this name; the message lists those there are.
    """
    if name not in RECIPES:
        near = get_close_matches(name, RECIPES, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UnknownEquation(f"there is no recipe {name!r}: {hint}There are {', '.join(RECIPES)}")
    module = import_module(f".{RECIPES[name]}", __package__)
    return getattr(module, name.replace("-", "_"))


def settings_of(name: str) -> tuple[Setting, ...]:
    """Return the settings of a recipe, the resolution first where it has one.

    >>> settings_of("burgers")[0].name
    'resolution'
    """
    signature = inspect.signature(function_named(name), eval_str=True)
    return tuple(Setting(p.name, p.annotation, p.default) for p in signature.parameters.values())


def summary_of(name: str) -> str:
    """Return in one sentence what a recipe makes.

    >>> summary_of("darcy") != ""
    True
    """
    return (inspect.getdoc(function_named(name)) or "").split("\n", 1)[0]


def recipe_named(
    name: str, resolution: int | None = None, settings: Mapping[str, str] | None = None
) -> Recipe:
    """Return the recipe of a name.

    Args:
        name: one of `RECIPES`.
        resolution: points along each axis; None takes the recipe's own.
        settings: by name, values as text: read by the type that the recipe gives them.

    Raises:
        UnknownEquation, UnknownSetting, WrongSetting: the message tells what there is.
        ValueError: a value that the recipe rejects.

    >>> recipe_named("burgers", 64).name
    'burgers'
    """
    known = {setting.name: setting for setting in settings_of(name)}
    given = dict(settings or {})
    if resolution is not None:
        if _RESOLUTION not in known:
            raise UnknownSetting(f"{name} has no resolution: its settings are {_listed(known)}")
        if _RESOLUTION in given:
            raise WrongSetting(f"the resolution of {name} is given twice: {resolution}, {given[_RESOLUTION]}")
        given[_RESOLUTION] = str(resolution)
    unknown = [key for key in given if key not in known]
    if unknown:
        raise UnknownSetting(f"{name} has no setting {', '.join(unknown)}: there are {_listed(known)}")
    return function_named(name)(**{key: known[key].parse(name, text) for key, text in given.items()})


def _listed(known: Mapping[str, Setting]) -> str:
    return ", ".join(f"{s.name}={s.default} ({s.kind_in_words})" for s in known.values()) or "none"
