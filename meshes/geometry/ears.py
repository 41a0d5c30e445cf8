"""Simple polygons: whether sides cross, and a cut into triangles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .errors import InvalidGeometry
from .facets import facet_distances

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_FLAT = 1e-14  # of the polygon's extent squared
_AREA = 1e-9  # of the area, that triangles may lack
_TOO_NEAR = (
    "the polygon cannot be cut into triangles: corners are too near to sides that are not theirs, "
    "move them apart"
)


def check_sides(sides: Floats) -> None:
    """Raise for sides (n, 2, 2), each starting where the one before ends, that cross or touch each other.

    Raises:
        InvalidGeometry: names the sides.
    """
    n, reach = len(sides), float(np.ptp(sides, axis=(0, 1)).max())
    along = sides[:, 1] - sides[:, 0]
    short = np.flatnonzero(np.hypot(*along.T) <= 1e-12 * reach)
    if len(short):
        raise InvalidGeometry(
            f"corners {short[0]} and {(short[0] + 1) % n} of the polygon coincide: give every corner once, "
            "and do not repeat the first at the end"
        )
    following = np.roll(along, -1, axis=0)
    back = (np.abs(_cross(along, following)) <= _FLAT * reach**2) & ((along * following).sum(axis=1) < 0)
    if back.any():
        corner = (int(back.argmax()) + 1) % n
        raise InvalidGeometry(f"the polygon turns back on itself at corner {corner}: leave out the spike")
    for i in range(n - 2):
        rest = np.arange(i + 2, n - (i == 0))  # the next side, and for the first the last, share a corner
        if not len(rest):
            continue
        bad = _meet(sides[i], sides[rest], 1e-12 * reach)
        if bad.any():
            raise InvalidGeometry(
                f"sides {i} and {rest[int(bad.argmax())]} of the polygon cross or touch: order the corners "
                "along the boundary, or join several polygons by |"
            )


def _meet(side: Floats, others: Floats, tolerance: float) -> Bools:
    """Return which other sides (m, 2, 2) cross or touch a side (2, 2), (m,)."""
    a, b = side
    apart = _cross(b - a, others - a)  # (m, 2)
    c, d = others[:, 0], others[:, 1]
    across = np.stack([_cross(d - c, a - c), _cross(d - c, b - c)], axis=1)
    crossing = (apart.prod(axis=1) < 0) & (across.prod(axis=1) < 0)
    near = np.minimum(facet_distances(others, side[None, None]).min(axis=1), facet_distances(a, others))
    return crossing | (np.minimum(near, facet_distances(b, others)) <= tolerance)


def ears(points: Floats) -> Ints:
    """Cut a simple polygon with anticlockwise corners (n, 2) into triangles, (m, 3), by clipping ears.

    An ear is a corner whose neighbours see each other inside; there always is one (Meisters 1975). A corner
    on the line between them, up to rounding, blocks their sight.

    Raises:
        InvalidGeometry: the triangles do not fill the polygon: corners lie on its other sides up to rounding.

    >>> ears(np.array([[0, 0], [1, 0], [1, 1], [0, 1]])).tolist()
    [[3, 0, 1], [1, 2, 3]]
    """
    flat = _FLAT * float(np.ptp(points, axis=0).max()) ** 2
    left, found = list(range(len(points))), []
    while len(left) > 3:
        for place, here in enumerate(left):
            before, after = left[place - 1], left[(place + 1) % len(left)]
            a, b, c = points[before], points[here], points[after]
            turn = _cross(b - a, c - b)
            if turn > flat:
                others = points[[i for i in left if i not in (before, here, after)]]
                within = [_cross(q - p, others - p) >= -flat for p, q in ((a, b), (b, c), (c, a))]
                if (within[0] & within[1] & within[2]).any():
                    continue
                found.append([before, here, after])
            elif turn < -flat:
                continue
            left.pop(place)
            break
        else:
            raise InvalidGeometry(_TOO_NEAR)
    rows = np.array([*found, left])
    a, b, c = np.moveaxis(points[rows], 1, 0)
    area, start = np.abs(_cross(b - a, c - a)).sum() / 2, points - points[0]
    wanted = _cross(start, np.roll(start, -1, axis=0)).sum() / 2  # the shoelace formula
    if not abs(area - wanted) <= _AREA * wanted + len(points) * flat:
        raise InvalidGeometry(f"{_TOO_NEAR}; their area is {area:.9g}, that of the polygon {wanted:.9g}")
    return rows


def _cross(a: Floats, b: Floats) -> Floats:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
