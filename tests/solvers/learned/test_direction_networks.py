import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch.nn import functional

from solvus.meshes import Grid
from solvus.operators.linear import Diffusion, NotSupported, sparse
from solvus.operators.linear.errors import MixedDevices
from solvus.solvers import CG, LinearSystem, Status, Stop, solve
from solvus.solvers.krylov import FlexibleCG
from solvus.solvers.learned.directions import (
    DCDM_64,
    DCDM_128,
    ConjugateDirections,
    DCDMConfig,
    DCDMNetwork,
    MultilevelConfig,
    MultilevelNetwork,
    SymmetricConfig,
    SymmetricMultilevelNetwork,
    cell_image,
    learned_directions,
    random_obstacles,
)
from solvus.solvers.learned.directions.network import with_ring, without_ring
from solvus.solvers.learned.directions.stencils import smooth
from solvus.solvers.training.saving import UnknownArchitecture

SMALL = DCDMConfig(channels=3, pairs=1, coarse=1, fine=1)
NETWORKS = {
    "dcdm": lambda: DCDMNetwork(SMALL),
    "multilevel": lambda: MultilevelNetwork(MultilevelConfig(levels=2, start="random")),
    "symmetric": lambda: SymmetricMultilevelNetwork(SymmetricConfig(levels=2)),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def closed(n, mask=None, **more):
    return Grid((n, n, n), upper=(n, n, n), centring="cell", boundary="neumann", mask=mask, **more)


def obstacles(n=8, seed=1):
    return random_obstacles(n, 3, generator(seed))


def mixed_grid(n=6):
    """All kinds of cells: walls and open faces, an open obstacle."""
    mask = np.ones((n, n, n), dtype=bool)
    mask[2:4, 1:3, 3] = False
    faces = (("neumann", "dirichlet"), ("neumann", "neumann"), ("dirichlet", "neumann"))
    return Grid((n, n, n), upper=(n, n, n), centring="cell", boundary=faces, mask=mask, obstacle="dirichlet")


def system(grid, seed=0, batch=()):
    A = Diffusion(grid)
    fluid = 1.0 if grid.mask is None else torch.as_tensor(grid.mask.ravel())
    b = torch.randn(*batch, A.shape[0], generator=generator(seed), dtype=torch.float64) * fluid
    return LinearSystem(A, b if A.nullspace is None else A.nullspace.project(b))


# --- sizes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "count"),
    [
        (lambda: DCDMNetwork(DCDM_64), 97_457),
        (lambda: DCDMNetwork(DCDM_128), 152_881),
        (lambda: MultilevelNetwork(MultilevelConfig(4)), 20_582),
        (lambda: MultilevelNetwork(MultilevelConfig(5)), 25_174),
        (lambda: MultilevelNetwork(MultilevelConfig(3)), 7 * 2_214 + 3 * 164),
        (lambda: SymmetricMultilevelNetwork(SymmetricConfig(3)), 4 * (2_214 + 164)),
    ],
)
def test_parameter_counts_are_the_published_ones(network, count):
    net = network()
    assert net.parameter_count == count
    assert len({p.data_ptr() for p in net.parameters()}) == len(list(net.parameters()))  # nothing is shared


def test_settings_out_of_range():
    with pytest.raises(ValueError, match="at least 1, got"):
        DCDMConfig(coarse=0)
    with pytest.raises(ValueError, match="levels is at least 1, got 0"):
        MultilevelConfig(0)
    with pytest.raises(ValueError, match="start is 'additive' or 'random', got 'zero'"):
        MultilevelConfig(start="zero")


@pytest.mark.parametrize("name", NETWORKS)
def test_boxes_of_any_size(name):
    net = NETWORKS[name]()
    for shape in ((5, 7, 6), (4, 4, 4), (1, 3, 9)):
        image = cell_image(Grid(shape, centring="cell", boundary="neumann"))
        assert net(torch.randn(2, 1, *shape), image).shape == (2, 1, *shape)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_gets_a_gradient(name):
    net = NETWORKS[name]()
    q = net(torch.randn(2, 1, 8, 8, 8, generator=generator()), cell_image(mixed_grid(8)))
    q.square().sum().backward()
    for parameter, p in net.named_parameters():
        assert p.grad is not None, parameter
        assert float(p.grad.abs().max()) > 0, parameter


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients(name):
    net = NETWORKS[name]().double()
    image = cell_image(mixed_grid(4)).double()
    x = torch.randn(1, 1, 4, 4, 4, generator=generator(), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: net(x, image), (x,), fast_mode=True)


@pytest.mark.parametrize("name", NETWORKS)
def test_saved_and_loaded(name, tmp_path):
    net = NETWORKS[name]()
    net.save(tmp_path / "part", meta={"data": "none"})
    twin = type(net).load(tmp_path / "part")
    x, image = torch.randn(1, 1, 8, 8, 8), cell_image(closed(8))
    assert torch.equal(net(x, image), twin(x, image))
    assert twin.config == net.config
    other = MultilevelNetwork if name == "dcdm" else DCDMNetwork
    with pytest.raises(UnknownArchitecture, match="load it by its class"):
        other.load(tmp_path / "part")


