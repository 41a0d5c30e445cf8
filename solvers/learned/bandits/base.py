"""What a learner is: choose an arm, be told its loss, be saved and restored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Choose = Callable[[Floats, float, float], int]  # (memory, context, uniform number) -> arm
Learn = Callable[[Floats, float, int, float], None]  # (memory, context, arm, loss)


class Learner(ABC):
    """Choose one of `arms` arms again and again, and learn from the loss of the one that was chosen.

    Every `choose` is followed by one `learn` for the arm that it returned. Losses are costs, not negative, in
    any unit that stays the same. A learner holds everything that it knows in plain numbers: one that is
    restored from `state()` continues bit for bit, given a generator in the same state.

    Attributes:
        arms: number of arms.
        contextual: whether it looks at contexts; others ignore them.
    """

    contextual: ClassVar[bool] = False

    def __init__(self, arms: int) -> None:
        if arms < 1:
            raise ValueError(f"a learner chooses among at least 1 arm, got {arms}")
        self.arms = arms

    @abstractmethod
    def choose(self, context: float, generator: np.random.Generator) -> int:
        """Return the arm to play, 0 to arms - 1; draws one number from the generator."""

    @abstractmethod
    def learn(self, context: float, arm: int, loss: float) -> None:
        """Take in the loss of the arm that `choose` returned last for this context."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return what the learner was made with, as plain values."""

    @abstractmethod
    def memory(self) -> list[Floats]:
        """Return the arrays that hold what was learned; to be read, or written by `restore`."""

    @final
    def state(self) -> dict[str, Any]:
        """Return settings and memory as plain values, fit for JSON."""
        memory = [[float(number) for number in part] for part in self.memory()]
        return {"learner": type(self).__name__, "settings": self.settings(), "memory": memory}

    @final
    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` of a learner of the same kind and settings returned.

        Raises:
            ValueError: for another kind, other settings, or a memory of another size or with NaN.
        """
        given, own = state.get("learner"), type(self).__name__
        if given != own:
            raise ValueError(f"the state is one of {given}, this learner is {own}: restore it into a {given}")
        if state.get("settings") != self.settings():
            raise ValueError(
                f"the state belongs to {own} with {state.get('settings')}, this one has {self.settings()}: "
                "make the learner with the same settings"
            )
        parts, new = self.memory(), state.get("memory", [])
        if [len(part) for part in parts] != [len(part) for part in new]:
            raise ValueError(f"the memory in the state of {own} does not have the right size: it was changed")
        arrays = [np.asarray(part, dtype=np.float64) for part in new]
        if not all(np.isfinite(array).all() for array in arrays):
            raise ValueError(
                f"the memory in the state of {own} holds NaN or infinite numbers: it was changed"
            )
        for part, array in zip(parts, arrays, strict=True):
            part[:] = array

    def _check_loss(self, arm: int, loss: float) -> None:
        if not 0 <= arm < self.arms:
            raise ValueError(f"arm {arm} does not exist: there are {self.arms}, counted from 0")
        if not (isfinite(loss) and loss >= 0):
            raise ValueError(f"a loss is a finite cost and not negative, got {loss}: charge failures a price")


class CompiledLearner(Learner):
    """A learner of two compiled functions on one vector of numbers.

    `kernels` are the functions `(memory, context, u) -> arm`, u uniform in [0, 1), and
    `(memory, context, arm, loss)`. Compiled loops may call them with the vector `memory()[0]`, which saves
    the calls from Python.
    """

    kernels: ClassVar[tuple[Choose, Learn]]

    def __init__(self, arms: int, memory: Floats) -> None:
        super().__init__(arms)
        self._memory = memory

    def memory(self) -> list[Floats]:
        """Return the vector, as the only part."""
        return [self._memory]

    @final
    def choose(self, context: float, generator: np.random.Generator) -> int:
        """Return the arm to play; draws one number."""
        return self.kernels[0](self._memory, context, generator.random())

    @final
    def learn(self, context: float, arm: int, loss: float) -> None:
        """Take in the loss of the arm that was chosen last."""
        self._check_loss(arm, loss)
        self.kernels[1](self._memory, context, arm, loss)
