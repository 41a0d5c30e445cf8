"""Equations, one file per equation, and the random fields that they are posed with."""

from .advection import Advection
from .base import Assembled, Equation, Exact, FieldSpec, Place
from .boundary import FaceData, face_points
from .burgers import Burgers
from .coefficients import LogNormal, Trigonometric, TwoPhase
from .darcy import Darcy
from .diffusion import VariableDiffusion
from .evolution import Evolution, ExactTrajectory, Parabolic, Semilinear, SpectralEvolution
from .fields import gaussian, log_normal, two_phase
from .fisher_kpp import FisherKPP
from .gray_scott import GrayScott
from .heat import Heat
from .helmholtz import Helmholtz
from .korteweg_de_vries import KortewegDeVries
from .kuramoto_sivashinsky import KuramotoSivashinsky
from .manufactured import manufacture, wave
from .navier_stokes import NavierStokes
from .poisson import Poisson
from .random_fields import GaussianField
from .spectral import Fourier
from .wave import HelmholtzMedium, Quadrature, TanhSpeed

__all__ = [
    "Advection",
    "Assembled",
    "Burgers",
    "Darcy",
    "Equation",
    "Evolution",
    "Exact",
    "ExactTrajectory",
    "FaceData",
    "FieldSpec",
    "FisherKPP",
    "Fourier",
    "GaussianField",
    "GrayScott",
    "Heat",
    "Helmholtz",
    "HelmholtzMedium",
    "KortewegDeVries",
    "KuramotoSivashinsky",
    "LogNormal",
    "NavierStokes",
    "Parabolic",
    "Place",
    "Poisson",
    "Quadrature",
    "Semilinear",
    "SpectralEvolution",
    "TanhSpeed",
    "Trigonometric",
    "TwoPhase",
    "VariableDiffusion",
    "face_points",
    "gaussian",
    "log_normal",
    "manufacture",
    "two_phase",
    "wave",
]
