"""Networks by name, so that a saved model is made from settings and never from stored code."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from .base import NeuralOperator

ARCHITECTURES: Mapping[str, str] = {
    "fno": "fno:FNO",
    "tfno": "tfno:TFNO",
    "mgno": "mgno:MgNO",
    "unet": "unet:UNet",
    "deeponet": "deeponet:DeepONetOnGrid",
    "masked-deeponet": "masked_deeponet:MaskedDeepONetOnGrid",
    "mionet": "mionet:MIONetOnGrid",
    "multionet": "multionet:MultiONetOnGrid",
    "pod-deeponet": "pod:PODDeepONetOnGrid",
    "pod-mionet": "mionet:PODMIONetOnGrid",
    "pod-regression": "pod_regression:PODRegression",
    "gno": "graph_operator:GNO",
    "multipole": "multipole_graph:MultipoleGraph",
    "patched": "patching:Patched",
    "low-rank": "low_rank_operator:LowRankOperator",
    "learned-fluxes": "learned_fluxes:LearnedFluxes",
}


class UnknownName(KeyError):
    """A name that no network has."""

    def __str__(self) -> str:
        return str(self.args[0])


def architecture(name: str) -> type[NeuralOperator]:
    """Return the class of a network by its name; only its file is imported.

    Raises:
        UnknownName: the message lists the names that there are.
    """
    if name not in ARCHITECTURES:
        raise UnknownName(f"there is no network {name!r}: there are {', '.join(ARCHITECTURES)}")
    file, _, cls = ARCHITECTURES[name].partition(":")
    return getattr(import_module(f".{file}", __package__), cls)


def name_of(cls: type) -> str | None:
    """Return the name under which a class is known here, None for a class of another library."""
    for name, where in ARCHITECTURES.items():
        file, _, own = where.partition(":")
        if cls.__name__ == own and cls.__module__ == f"{__package__}.{file}":
            return name
    return None
