"""Settings of networks from JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .base import Architecture, WrongSettings
from .embeddings import Fourier, PeriodicEmbedding
from .features import Features
from .gaussians import Gaussians
from .mlp import MLP
from .modified_mlp import ModifiedMLP
from .piratenet import PirateNet
from .separable import Separable

_KINDS = (MLP, ModifiedMLP, PirateNet, Gaussians, Separable, Fourier, PeriodicEmbedding, Features)


def architecture_from(values: Mapping[str, Any]) -> Architecture:
    """Return the settings of a network that `Architecture.values` wrote.

    Raises:
        WrongSettings: an unknown kind, or a setting that it does not have.

    >>> architecture_from(MLP(width=8, embedding=Fourier(4)).values())
    MLP(width=8, depth=4, activation='tanh', embedding=Fourier(features=4, scale=1.0), normalise=True, \
separate=False, slope=None)
    """
    made = _made(values)
    if not isinstance(made, Architecture):
        raise WrongSettings(f"these are the settings of {type(made).__name__}, which is no network")
    return made


def _made(values: Any) -> Any:
    if isinstance(values, list):
        return tuple(_made(v) for v in values)
    if not isinstance(values, Mapping):
        return values
    kinds = {k.__name__: k for k in _KINDS}
    kind = kinds.get(str(values.get("kind")))
    if kind is None:
        raise WrongSettings(f"there is no kind {values.get('kind')!r}: there are {', '.join(kinds)}")
    try:
        return kind(**{k: _made(v) for k, v in values.items() if k != "kind"})
    except TypeError as error:
        raise WrongSettings(f"{kind.__name__}: {error}") from None
