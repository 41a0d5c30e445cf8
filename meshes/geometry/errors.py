"""Named errors of the geometry layer. Each message says what was given, what was needed, and what to do."""


class InvalidGeometry(ValueError):
    """Values that do not make a shape: no extent, NaN, a polygon that crosses itself, an open surface."""


class MixedDimensions(InvalidGeometry):
    """A set operation between shapes of different dimensions."""


class EmptyGeometry(ValueError):
    """A shape without interior, or with so little of it that drawing from it fails."""


class EmptyBoundary(ValueError):
    """A selection of the boundary that holds nothing of it."""


class UnknownPart(ValueError):
    """A part of the boundary that the geometry does not have."""


class BadPredicate(ValueError):
    """A predicate on points that does not give one truth value per point."""


class BadPoints(ValueError):
    """Points of a wrong shape or type, or an impossible number of them."""