# --- layers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [DCDM_64, DCDM_128])
def test_dcdm_layer_by_layer(config):
    """The published order of layers, from the weights in the order in which they were made."""
    net = DCDMNetwork(config)
    weights = list(net.parameters())
    convs = list(zip(weights[::2], weights[1::2], strict=True))
    x = torch.randn(1, 1, 6, 6, 6, generator=generator())

    def conv(v):
        w, bias = convs.pop(0)
        return functional.conv3d(v, w, bias, padding=1)

    def R(v):
        return conv(v).clamp_min(0)

    la = R(conv(x))
    lb = R(la)
    for _ in range(config.pairs - 1):
        la = R(lb) + la
        lb = R(la)
    v = functional.avg_pool3d(lb, 2)
    for _ in range(config.coarse):
        u = R(v)
        v = R(u) + v
    v = v.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4) + lb
    for _ in range(config.fine):
        u = R(v)
        v = R(u) + v
    (w, bias) = convs.pop(0)
    assert not convs
    expected = torch.einsum("oc,bcxyz->boxyz", w[:, :, 0, 0, 0], v) + bias
    assert torch.allclose(net.propose(x, None), expected, atol=1e-5)


def test_the_network_sees_unit_root_mean_square():
    net = DCDMNetwork(SMALL)
    r = torch.randn(1, 1, 4, 4, 4, generator=generator())
    r = r / r.norm()
    assert torch.allclose(net(r, cell_image(closed(4))), net.propose(8 * r, None))


def test_stencils_cell_by_cell():
    x, K = torch.randn(2, 1, 3, 4, 2), torch.randn(1, 27, 3, 4, 2)
    y = torch.zeros_like(x)
    taps = [(i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)]
    for cell in np.ndindex(3, 4, 2):
        for t, offset in enumerate(taps):
            at = tuple(c + o for c, o in zip(cell, offset, strict=True))
            if all(0 <= a < n for a, n in zip(at, (3, 4, 2), strict=True)):
                y[(slice(None), 0, *cell)] += K[(0, t, *cell)] * x[(slice(None), 0, *at)]
    assert torch.allclose(smooth(K, x), y, atol=1e-5)


def test_the_multilevel_network_is_linear_and_the_other_is_not():
    image = cell_image(obstacles())
    u, v = torch.randn(2, 1, 1, 8, 8, 8, generator=generator())
    for name, linear in (("multilevel", True), ("symmetric", True), ("dcdm", False)):
        net = NETWORKS[name]()
        together, apart = net(2 * u - 3 * v, image), 2 * net(u, image) - 3 * net(v, image)
        gap = float((together - apart).detach().abs().max() / apart.detach().abs().max())
        assert (gap < 1e-4) == linear


def test_the_additive_start():
    """f(r) = sum_i 4^i / 6 P_i R_i r: averages down, trilinear interpolation up."""
    net = MultilevelNetwork(MultilevelConfig(levels=2))
    r = torch.randn(1, 1, 8, 8, 8, generator=generator())

    def up(v):
        return functional.interpolate(v, scale_factor=2.0, mode="trilinear", align_corners=False)

    r1 = functional.avg_pool3d(r, 2)
    r2 = functional.avg_pool3d(r1, 2)
    expected = r / 6 + 4 * up(r1 / 6 + 4 * up(r2 / 6))
    assert torch.allclose(net.propose(r, net.prepared(cell_image(closed(8)))), expected, atol=1e-5)
    directions = learned_directions(MultilevelNetwork())
    problem = system(obstacles(16))
    steps = [solve(problem, s, stop=Stop(1e-4)).steps for s in (CG(), ConjugateDirections(directions))]
    assert 3 * steps[1] < steps[0]


# --- images of cells ----------------------------------------------------------------------------------------


def test_images_of_cells():
    grid = mixed_grid()
    image = cell_image(grid)[0]
    assert image.shape == (3, 8, 8, 8)
    assert bool((image.sum(0) == 1).all())
    assert torch.equal(image[0, 1:-1, 1:-1, 1:-1].bool(), torch.as_tensor(grid.mask))
    beyond = [image[:, 0, 3, 3], image[:, -1, 3, 3], image[:, 3, 0, 3], image[:, 3, 3, 0], image[:, 3, 3, -1]]
    assert [int(v.argmax()) for v in beyond] == [2, 1, 2, 1, 2]
    assert int(image[:, 3, 2, 4].argmax()) == 1  # the obstacle is held at zero
    assert torch.equal(with_ring(*without_ring(image[None])), image[None])


