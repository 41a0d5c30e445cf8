"""Memory that does not suffice: one named error, whatever the allocator said."""

import pytest
import torch
from torch import nn

from solvus.solvers.training import OutOfMemory, RelativeL2, Surrogate, Training, fit
from solvus.solvers.training.memory import named_memory_errors


class Greedy(nn.Module):
    """Needs a petabyte for more than two samples at a time."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        if len(x) > 2:
            torch.empty(10**15)
        return self.weight * x


def test_a_step_that_does_not_fit_says_how_it_would(tmp_path):
    x = torch.rand(8, 1, 4)
    with pytest.raises(
        OutOfMemory, match="a batch of 8 in 1 parts on cpu does not fit into memory"
    ) as caught:
        fit(Greedy(), (x, 2 * x), RelativeL2(), Training(epochs=1, batch=8))
    assert "accumulate=2" in str(caught.value)
    assert isinstance(caught.value.__cause__, RuntimeError)
    done = fit(Greedy(), (x, 2 * x), RelativeL2(), Training(epochs=1, batch=8, accumulate=4))  # as advised
    assert done.epochs == 1


def test_what_was_reached_before_stays(tmp_path):
    class Later(Greedy):
        """Runs out of memory in the second epoch."""

        def __init__(self, steps):
            super().__init__()
            self.left = steps

        def forward(self, x):
            self.left -= 1
            return super().forward(x if self.left >= 0 else torch.cat((x, x)))

    x, settings = torch.rand(8, 1, 4), Training(epochs=2, batch=2, checkpoint_seconds=0)
    with pytest.raises(OutOfMemory):
        fit(Later(5), (x, 2 * x), RelativeL2(), settings, out=tmp_path)
    done = fit(Later(100), (x, 2 * x), RelativeL2(), settings, out=tmp_path, resume=True)
    assert [row["step"] for row in done.history] == [4, 8]


def test_a_prediction_that_does_not_fit():
    model = Surrogate(Greedy())
    x = torch.rand(8, 1, 4)
    with pytest.raises(
        OutOfMemory, match="8 samples at a time does not fit into memory: pass a smaller `batch`"
    ):
        model.predict(x, batch=8)
    assert model.predict(x, batch=2).shape == x.shape


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_errors_of_all_allocators(error):
    with pytest.raises(OutOfMemory), named_memory_errors("it", "take less"):
        raise error


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="something else"), named_memory_errors("it", "take less"):
        raise RuntimeError("something else")
    nested = named_memory_errors("outer", "x"), named_memory_errors("inner", "y")
    with pytest.raises(OutOfMemory, match=r"^inner"), nested[0], nested[1]:
        raise MemoryError
