"""Windows of trajectories: which frames go in and which are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final


class WindowTooLong(ValueError):
    """A window with more frames than the trajectories have."""


@final
@dataclass(frozen=True)
class Window:
    """Cut trajectories into pairs: some frames go in, those that follow are asked for.

    Protocols, for trajectories of T frames: `Window(10, 10, stride=None)`, one pair per trajectory, as in the
    Navier-Stokes sets of Li et al. (2021); `Window(1, 1)`, all one-step pairs; `Window(1, T - 1,
    stride=None)`, rollout from the first frame; `Window(1, 1, every=T - 1)`, initial to final state.

    Args:
        inputs: frames that go in; 0 where only fields that do not vary in time go in.
        outputs: frames that are asked for.
        every: use every so many frames.
        stride: frames between the starts of two windows; None for one window per trajectory.
        start: first frame that is used.
        time_axis: keep times as an axis of their own, (C, T, *space); False makes them channels,
            (T * C, *space), all channels of the first time first.

    Raises:
        ValueError: for counts that make no window.

    >>> list(Window(2, 1, stride=2).starts(8))
    [0, 2, 4]
    """

    inputs: int = 1
    outputs: int = 1
    every: int = 1
    stride: int | None = 1
    start: int = 0
    time_axis: bool = False

    def __post_init__(self) -> None:
        if self.inputs < 0 or self.start < 0:
            raise ValueError(f"inputs and start are not negative, got {self.inputs} and {self.start}")
        if self.outputs < 1 or self.every < 1 or (self.stride is not None and self.stride < 1):
            raise ValueError(
                f"outputs, every and stride are at least 1, got {self.outputs}, {self.every}, {self.stride}"
            )

    @property
    def frames(self) -> int:
        """Frames that are used, in and out."""
        return self.inputs + self.outputs

    @property
    def span(self) -> int:
        """Frames from the first to the last that is used, both counted."""
        return (self.frames - 1) * self.every + 1

    def starts(self, frames: int) -> range:
        """Return the first frames of all windows in a trajectory of so many frames.

        Raises:
            WindowTooLong: there is none.
        """
        last = frames - self.span
        if last < self.start:
            raise WindowTooLong(
                f"a window of {self.inputs} + {self.outputs} frames, every {self.every}, from frame "
                f"{self.start} on needs {self.start + self.span} frames, the trajectories have {frames}: "
                "lower inputs, outputs, every or start"
            )
        return range(self.start, last + 1 if self.stride is not None else self.start + 1, self.stride or 1)

    def times(self, start: int) -> slice:
        """Return the frames of the window that starts at a frame."""
        return slice(start, start + self.span, self.every)

    def split(self, start: int) -> tuple[slice, slice]:
        """Return the frames that go in, and those that are asked for."""
        middle = start + self.inputs * self.every
        return slice(start, middle, self.every), slice(middle, start + self.span, self.every)
