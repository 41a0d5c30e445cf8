"""Every network against nested differentiation, under every transform that training uses."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, vmap

from solvus.solvers.pinn.errors import NoDerivative, WrongShape
from solvus.solvers.pinn.jets import Affine, Jet, Plan, nested
from solvus.solvers.pinn.networks import (
    MLP,
    Architecture,
    Custom,
    Fourier,
    Gaussians,
    ModifiedMLP,
    Network,
    PeriodicEmbedding,
    PirateNet,
    Separable,
    WrongBox,
    WrongSettings,
    architecture_from,
)
from solvus.solvers.pinn.networks.dense import Dense

BOX = torch.tensor([-1.0, 0.0]), torch.tensor([2.0, 0.5])
PLANS = {
    "laplacian": Plan([], laplacian=(0, 1)),
    "navier-stokes": Plan([(0,), (1,)], laplacian=(0, 1)),
    "fourth": Plan([(0, 0, 1, 1), (0, 0, 0, 0)]),
}
MODULE = nn.Sequential(nn.Linear(2, 6), nn.SiLU(), nn.Linear(6, 2))
PERIODIC = PeriodicEmbedding({0: 3.0})
ARCHITECTURES: dict[str, Architecture] = {
    "mlp": MLP(width=7, depth=3),
    "one layer": MLP(width=9, depth=1, activation="gaussian", normalise=False),
    "separate": MLP(width=6, depth=2, activation="sin", separate=True),
    "slope": MLP(width=6, depth=2, activation="silu", slope="layer"),
    "slope apart": MLP(width=6, depth=2, slope="layer", separate=True),
    "slopes": MLP(width=6, depth=2, activation="softplus", slope="neuron", separate=True),
    "factorised": MLP(width=6, depth=2, slope="factorised"),
    "fourier": MLP(width=6, depth=2, embedding=Fourier(5, scale=0.7)),
    "periodic": MLP(width=6, depth=2, embedding=PERIODIC),
    "both": MLP(width=6, depth=2, embedding=(PERIODIC, Fourier(4, 0.5)), separate=True),
    "modified": ModifiedMLP(width=6, depth=2, slope="factorised"),
    "modified fourier": ModifiedMLP(width=6, depth=2, embedding=Fourier(4)),
    "pirate": PirateNet(width=8, blocks=2, embedding=Fourier(4)),
    "pirate wide": PirateNet(width=6, blocks=1, embedding=None, slope="neuron"),
    "pirate factorised": PirateNet(width=6, blocks=1, embedding=None),
    "pirate plain": PirateNet(width=8, blocks=1, embedding=Fourier(4), slope=None),
    "gaussians": Gaussians(count=5, features=3, spread=0.6, width=5),
    "isotropic gaussians": Gaussians(count=5, features=3, spread=0.6, widths="isotropic", width=5),
    "full gaussians": Gaussians(count=5, features=2, spread=0.6, widths="full", width=5),
    "separable": Separable(rank=3, width=6, depth=2),
    "custom": Custom(MODULE),
}
JETS = [name for name in ARCHITECTURES if name != "custom"]


def built(name: str, dtype: torch.dtype = torch.float64, seed: int = 0) -> Network:
    network = ARCHITECTURES[name].build(2, 2, BOX, torch.Generator().manual_seed(seed), dtype)
    if name.startswith("pirate"):  # away from the start, where the blocks have no influence
        network.share.data += 0.4
    if name.endswith("gaussians"):  # widths that differ, also in sign
        widths = network.inverse if network.sigma is None else network.sigma
        factors = torch.linspace(0.7, 1.4, widths.numel(), dtype=dtype).view_as(widths)
        widths.data *= factors * (-1) ** torch.arange(widths.numel()).view_as(widths)
    return network


def points(count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    lower, upper = (corner.to(dtype) for corner in BOX)
    drawn = torch.rand(count, 2, generator=torch.Generator().manual_seed(3), dtype=dtype)
    return lower + (upper - lower) * drawn


def check_contract(network: Any, f: Any, plan: Plan, x: Tensor, tolerance: float) -> None:
    """The jet is that of nested differentiation, and so are the gradients in the parameters."""
    jet, truth = network(x, plan).rows, nested(f, x, plan).rows
    assert jet.shape == truth.shape == (plan.size, len(x), 2)
    size = truth.detach().abs().flatten(1).amax(1)[:, None, None]
    assert float(((jet - truth).detach().abs() / size).max()) < tolerance
    assert torch.equal(network(x), jet[0]) or float((network(x) - jet[0]).detach().abs().max()) < tolerance
    mark = torch.linspace(0.5, 1.5, truth.numel(), dtype=x.dtype).view_as(truth) / size
    parameters = list(network.parameters())
    got = torch.autograd.grad((jet * mark).sum(), parameters)
    want = torch.autograd.grad((truth * mark).sum(), parameters, allow_unused=True, materialize_grads=True)
    for a, b in zip(got, want, strict=True):
        assert float((a - b).abs().max()) <= 5 * tolerance * max(float(b.abs().max()), 1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_contract(name: str, plan: str, dtype: torch.dtype) -> None:
    network, x = built(name, dtype), points(9, dtype)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5 if plan != "fourth" else 5e-5
    check_contract(network, network, PLANS[plan], x, tolerance)


def test_the_contract_finds_a_wrong_network() -> None:
    class Halved(nn.Module):
        def __init__(self, network: Network) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Tensor, plan: Plan | None = None) -> Any:
            if plan is None:
                return self.network(x)
            rows = self.network(x, plan).rows
            return Jet(plan, torch.cat([rows[:-1], 0.9999 * rows[-1:]]))

    network = built("mlp")
    with pytest.raises(AssertionError):
        check_contract(Halved(network), network, PLANS["laplacian"], points(5), 1e-12)


def loss_of(network: Network, x: Tensor) -> Any:
    """Return the residual of a nonlinear equation per point as a function of the parameters."""
    plan = Plan([(0,)], laplacian=(0, 1))

    def residual(parameters: dict[str, Tensor], x: Tensor = x) -> Tensor:
        jet = functional_call(network, parameters, (x, plan))
        return jet.laplacian[:, 0] - jet.value[:, 0] * jet.of((0,))[:, 1]

    return residual


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    network, x = built(name), points(20)
    jet = network(x, Plan([(1,)], laplacian=(0, 1)))
    (jet.value.square().sum() + jet.laplacian.square().sum() + jet.of((1,)).sum()).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert float(parameter.grad.abs().max()) > 0, key


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_jacobians(name: str) -> None:
    network, x = built(name), points(5)
    residual = loss_of(network, x)
    parameters = {k: v.detach() for k, v in network.named_parameters()}
    leaves = {k: v.clone().requires_grad_() for k, v in parameters.items()}
    rows = residual(leaves)
    want = [
        torch.autograd.grad(r, list(leaves.values()), retain_graph=True, materialize_grads=True) for r in rows
    ]
    by_jacrev = jacrev(residual)(parameters)

    def one(p: dict[str, Tensor], y: Tensor) -> Tensor:
        return residual(p, y[None])[0]

    by_vmap = vmap(grad(one), in_dims=(None, 0))(parameters, x)
    for k, key in enumerate(parameters):
        truth = torch.stack([w[k] for w in want])
        size = max(float(truth.abs().max()), 1e-2)
        assert float((by_jacrev[key] - truth).abs().max()) < 1e-11 * size
        assert float((by_vmap[key] - truth).abs().max()) < 1e-11 * size


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_hessian_product(name: str) -> None:
    network, x = built(name), points(5)
    residual = loss_of(network, x)
    leaves = {k: v.detach().clone().requires_grad_() for k, v in network.named_parameters()}
    generator = torch.Generator().manual_seed(5)
    v = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in leaves.values()]

    def slope(t: float) -> list[Tensor]:
        moved = {
            k: (p + t * w).detach().requires_grad_() for (k, p), w in zip(leaves.items(), v, strict=True)
        }
        return list(
            torch.autograd.grad(residual(moved).square().sum(), list(moved.values()), materialize_grads=True)
        )

    first = torch.autograd.grad(
        residual(leaves).square().sum(), list(leaves.values()), create_graph=True, materialize_grads=True
    )
    inner = torch.stack([(g * w).sum() for g, w in zip(first, v, strict=True)]).sum()
    product = torch.autograd.grad(inner, list(leaves.values()), materialize_grads=True)
    h = 1e-6
    size = max(float(p.abs().max()) for p in product)
    for a, up, down in zip(product, slope(h), slope(-h), strict=True):
        assert float((a - (up - down) / (2 * h)).abs().max()) < 1e-5 * size


@pytest.mark.slow  # some 20 seconds of compilation
@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
def test_compiled() -> None:
    network, x, plan = built("mlp"), points(16), PLANS["navier-stokes"]

    def loss(x: Tensor) -> Tensor:
        jet = network(x, plan)
        return (jet.laplacian - jet.value * jet.of((0,))).square().mean()

    want = loss(x)
    expected = torch.autograd.grad(want, list(network.parameters()))
    got = torch.compile(loss, dynamic=False)(x)
    torch.testing.assert_close(got, want)
    for a, b in zip(torch.autograd.grad(got, list(network.parameters())), expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_weights_come_from_the_generator_alone(name: str) -> None:
    before = torch.get_rng_state()
    first, again, other = built(name), built(name), built(name, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    x = points(4)
    assert torch.equal(first(x), again(x))
    assert torch.equal(first(x), other(x)) == (name == "custom")
    again.load_state_dict(other.state_dict())
    assert torch.equal(again(x), other(x))
    assert {v.dtype for v in first.state_dict().values()} == {torch.float64}


@pytest.mark.parametrize("name", JETS)
def test_settings_go_through_json(name: str) -> None:
    architecture = ARCHITECTURES[name]
    assert architecture_from(json.loads(json.dumps(architecture.values()))) == architecture


def test_periodic_is_exact() -> None:
    network, x = built("periodic"), points(6)
    plan = Plan([(0, 0), (1,)])
    torch.testing.assert_close(
        network(x, plan).rows, network(x + torch.tensor([3.0, 0.0]), plan).rows, rtol=1e-12, atol=1e-12
    )
    assert float((network(x) - network(x + torch.tensor([0.0, 3.0]))).abs().detach().max()) > 1e-3


def test_separate_outputs_share_nothing() -> None:
    network = built("separate")
    jet = network(points(5), PLANS["laplacian"])
    jet.laplacian[:, 0].square().sum().backward()
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert float(parameter.grad[0].abs().max()) > 0 or parameter is network.last.bias
        assert float(parameter.grad[1].abs().max()) == 0


@pytest.mark.parametrize("slope", ["layer", "neuron", "factorised"])
def test_separate_networks_have_slopes_of_their_own(slope: Any) -> None:
    network = MLP(width=6, depth=2, slope=slope, separate=True).build(2, 2, BOX, torch.Generator())
    network(points(5))[:, 0].square().sum().backward()
    for layer in network.hidden:
        assert layer.slope.shape[0] == 2
        assert float(layer.slope.grad[0].abs().max()) > 0
        assert float(layer.slope.grad[1].abs().max()) == 0
    network.hidden[0].slope.data[1] *= 3
    before = network(points(5))
    network.hidden[0].slope.data[0] *= 3
    assert torch.equal(network(points(5))[:, 1], before[:, 1])
    assert not torch.equal(network(points(5))[:, 0], before[:, 0])


def test_slopes_and_factors_start_as_the_plain_network() -> None:
    x = points(4)
    plain = MLP(width=6, depth=2).build(2, 1, BOX, torch.Generator().manual_seed(0))(x)
    for slope in ("layer", "neuron"):
        network = MLP(width=6, depth=2, slope=slope).build(2, 1, BOX, torch.Generator().manual_seed(0))
        assert torch.equal(network(x), plain)


def test_inputs_are_normalised() -> None:
    x = points(5)
    network = MLP(width=6, depth=2).build(2, 1, BOX, torch.Generator().manual_seed(0))
    unit = -torch.ones(2), torch.ones(2)
    same = MLP(width=6, depth=2, normalise=False).build(2, 1, unit, torch.Generator().manual_seed(0))
    lower, upper = BOX
    torch.testing.assert_close(network(x), same(2 * (x - lower) / (upper - lower) - 1))


def test_weights_are_glorot_normal() -> None:
    network = MLP(width=200, depth=2).build(2, 1, BOX, torch.Generator().manual_seed(0))
    weight = network.hidden[1].weight
    assert abs(float(weight.detach().std()) / (2 / 400) ** 0.5 - 1) < 0.02
    assert float(network.hidden[1].bias.detach().abs().max()) == 0


def test_piratenet_starts_linear_in_its_embedding() -> None:
    network = PirateNet(width=8, blocks=2, embedding=Fourier(4)).build(
        2, 2, BOX, torch.Generator().manual_seed(0)
    )
    assert float(network.share.detach().abs().max()) == 0
    x = points(30)
    features = network.encoder(Affine(Plan(), x, torch.eye(2, dtype=x.dtype))).rows[0]
    torch.testing.assert_close(network(x), features @ network.last.used()[0].T)
    target = features @ torch.linspace(-1, 1, 16, dtype=x.dtype).view(8, 2) + 0.5
    network.fit_last(x, target)
    torch.testing.assert_close(network(x).detach(), target)
    network.fit_last(x, 3 * target[:, 1:], columns=[1])
    torch.testing.assert_close(network(x).detach(), target * torch.tensor([1.0, 3.0]))
    with pytest.raises(WrongShape, match=r"fit_last takes values \(30, 2\).*got \(30,\)"):
        network.fit_last(x, target[:, 0])
    with pytest.raises(WrongShape, match=r"fit_last takes values \(30, 1\).*got \(30, 2\)"):
        network.fit_last(x, target, columns=[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
def test_fit_last_needs_no_huge_weights(dtype: torch.dtype) -> None:
    """Smooth features are almost dependent: an exact fit of a function that is none of them cancels."""
    network = PirateNet(blocks=1).build(2, 1, BOX, torch.Generator().manual_seed(0), dtype)
    x = points(2000, dtype)
    target = torch.sin(2 * x[:, :1])
    network.fit_last(x, target)
    error = float((network(x).detach() - target).norm() / target.norm())
    assert error < 1e-2
    assert float(network.last.used()[0].detach().norm()) < 1000


def test_piratenet_factorises_every_layer_unless_told_otherwise() -> None:
    for embedding in (None, Fourier(4)):
        for slope in ("factorised", None):
            settings = PirateNet(width=8, blocks=2, embedding=embedding, slope=slope)  # type: ignore[arg-type]
            network = settings.build(2, 2, BOX, torch.Generator().manual_seed(0))
            layers = [m for m in network.modules() if isinstance(m, Dense)]
            assert len(layers) == 9 + (embedding is None)
            assert {layer.kind for layer in layers} == {slope}
    assert PirateNet().slope == "factorised"
    assert {m.kind for m in built("pirate wide").gates} == {"neuron"}
    assert built("pirate wide").last.kind is built("pirate wide").enter.kind is None


def test_separable_on_a_grid() -> None:
    for dim in (1, 2, 3):
        box = torch.zeros(dim), torch.ones(dim)
        network = Separable(rank=4, width=5, depth=1).build(dim, 2, box, torch.Generator().manual_seed(0))
        axes = [torch.linspace(0, 1, 3 + d, dtype=torch.float64) for d in range(dim)]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, dim)
        plan = Plan([(0, dim - 1), (dim - 1,)], laplacian=tuple(range(dim)))
        torch.testing.assert_close(network.on_axes(axes, plan).rows, network(grid, plan).rows)
        torch.testing.assert_close(network.on_axes(axes).value, network(grid))
        with pytest.raises(WrongShape, match=f"on_axes takes {dim} axes"):
            network.on_axes([grid])


def test_custom_is_copied() -> None:
    network = built("custom")
    assert isinstance(network(points(2), Plan([(0,)])), Jet)
    with torch.no_grad():
        assert not network(points(2), Plan([(0,)])).rows.requires_grad
    network.module[0].weight.data.zero_()
    assert float(MODULE[0].weight.detach().abs().max()) > 0
    wrong = {
        r"the module gave \(7, 2\) for 7 points and 1 outputs": MODULE,
        r"gave \(7,\) for 7 points and 1 outputs: it must give \(7, 1\)": nn.Sequential(
            nn.Linear(2, 1), nn.Flatten(0)
        ),
        "the module gave tuple for 7 points": nn.LSTM(2, 1),
    }
    for message, module in wrong.items():
        with pytest.raises(WrongShape, match=message):
            Custom(module).build(2, 1, BOX, torch.Generator())
    with pytest.raises(WrongSettings, match=r"Custom\(Sequential\) cannot be written as plain values"):
        Custom(MODULE).values()


def test_wrong_inputs_and_plans() -> None:
    network = built("mlp")
    with pytest.raises(WrongShape, match=r"Perceptron takes points \(N, 2\), got \(4, 3\).*2 coordinates"):
        network(torch.zeros(4, 3))
    with pytest.raises(WrongShape, match=r"got \(2,\)"):
        network(torch.zeros(2))
    with pytest.raises(NoDerivative, match="coordinate 2, Perceptron has coordinates 0 to 1"):
        network(points(3), Plan([(2,)]))
    relu = MLP(width=4, depth=2, activation="relu").build(2, 1, BOX, torch.Generator())
    assert relu(points(3), Plan([(0,)])).rows.shape == (2, 3, 1)
    with pytest.raises(NoDerivative, match="relu has no derivative of order 2"):
        relu(points(3), Plan([(0, 0)]))


@pytest.mark.parametrize(
    ("lower", "upper", "message"),
    [
        ([0.0, float("nan")], [1.0, 1.0], "must be finite"),
        ([0.0, 0.0], [1.0, float("inf")], "must be finite"),
        ([0.0, 1.0], [1.0, 1.0], "is empty: every lower bound must be below"),
        ([0.0], [1.0], r"are \(2,\), got \(1,\)"),
    ],
)
def test_wrong_boxes(lower: list[float], upper: list[float], message: str) -> None:
    with pytest.raises(WrongBox, match=message):
        MLP().build(2, 1, (torch.tensor(lower), torch.tensor(upper)), torch.Generator())


def test_wrong_settings() -> None:
    cases: list[tuple[Any, str]] = [
        (lambda: MLP(width=0), "width and depth are at least 1"),
        (lambda: MLP(activation="tan"), "no activation 'tan': there are tanh, sin"),
        (lambda: MLP(slope="all"), "slope is None or one of layer, neuron, factorised"),  # type: ignore[arg-type]
        (lambda: Fourier(0), "features >= 1 and a positive scale"),
        (lambda: PeriodicEmbedding({0: -1.0}), "positive periods by coordinate number"),
        (lambda: Gaussians(count=0), "sizes of at least 1 and a positive spread"),
        (lambda: Gaussians(widths="some"), "widths are one of diagonal, isotropic, full, got 'some'"),  # type: ignore[arg-type]
        (lambda: Separable(rank=0), "rank is at least 1"),
        (lambda: MLP().build(2, 0, BOX, torch.Generator()), "has inputs and outputs, got 2 and 0"),
        (
            lambda: MLP(embedding=PeriodicEmbedding({2: 1.0})).build(2, 1, BOX, torch.Generator()),
            "names coordinate 2, the network has coordinates 0 to 1",
        ),
        (
            lambda: MLP(embedding=(Fourier(2), PERIODIC)).build(2, 1, BOX, torch.Generator()),
            "put it before the other embeddings",
        ),
        (lambda: architecture_from({"kind": "KAN"}), "no kind 'KAN': there are MLP"),
        (lambda: architecture_from({"kind": "MLP", "size": 3}), "MLP: .*size"),
        (lambda: architecture_from(Fourier(3).__dict__ | {"kind": "Fourier"}), "which is no network"),
    ]
    for make, message in cases:
        with pytest.raises(WrongSettings, match=message):
            make()


def test_a_module_that_torch_does_not_follow_is_refused():
    """Its derivatives would all be zero, and every residual with them."""

    class Cut(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def forward(self, x):
            return self.layer(x.detach())

    with pytest.raises(
        NoDerivative, match="the module differs between points, but torch knows no derivative"
    ):
        Custom(Cut()).build(2, 1, BOX, torch.Generator())


def test_a_module_that_is_constant_in_space_is_allowed():
    class Level(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.level = torch.nn.Parameter(torch.ones(1))

        def forward(self, x):
            return self.level.expand(len(x), 1)

    network = Custom(Level()).build(2, 1, BOX, torch.Generator(), torch.float64)
    jet = network(torch.rand(3, 2, dtype=torch.float64), Plan([(0,)]))
    assert (jet.of((0,)) == 0).all()
