"""Networks for physics-informed solutions: settings apart from modules, derivatives by jets."""

from .architectures import architecture_from
from .base import Architecture, Network, WrongBox, WrongSettings
from .custom import Custom
from .embeddings import Embedding, Fourier, PeriodicEmbedding
from .features import Features
from .gaussians import Gaussians
from .mlp import MLP
from .modified_mlp import ModifiedMLP
from .piratenet import PirateNet
from .separable import Separable

__all__ = [
    "MLP",
    "Architecture",
    "Custom",
    "Embedding",
    "Features",
    "Fourier",
    "Gaussians",
    "ModifiedMLP",
    "Network",
    "PeriodicEmbedding",
    "PirateNet",
    "Separable",
    "WrongBox",
    "WrongSettings",
    "architecture_from",
]
