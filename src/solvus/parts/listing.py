"""The learned parts of linear solvers that can be trained from the command line, by name, and their settings.

To add a part: a frozen dataclass of settings and one function that trains, as in `directions`, and a
row in `PARTS`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import torch

from ..operators.neural.base import WrongSettings
from ..solvers.learned.part import LearnedPart
from ..training_plan import read_fields
from .plan import PartPlan

PARTS: Mapping[str, str] = {
    "dcdm": "directions:DCDM",
    "multilevel-directions": "directions:MULTILEVEL_DIRECTIONS",
    "symmetric-directions": "directions:SYMMETRIC_DIRECTIONS",
    "cycle-chooser": "chooser:CYCLE_CHOOSER",
    "learned-vcycle": "vcycle:LEARNED_VCYCLE",
    "sparse-inverse": "sparse_inverse:SPARSE_INVERSE",
    "correction": "correction:CORRECTION",
    "deflation-basis": "deflation:DEFLATION_BASIS",
}
OWN_OPTIONS = ("steps", "size", "batch", "learning_rate")  # of the command, rather than of --set


def part_named(name: str) -> PartPlan:
    """Return how a part is trained; only its file is imported.

    Raises:
        KeyError: there is no such part.
    """
    file, _, plan = PARTS[name].partition(":")
    return getattr(import_module(f".{file}", __package__), plan)


def read_part(
    name: str, plan: PartPlan, words: Mapping[str, str], options: Mapping[str, Any]
) -> tuple[Any, Any]:
    """Return the settings of a network and of its training.

    Args:
        name: of the part.
        plan: of the part.
        words: what `--set` said.
        options: steps, size, batch and learning_rate, those that were given.

    Raises:
        WrongSettings: an unknown name, or a value out of range.

    >>> options = {"size": (8,), "steps": 20}
    >>> network, training = read_part("dcdm", part_named("dcdm"), {"channels": "4"}, options)
    >>> network.channels, training.size, training.steps, training.batch
    (4, (8,), 20, 10)
    """
    networks, trainings = _names(plan.config), _names(plan.training)
    further = [n for n in trainings if n not in OWN_OPTIONS]
    if own := [key for key in words if key in OWN_OPTIONS and key in trainings and key not in networks]:
        raise WrongSettings(f"{own[0]} of {name} is an option: give {option_of(own[0])} in place of --set")
    if unknown := sorted(set(words) - {*networks, *further}):
        known = ", ".join(sorted({*networks, *further}))
        raise WrongSettings(f"{name} has no setting {', '.join(unknown)}: it has {known}")
    if missing := [key for key in options if key not in trainings]:
        raise WrongSettings(f"{name} has no {', '.join(map(option_of, missing))}: it has {options_of(plan)}")
    for key in ("steps", "batch", "learning_rate"):
        if key in options and not 0 < options[key] < math.inf:
            raise WrongSettings(f"{option_of(key)} is positive, got {options[key]:g}")
    own_words = {k: v for k, v in words.items() if k in networks}
    config = dataclasses.replace(plan.config, **read_fields(name, type(plan.config), own_words))
    others = {k: v for k, v in words.items() if k not in networks}
    values = {**plan.follow(config), **read_fields(name, type(plan.training), others), **options}
    training = dataclasses.replace(plan.training, **values)
    if not training.size or min(training.size) < plan.least:
        sizes = ",".join(map(str, training.size)) or "none"
        raise WrongSettings(f"{name} is trained on sizes from {plan.least} on, got --size {sizes}")
    return config, training


def option_of(field: str) -> str:
    """Return the option for a field.

    >>> option_of("learning_rate")
    '--learning-rate'
    """
    return f"--{field.replace('_', '-')}"


def options_of(plan: PartPlan) -> str:
    """Return the options of a part's training in words."""
    own = [option_of(key) for key in OWN_OPTIONS if key in _names(plan.training)]
    return ", ".join([*own, "--set", "--seconds", "--seed", "--device"])


def settings_of_part(plan: PartPlan) -> list[tuple[str, str, str]]:
    """Return name, default and owner ("option", "network" or "training") of every setting."""
    rows = [
        (option_of(k), getattr(plan.training, k), "option") for k in OWN_OPTIONS if k in _names(plan.training)
    ]
    rows += [(k, getattr(plan.config, k), "network") for k in _names(plan.config)]
    rows += [
        (k, getattr(plan.training, k), "training") for k in _names(plan.training) if k not in OWN_OPTIONS
    ]
    return [(name, in_words(value), owner) for name, value, owner in rows]


def in_words(value: Any) -> str:
    """Return a value as options take it.

    >>> in_words((16, 32))
    '16,32'
    """
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def new_network(plan: PartPlan, config: Any, seed: int) -> LearnedPart | None:
    """Make a network, its first weights drawn with the seed; the global generator stays as it is."""
    if plan.make is None:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return plan.make(config)


def _names(settings: Any) -> list[str]:
    return [f.name for f in dataclasses.fields(settings)]
