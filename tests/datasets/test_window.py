"""Windows as arithmetic; what they cut is in test_load.py."""

import pytest

from solvus.datasets.loading.window import Window, WindowTooLong


def test_starts_and_frames():
    window = Window(2, 3, every=2, stride=3, start=1)
    assert (window.frames, window.span) == (5, 9)
    assert list(window.starts(16)) == [1, 4, 7]
    assert list(window.starts(10)) == [1]
    before, after = window.split(4)
    frames = list(range(20))
    assert (frames[before], frames[after]) == ([4, 6], [8, 10, 12])
    assert frames[window.times(4)] == [4, 6, 8, 10, 12]
    with pytest.raises(WindowTooLong, match="from frame 1 on needs 10 frames, the trajectories have 9"):
        window.starts(9)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"inputs": -1}, "inputs and start are not negative, got -1 and 0"),
        ({"start": -2}, "got 1 and -2"),
        ({"outputs": 0}, "outputs, every and stride are at least 1, got 0, 1, 1"),
        ({"every": 0}, "got 1, 0, 1"),
        ({"stride": 0}, "got 1, 1, 0"),
    ],
)
def test_counts_that_make_no_window(settings, text):
    with pytest.raises(ValueError, match=text):
        Window(**settings)
