"""What a pair for training is made of: which fields, which frames, which channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from ..layout import Layout, Role
from .channels import Channels
from .window import Window

Fetch = Callable[[slice, Sequence[str]], Mapping[str, Tensor]]
"""Frames of some fields of one sample, ([T], C, *space) each, the caller's own memory."""


def choose_fields(
    layout: Layout, window: Window | None, inputs: Sequence[str] | None, outputs: Sequence[str] | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the fields that go in and that are asked for; None chooses by role.

    Raises:
        KeyError: an unknown field.
        ValueError: no field, or fields and window do not go together.
    """
    given = _by_name_or_role(layout, window, "inputs", inputs, Role.INPUT)
    asked = _by_name_or_role(layout, window, "outputs", outputs, Role.OUTPUT)
    timed = [name for name in (*given, *asked) if layout[name].time_varying]
    if window is None and timed:
        raise ValueError(
            f"{timed[0]} varies in time: say which frames make a pair, window=Window(inputs, outputs)"
        )
    if window is not None:
        still = [name for name in asked if name not in timed]
        if still:
            raise ValueError(f"{still[0]} does not vary in time, so no window cuts it: leave window out")
        if window.inputs == 0 and all(name in timed for name in given):
            raise ValueError("with no frames that go in, inputs must name a field that does not vary in time")
        if window.inputs > 0 and not any(name in timed for name in given):
            raise ValueError(f"{', '.join(given)} do not vary in time: use Window(inputs=0, ...)")
    return given, asked


def _by_name_or_role(
    layout: Layout, window: Window | None, what: str, names: Sequence[str] | None, role: Role
) -> tuple[str, ...]:
    if names is None:
        fitting = [v for v in layout.variables if v.role in (role, Role.STATE)]
        if window is not None:
            timed = what == "outputs" or window.inputs > 0
            fitting = [v for v in fitting if v.time_varying == timed]
        names = [v.name for v in fitting]
    if isinstance(names, str):
        names = [names]
    chosen = tuple(layout[name].name for name in names)
    if not chosen or len(set(chosen)) != len(chosen):
        have = ", ".join(f"{v.name} ({v.role.value})" for v in layout.variables)
        raise ValueError(
            f"{what} needs the names of one or more different fields, got {chosen}: the fields are {have}"
        )
    return chosen


@final
@dataclass(frozen=True, eq=False)
class Pairs:
    """Form of the pairs (x, y).

    Args:
        channels: fields as tensors.
        window: of trajectories; None for steady problems.
        given, asked: names of the fields of x and y.
    """

    channels: Channels
    window: Window | None
    given: tuple[str, ...]
    asked: tuple[str, ...]

    @property
    def fields(self) -> tuple[str, ...]:
        """All fields that are needed."""
        return tuple(dict.fromkeys((*self.given, *self.asked)))

    @cached_property
    def _series(self) -> tuple[str, ...]:
        """Fields of x that vary in time."""
        return tuple(f for f in self.given if self.channels.layout[f].time_varying)

    @cached_property
    def _constants(self) -> tuple[str, ...]:
        """Fields of x that do not."""
        return tuple(f for f in self.given if f not in self._series)

    @cached_property
    def _parts(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Fields that vary in time of both x and y, of x alone, of y alone."""
        both = tuple(f for f in self._series if f in self.asked)
        given, asked = (tuple(f for f in fields if f not in both) for fields in (self._series, self.asked))
        return both, given, asked

    def _names(self, fields: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for field in fields for name in self.channels.names(field))

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the channels of x: NAME@0 is the last frame that goes in, NAME@-1 the one before."""
        if self.window is None:
            return self._names(self.given)
        series, constants = self._names(self._series), self._names(self._constants)
        if self.window.time_axis:
            return (*series, *constants)
        return (*(f"{name}@{k}" for k in range(1 - self.window.inputs, 1) for name in series), *constants)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the channels of y: NAME@1 is the first frame after those that go in."""
        names = self._names(self.asked)
        if self.window is None or self.window.time_axis:
            return names
        return tuple(f"{name}@{k}" for k in range(1, self.window.outputs + 1) for name in names)

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of x and y."""
        x, y = (len(self.inputs),), (len(self.outputs),)
        if self.window is not None and self.window.time_axis:
            x, y = x + (self.window.inputs,) * (self.window.inputs > 0), (*y, self.window.outputs)
        return (*x, *self.channels.resolution), (*y, *self.channels.resolution)

    def pair(self, fetch: Fetch, start: int = 0) -> tuple[Tensor, Tensor]:
        """Return (x, y) of the window that starts at a frame; frames of a field are fetched at once."""
        if self.window is None:
            found = fetch(slice(None), self.fields)
            return _join([found[f] for f in self.given]), _join([found[f] for f in self.asked])
        window, (both, only_given, only_asked) = self.window, self._parts
        before, after = window.split(start)
        whole = fetch(window.times(start), both) if both else {}
        x = {f: v[: window.inputs] for f, v in whole.items()}
        y = {f: v[window.inputs :] for f, v in whole.items()}
        x |= fetch(before, only_given) if only_given else {}
        y |= fetch(after, only_asked) if only_asked else {}
        constants = fetch(slice(None), self._constants) if self._constants else {}
        x_frames, y_frames = [x[f] for f in self._series], [y[f] for f in self.asked]
        return self._item(x_frames, [constants[f] for f in self._constants]), self._item(y_frames)

    def _item(self, series: list[Tensor], constants: Sequence[Tensor] = ()) -> Tensor:
        """Join frames (T, C, *space) and fields (C, *space) to the form of an item."""
        assert self.window is not None
        if not series:
            return _join(constants)
        frames = _join(series, dim=1)
        if self.window.time_axis:
            frames = frames.transpose(0, 1)
            constants = [c[:, None].expand(-1, frames.shape[1], *c.shape[1:]) for c in constants]
        else:
            frames = frames.reshape(-1, *frames.shape[2:])
        return _join([frames, *constants])


def _join(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    return parts[0].contiguous() if len(parts) == 1 else torch.cat(list(parts), dim)
