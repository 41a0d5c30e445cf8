"""Newton's method with conjugate gradients, preconditioned by a random sketch of the Hessian."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from .base import Optimiser, State, Step
from .line_search import Trial, forget, keep, known
from .objective import Objective


@final
@dataclass(frozen=True)
class NystromNewtonCG(Optimiser):
    """Lower a loss by damped Newton steps: (H + mu I) d = g by preconditioned conjugate gradients (NNCG).

    theta <- theta - t d, with t from Armijo's rule: L(theta - t d) <= L(theta) - armijo t g.d, t = 1,
    backtrack, backtrack^2, ... The preconditioner is a Nystrom approximation U diag(S) U' of the Hessian H,
    drawn anew every `every` steps; conjugate gradients start from the last direction.

    For the end of a training, where L-BFGS has stalled: one step costs up to `cg_steps` products with H, that
    is 5 to several hundred steps of L-BFGS, and needs no more memory than rank x P numbers.

    Attributes:
        rank: of the sketch; a good value is the number of large eigenvalues, some tens.
        every: steps between sketches.
        damping: mu, relative to nothing: 1e-5 to 1e-1.
        cg_steps, cg_tolerance: of the conjugate gradients; the residual is measured relative to |g|. The
            source runs to 1e-16, that is, always to `cg_steps`.
        armijo, backtrack: of the line search, at most 50 trials.
        seed: of the sketches.

    `Step.evaluations` counts products with H too. Where H + mu I is not positive along the first direction
    of the conjugate gradients, they start anew from zero; where it is not along the gradient either, or the
    direction found does not descend, the step is along the gradient.
    Fails with FloatingPointError where the loss, its gradient or a product with H is not finite at the
    present parameters.
    Source: Rathore, Lei, Frangella, Lu and Udell (2024), ICML; Frangella, Tropp and Udell (2023) (sketch).

    >>> NystromNewtonCG(rank=60).start(torch.zeros(3, dtype=torch.float64))["U"].shape
    torch.Size([3, 3])
    """

    rank: int = 60
    every: int = 20
    damping: float = 1e-2
    cg_steps: int = 1000
    cg_tolerance: float = 1e-10
    armijo: float = 0.1
    backtrack: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.rank, self.every, self.cg_steps) < 1:
            raise ValueError(
                f"rank={self.rank}, every={self.every}, cg_steps={self.cg_steps}: each must be at least 1; "
                "60, 20 and 1000 are usual"
            )
        if not self.damping > 0:
            raise ValueError(f"damping={self.damping:g}: it must be positive, 1e-5 to 1e-1 is usual")
        if not (0 < self.armijo < 0.5 and 0 < self.backtrack < 1):
            raise ValueError(
                f"armijo={self.armijo:g}, backtrack={self.backtrack:g}: needed are 0 < armijo < 1/2 and "
                "0 < backtrack < 1, as 0.1 and 0.5"
            )

    def check(self, parameters: int, dtype: Any) -> None:
        """Reject what is not float64."""
        if dtype != torch.float64:
            raise ValueError(
                f"NystromNewtonCG needs float64, not {dtype}: conjugate gradients on a Hessian with a "
                "condition of 1e8 break down in rounding; set dtype=torch.float64, or use LBFGS or Adam"
            )

    def start(self, theta: Tensor) -> State:
        """Return a state without sketch, and a zero direction."""
        P = theta.numel()
        self.check(P, theta.dtype)
        rank = min(self.rank, P)
        return {
            "U": theta.new_zeros(P, rank),
            "S": theta.new_zeros(rank),
            "direction": torch.zeros_like(theta),
            "age": 0,  # steps since the sketch; 0 draws one
            "seed": self.seed,  # of the next sketch
        }

    def renew(self, state: State) -> None:
        """Forget gradient and losses, which were of other points; keep sketch and direction."""
        forget(state)

    def step(self, objective: Objective, theta: Tensor, state: State) -> Step:
        """Take one damped Newton step."""
        here, evaluations = known(objective, theta, state)
        g = here.gradient
        keep(state, here)
        if not float(g.norm()) > 0:
            return Step(theta, here.losses, evaluations, "the gradient is zero")
        products = 0

        def hessian(v: Tensor) -> Tensor:  # (P,) or (k, P)
            nonlocal products
            products += 1 if v.ndim == 1 else len(v)
            return _finite(objective.hessian_product(theta, v))

        if state["age"] % self.every == 0:
            generator = torch.Generator().manual_seed(state["seed"])
            state["U"], state["S"] = sketch(hessian, theta, min(self.rank, theta.numel()), generator)
            state["seed"] += 1
        state["age"] += 1
        d = self._direction(hessian, g, state)
        slope = float(g @ d)
        if not slope > 0:
            d, slope = g, float(g @ g)
        state["direction"] = d
        there = self._search(objective, here, d, slope)
        evaluations += products
        if there is None:
            state["age"] = 0
            return Step(theta, here.losses, evaluations, "no step along the direction lowers the loss")
        losses, gradient = objective.gradient(there)
        keep(state, Trial(there, losses, gradient))
        return Step(there, here.losses, evaluations + 1)

    def _search(self, objective: Objective, here: Trial, d: Tensor, slope: float) -> Tensor | None:
        """Return the first point of Armijo's rule."""
        value, t = float(here.losses.sum()), 1.0
        for _ in range(50):
            there = here.theta - t * d
            with torch.no_grad():
                tried = float(objective.losses(there).sum())
            if tried <= value - self.armijo * t * slope and tried < value:
                return there
            t *= self.backtrack
        return None

    def _direction(self, hessian: Callable[[Tensor], Tensor], g: Tensor, state: State) -> Tensor:
        """Solve (H + mu I) d = g from the last direction, or where that leads uphill at once, from zero."""
        last = state["direction"]
        found = self._conjugate(hessian, g, state, last) if bool(last.any()) else None
        if found is None:
            found = self._conjugate(hessian, g, state, torch.zeros_like(g))
        return g if found is None else found

    def _conjugate(
        self, hessian: Callable[[Tensor], Tensor], g: Tensor, state: State, start: Tensor
    ) -> Tensor | None:
        """Return d from `start`, None where H + mu I is not positive along the first direction.

        Source: Nocedal and Wright (2006), algorithm 5.3.
        """
        U, S, mu = state["U"], state["S"], self.damping
        weights = (S[-1] + mu) / (S + mu) - 1

        def precondition(x: Tensor) -> Tensor:
            return x + U @ (weights * (U.T @ x))

        d = start.clone()
        r = g - (hessian(d) + mu * d) if bool(d.any()) else g.clone()
        z = precondition(r)
        p, rz = z, float(r @ z)
        goal = self.cg_tolerance * float(g.norm())
        for k in range(self.cg_steps):
            if float(r.norm()) <= goal:
                break
            q = hessian(p) + mu * p
            curvature = float(p @ q)
            if not curvature > 0:  # not convex along p: what has been found so far must do
                return d if k else None
            step = rz / curvature
            d, r = d + step * p, r - step * q
            z = precondition(r)
            rz, before = float(r @ z), rz
            p = z + (rz / before) * p
        return d