@pytest.mark.parametrize(
    ("grid", "what"),
    [
        (Grid((4, 4)), "this grid has 2 and dirichlet faces"),
        (Grid((4, 4, 4), boundary="periodic"), "this grid has 3 and periodic faces"),
    ],
)
def test_grids_that_networks_do_not_know(grid, what):
    with pytest.raises(NotSupported, match=what):
        cell_image(grid)
    b = torch.zeros(grid.size, dtype=torch.float64)
    with pytest.raises(NotSupported, match="use CG"):
        solve(LinearSystem(Diffusion(grid), b), ConjugateDirections(learned_directions(DCDMNetwork(SMALL))))


# --- directions of systems ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("grid", [closed(6), obstacles(), mixed_grid()], ids=["box", "obstacles", "mixed"])
def test_directions_are_masked_and_of_zero_mean(grid, name):
    A = Diffusion(grid)
    f = learned_directions(NETWORKS[name]())(A)
    r = torch.randn(3, A.shape[0], generator=generator(), dtype=torch.float64)
    q = f @ r
    assert q.dtype == torch.float64
    assert float(q.norm()) > 0
    if grid.mask is not None and name != "symmetric":
        assert bool((q[:, ~torch.as_tensor(grid.mask.ravel())] == 0).all())
    if A.nullspace is not None:
        assert float(A.nullspace.component(q).abs().max()) < 1e-12 * float(q.norm())
    assert torch.allclose(f @ (2 * r), 2 * q)  # the scale of r is that of f(r)
    assert bool((f @ (0 * r) == 0).all())
    assert torch.allclose(f @ r[0], q[0], atol=1e-5 * float(q.norm()))


def test_two_parts_lose_their_means_one_by_one():
    mask = np.ones((6, 6, 6), dtype=bool)
    mask[3] = False
    A = Diffusion(closed(6, mask))
    assert A.nullspace.dimension == 2
    q = (learned_directions(DCDMNetwork(SMALL))(A) @ torch.randn(216).double()).reshape(6, 6, 6)
    assert abs(float(q[:3].sum())) < 1e-12
    assert abs(float(q[4:].sum())) < 1e-12


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("grid", [closed(6), obstacles(), mixed_grid()], ids=["box", "obstacles", "mixed"])
def test_untrained_networks_solve_to_any_tolerance(grid, name):
    problem = system(grid, batch=(2,))
    exact = solve(problem, CG(), stop=Stop(1e-11)).value
    solver = ConjugateDirections(learned_directions(NETWORKS[name]()))
    result = solve(problem, solver, stop=Stop(1e-9, max_steps=400))
    assert torch.allclose(result.value, exact, atol=1e-6 * float(exact.abs().max()))


def test_directions_in_flexible_cg():
    """A useful network; an untrained one leaves FlexibleCG, which has no such guard, at MAX_STEPS."""
    problem = system(obstacles())
    exact = solve(problem, CG(), stop=Stop(1e-11)).value
    result = solve(problem, FlexibleCG(learned_directions(MultilevelNetwork(MultilevelConfig(2)))))
    assert torch.allclose(result.value, exact, atol=1e-4 * float(exact.abs().max()))
    untrained = FlexibleCG(learned_directions(DCDMNetwork(SMALL)))
    result = solve(problem, untrained, stop=Stop(1e-9, max_steps=60), throw=False)
    assert result.status is Status.MAX_STEPS


def test_a_float32_system():
    grid = obstacles()
    A = Diffusion(grid, dtype=torch.float32)
    result = solve(
        LinearSystem(A, system(grid).b.float()), ConjugateDirections(learned_directions(DCDMNetwork(SMALL)))
    )
    assert result.status is Status.CONVERGED
    assert result.value.dtype == torch.float32


def test_a_network_of_nan_leaves_conjugate_gradients():
    net = DCDMNetwork(SMALL)
    torch.nn.init.constant_(net.last.bias, float("nan"))
    problem = system(obstacles())
    result = solve(problem, ConjugateDirections(learned_directions(net)))
    plain = solve(problem, CG())
    assert abs(result.steps - plain.steps) <= 1
    assert torch.allclose(result.value, plain.value, atol=1e-5 * float(plain.value.abs().max()))


def test_kernels_are_made_once_per_system(monkeypatch):
    net, calls = MultilevelNetwork(MultilevelConfig(2)), []
    prepare = net.prepare
    monkeypatch.setattr(net, "prepare", lambda image: calls.append(1) or prepare(image))
    assert solve(system(obstacles()), ConjugateDirections(learned_directions(net))).steps > 2
    assert len(calls) == 1


def test_what_directions_are_not():
    f = learned_directions(DCDMNetwork(SMALL))
    problem = system(closed(6))
    with pytest.raises(NotSupported, match="use FlexibleCG"):
        solve(problem, CG(f))
    with pytest.raises(NotSupported, match="no transpose and no gradient"):
        f(problem.A).transpose()
    with pytest.raises(NotSupported, match="cells of a Diffusion on a Grid, this is CSR"):
        f(sparse(sp.eye_array(8)))
    with pytest.raises(MixedDevices, match=r"network is on meta, the operator on cpu.*network.to\('cpu'\)"):
        learned_directions(DCDMNetwork(SMALL).to("meta"))(problem.A)
