"""Named errors of the finite-element backends."""

from __future__ import annotations


class FenicsUnavailable(RuntimeError):
    """No interpreter that can import dolfinx was found; the message lists what was tried."""


class ProtocolMismatch(RuntimeError):
    """The worker does not speak this version of the protocol, or does not speak it at all."""


class WorkerDied(RuntimeError):
    """The worker process ended in the middle of a request, and again after one restart."""


class WorkerTimeout(TimeoutError):
    """The worker did not answer within the time limit and was ended."""


class WorkerFailure(RuntimeError):
    """An error inside the worker that is not the caller's; the message carries its traceback."""


class UnknownPart(ValueError):
    """Boundary data for a part that the mesh does not have, or twice for the same part."""
