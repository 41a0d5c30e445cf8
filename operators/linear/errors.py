"""Named errors for bad input to operators and systems. Messages say what was given, needed, and to do."""


class ShapeMismatch(ValueError):
    """Sizes that do not fit together."""


class MixedDtypes(TypeError):
    """Operands of different floating-point types, or a type that is not floating-point."""


class MixedDevices(ValueError):
    """Operands on different devices."""


class NonFinite(ValueError):
    """NaN or infinity in input data."""


class IncompatibleSystem(ValueError):
    """A singular system whose right-hand side has a part outside the range of the operator."""


class ZeroDiagonal(ValueError):
    """A method that divides by the diagonal met a zero there."""


class DisconnectedDomain(ValueError):
    """A domain of several parts where the method needs one."""


class NotSupported(TypeError):
    """An operator or problem outside what the method can treat; the message names an alternative."""
