"""Self-scaled BFGS and Broyden methods with a dense inverse Hessian."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor

from .base import Optimiser, State, Step
from .line_search import StrongWolfe, Trial, along, forget, keep, known
from .objective import Objective

Variant = Literal["ssbroyden", "bfgs", "ssbfgs-ab", "ssbfgs-ol"]
_VARIANTS = ("ssbroyden", "bfgs", "ssbfgs-ab", "ssbfgs-ol")
_PENDING = 8  # updates that are held back and written into H together
_SYMMETRY = 8  # blocks of updates after which H is made symmetric again
_COLUMNS = 512  # of a block of H while that is done


@final
@dataclass(frozen=True)
class SSBroyden(Optimiser):
    """Lower a loss by the self-scaled Broyden method: a quasi-Newton method with a dense inverse Hessian H.

    theta <- theta + alpha p,   p = -H g,   s = alpha p,   y = g_new - g,   v = s / s.y - H y / y.Hy,
    H <- (H - Hy Hy' / y.Hy + phi (y.Hy) v v') / tau + s s' / s.y

    with the scale tau and the member phi of Broyden's family of every step. H y = s holds after each.
    Far ahead of first-order methods on the loss of a physics-informed network: good for some thousand steps
    on up to about 10,000 parameters, in float64.

    H survives `renew`, when the points change: draw new ones every few hundred steps. A failed line search
    or update sets H = I (counted in the state under "resets") and goes on along the gradient.

    Memory: P^2 numbers of 8 bytes. Work beside the evaluations (1 to 2 a step): two products with H; updates
    are written into it eight at a time.

    Attributes:
        variant: "ssbroyden"; "bfgs" (no scaling), "ssbfgs-ab" (tau = min(1, 1/b)), "ssbfgs-ol" (tau = 1/b).
        limit: the largest number of parameters.
        c1, c2, max_evaluations: of the line search.
        tolerance_grad: stop when max |g| is not above it.
        rounding: relative error of the loss that the line search takes for noise.
        initial_scaling: scale H = I by the first pair.

    Fails with FloatingPointError where the loss is not finite at the present parameters.
    Source: Al-Baali (1998); Al-Baali and Khalfan (2005); Urban, Stefanou and Pons (2025), Journal of
    Computational Physics; Kiyani et al. (2025), arXiv 2501.16371.

    >>> SSBroyden().check(50_000, torch.float64)
    Traceback (most recent call last):
    ...
    ValueError: SSBroyden keeps a matrix of 50000 x 50000 numbers, 20 GB, above limit=20000 parameters: use \