def _finite(product: Tensor) -> Tensor:
    """Return a product with H; raise FloatingPointError where it is not finite."""
    if not bool(torch.isfinite(product).all()):
        raise FloatingPointError(
            "a product with the Hessian is not finite, though loss and gradient are: look for a power "
            "between 1 and 2 of something that vanishes in the residuals, as |u|^1.5 at 0, or use LBFGS"
        )
    return product


def sketch(
    hessian: Callable[[Tensor], Tensor],  # (k, P) -> (k, P)
    like: Tensor,  # (P,)
    rank: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Return U (P, rank) and S (rank,), descending and not negative: H is about U diag(S) U'.

    A Hessian with negative eigenvalues in the sketch is shifted until the sketch is positive definite; the
    shift is taken off S again, and what is negative then becomes 0.

    Raises:
        FloatingPointError: a product is not finite.
    """
    draw = torch.randn(len(like), rank, generator=generator, dtype=like.dtype).to(like.device)
    phi = torch.linalg.qr(draw).Q.T  # (rank, P), orthonormal rows
    Y = _finite(hessian(phi))  # (rank, P): rows are H phi_i
    core = phi @ Y.T
    core = (core + core.T) / 2
    nu = torch.finfo(like.dtype).eps * float(Y.norm())
    lowest = float(torch.linalg.eigvalsh(core)[0])
    shift = nu if lowest > -nu / 2 else nu - 2 * lowest
    while True:
        C, info = torch.linalg.cholesky_ex(
            core + shift * torch.eye(rank, dtype=like.dtype, device=like.device)
        )
        if not int(info):
            break
        shift = 10 * shift if shift > 0 else torch.finfo(like.dtype).tiny
    B = torch.linalg.solve_triangular(C, Y + shift * phi, upper=False).T  # (P, rank)
    U, s, _ = torch.linalg.svd(B, full_matrices=False)
    return U, (s.square() - shift).clamp_min(0)
