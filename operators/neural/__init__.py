"""Neural operators: networks from fields to fields, one file per architecture."""

from .architectures import ARCHITECTURES, architecture
from .base import NeuralOperator, WrongChannels, WrongResolution, WrongSettings, parameter_count
from .deeponet import DeepONet, DeepONetConfig, DeepONetOnGrid
from .fno import FNO, FNOConfig
from .graph_operator import GNO, GNOConfig
from .low_rank_operator import LowRankConfig, LowRankOperator
from .masked_deeponet import MaskedDeepONet, MaskedDeepONetConfig, MaskedDeepONetOnGrid, masked_square
from .mgno import MgNO, MgNOConfig
from .mionet import MIONet, MIONetConfig, MIONetOnGrid, PODMIONetConfig, PODMIONetOnGrid
from .multionet import MultiONet, MultiONetConfig, MultiONetOnGrid
from .multipole_graph import MultipoleConfig, MultipoleGraph
from .patching import Patched, PatchedConfig
from .pod import NoBasis, PODBasis, PODDeepONet, PODDeepONetConfig, PODDeepONetOnGrid
from .pod_regression import PODRegression, PODRegressionConfig
from .tfno import TFNO, TFNOConfig
from .unet import UNet, UNetConfig

__all__ = [
    "ARCHITECTURES",
    "FNO",
    "GNO",
    "TFNO",
    "DeepONet",
    "DeepONetConfig",
    "DeepONetOnGrid",
    "FNOConfig",
    "GNOConfig",
    "LowRankConfig",
    "LowRankOperator",
    "MIONet",
    "MIONetConfig",
    "MIONetOnGrid",
    "MaskedDeepONet",
    "MaskedDeepONetConfig",
    "MaskedDeepONetOnGrid",
    "MgNO",
    "MgNOConfig",
    "MultiONet",
    "MultiONetConfig",
    "MultiONetOnGrid",
    "MultipoleConfig",
    "MultipoleGraph",
    "NeuralOperator",
    "NoBasis",
    "PODBasis",
    "PODDeepONet",
    "PODDeepONetConfig",
    "PODDeepONetOnGrid",
    "PODMIONetConfig",
    "PODMIONetOnGrid",
    "PODRegression",
    "PODRegressionConfig",
    "Patched",
    "PatchedConfig",
    "TFNOConfig",
    "UNet",
    "UNetConfig",
    "WrongChannels",
    "WrongResolution",
    "WrongSettings",
    "architecture",
    "masked_square",
    "parameter_count",
]