LBFGS(history=100), a smaller network, or raise limit
    """

    variant: Variant = "ssbroyden"
    limit: int = 20_000
    c1: float = 1e-4
    c2: float = 0.9
    max_evaluations: int = 25
    tolerance_grad: float = 1e-15
    rounding: float = 1e-12
    initial_scaling: bool = True

    def __post_init__(self) -> None:
        if self.variant not in _VARIANTS:
            raise ValueError(f"variant={self.variant!r}: SSBroyden knows {', '.join(_VARIANTS)}")
        self._search()

    def _search(self) -> StrongWolfe:
        return StrongWolfe(self.c1, self.c2, self.max_evaluations, self.rounding)

    def check(self, parameters: int, dtype: Any) -> None:
        """Reject too many parameters, and what is not float64."""
        if parameters > self.limit:
            raise ValueError(
                f"SSBroyden keeps a matrix of {parameters} x {parameters} numbers, "
                f"{parameters**2 * 8e-9:.3g} GB, above limit={self.limit} parameters: use "
                "LBFGS(history=100), a smaller network, or raise limit"
            )
        if dtype != torch.float64:
            raise ValueError(
                f"SSBroyden needs float64, not {dtype}: its update divides differences of gradients, and H "
                "loses its positive definiteness in rounding; set dtype=torch.float64, or use LBFGS or Adam"
            )

    def start(self, theta: Tensor) -> State:
        """Return H = I."""
        P = theta.numel()
        self.check(P, theta.dtype)
        return {
            "H": torch.eye(P, dtype=theta.dtype, device=theta.device),
            "U": torch.zeros(3 * _PENDING, P, dtype=theta.dtype, device=theta.device),
            "d": torch.zeros(3 * _PENDING, dtype=theta.dtype, device=theta.device),
            "scale": 1.0,  # the inverse Hessian is scale H + U' diag(d) U
            "pending": 0,
            "blocks": 0,
            "fresh": 1,  # H is the identity
            "resets": 0,
        }

    def renew(self, state: State) -> None:
        """Keep H; forget gradient, losses and direction, which were of other points."""
        forget(state)
        state.pop("direction", None)
        state.pop("fall", None)

    def step(self, objective: Objective, theta: Tensor, state: State) -> Step:
        """Take one step along -H g, and update H."""
        here, evaluations = known(objective, theta, state)
        g = here.gradient
        if float(g.abs().max()) <= self.tolerance_grad:
            keep(state, here)
            return Step(theta, here.losses, evaluations, f"gradient not above {self.tolerance_grad:g}")
        while True:
            p = state["direction"] if "direction" in state else -product(state, g)
            slope = float(g @ p)
            first = first_trial(state, g, slope)
            search = self._search()(along(objective, theta, p), float(here.losses.sum()), slope, first)
            evaluations += search.evaluations
            if search.payload is not None:
                break
            keep(state, here)
            state["direction"] = -g
            if state["fresh"]:
                return Step(theta, here.losses, evaluations, f"line search failed: {search.failure}")
            reset(state)
        there: Trial = search.payload
        y = there.gradient - g
        Hy, Hg = product(state, y), product(state, there.gradient)
        taken = self._update(state, search.alpha * p, y, Hy, (search.alpha, slope))
        keep(state, there)
        state["fall"] = float(here.losses.sum()) - search.value
        if taken is None:
            reset(state)
            state["direction"] = -there.gradient
        else:
            U, d, tau = taken  # H g of the new H, without another pass over it
            state["direction"] = -(Hg / tau + (d * (U @ there.gradient)) @ U)
        return Step(there.theta, here.losses, evaluations)

    def _update(
        self, state: State, s: Tensor, y: Tensor, Hy: Tensor, line: tuple[float, float]
    ) -> tuple[Tensor, Tensor, float] | None:
        """Put the update in line; return its terms U (3, P), d (3,) and tau, or None if it is not sound."""
        alpha, slope = line
        sy, yHy = float(s @ y), float(y @ Hy)
        if not (sy > 0 and yHy > 0 and math.isfinite(sy) and math.isfinite(yHy)):
            return None
        b = -alpha * alpha * slope / sy
        first = bool(state["fresh"]) and self.initial_scaling
        tau, phi = scaling(self.variant, b, yHy / sy, len(s), first=first)
        if not (math.isfinite(phi) and 0 < tau < math.inf):
            return None
        U = torch.stack([Hy, s / sy - Hy / yHy, s])
        d = U.new_tensor([-1 / (yHy * tau), phi * yHy / tau, 1 / sy])
        append(state, U, d, tau)
        return U, d, tau


def first_trial(state: State, g: Tensor, slope: float) -> float:
    """Return the step length to try first: that of a parabola which falls as the last step did, at most 1.

    A third of the evaluations less than with 1, since the scaling makes H rather too large. Source: Nocedal
    and Wright (2006), (3.60).
    """
    if state["fresh"]:
        return min(1.0, 1 / float(g.norm()))
    length = 1.01 * 2 * state.get("fall", 0.0) / -slope if slope < 0 else 0.0
    return length if 0 < length < 1 else 1.0


def scaling(variant: Variant, b: float, h: float, P: int, *, first: bool = False) -> tuple[float, float]:
    """Return tau and phi from b = s.Bs / s.y and h = y.Hy / s.y, for P parameters; `first` while H = I.

    NaN where b h > 0 does not hold: H is not positive definite.

    >>> scaling("bfgs", 0.5, 3.0, 10)
    (1.0, 1.0)
    >>> scaling("ssbfgs-ol", 0.5, 3.0, 10)
    (2.0, 1.0)
    """
    if not (b > 0 and h > 0):
        return math.nan, math.nan
    a = max(h * b - 1, torch.finfo(torch.float64).eps)  # not negative (Cauchy and Schwarz), but for rounding
    theta, tau = 0.0, 1.0
    if variant == "ssbroyden":
        c = math.sqrt(a / (1 + a))
        rho_minus = min(1.0, h * (1 - c))
        theta = max((rho_minus - 1) / a, min(1 / rho_minus if rho_minus > 0 else math.inf, (1 - b) / b))
        sigma = 1 + theta * a
        rho, root = min(1.0, 1 / b), abs(sigma) ** (1 / (1 - P)) if P > 1 and sigma != 0 else 1.0
        tau = min(rho * root, sigma) if theta <= 0 else rho * min(root, 1 / theta)
    elif variant == "ssbfgs-ab":
        tau = min(1.0, 1 / b)
    elif variant == "ssbfgs-ol":
        tau = 1 / b
    if first:
        tau = h / (1 + a * theta)
    return tau, (1 - theta) / (1 + a * theta)


def product(state: State, x: Tensor) -> Tensor:
    """Return H x, (P,), for x (P,)."""
    n = 3 * state["pending"]
    if state["fresh"]:
        return x.clone()
    result = state["H"] @ x
    if n:
        U = state["U"][:n]
        result = torch.addmv(result, U.T, state["d"][:n] * (U @ x), beta=state["scale"])
    return result


def append(state: State, U: Tensor, d: Tensor, tau: float) -> None:
    """Change H to H / tau + U' diag(d) U, U (3, P), d (3,); written into the matrix now and then."""
    n = 3 * state["pending"]
    state["scale"] /= tau
    state["d"][:n] /= tau
    state["U"][n : n + 3], state["d"][n : n + 3] = U, d
    state["pending"] += 1
    state["fresh"] = 0
    if state["pending"] == _PENDING:
        flush(state)


def flush(state: State) -> None:
    """Write the updates that wait into H.

    A part of H that is not symmetric comes in by rounding, and 1 / tau makes it grow: it is taken out again.
    """
    n, H = 3 * state["pending"], state["H"]
    if not n:
        return
    d = state["d"][:n]
    U = state["U"][:n] * d.abs().sqrt()[:, None]  # nearly symmetric sums, for a start
    H.addmm_(U.T, d.sign()[:, None] * U, beta=state["scale"])
    state["scale"], state["pending"], state["blocks"] = 1.0, 0, state["blocks"] + 1
    if state["blocks"] % _SYMMETRY == 0:
        for k in range(0, len(H), _COLUMNS):
            upper, lower = H[k : k + _COLUMNS, k:], H[k:, k : k + _COLUMNS]
            mean = (upper + lower.T) / 2
            upper.copy_(mean)
            lower.copy_(mean.T)


def reset(state: State) -> None:
    """Set H = I, and count it."""
    state["H"].zero_().fill_diagonal_(1)
    state["scale"], state["pending"], state["fresh"] = 1.0, 0, 1
    state["resets"] += 1
