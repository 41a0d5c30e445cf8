"""Graph and multipole operators: neighbourhoods, exact kernels, permutations, density, portions, meshes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from solvus.operators.neural.base import WrongChannels, WrongResolution, WrongSettings
from solvus.operators.neural.graph_operator import GNO, GNOConfig
from solvus.operators.neural.layers.integral import KernelIntegral
from solvus.operators.neural.layers.neighbours import (
    Neighbours,
    check_quadrature,
    grid_quadrature,
    radius_neighbours,
)
from solvus.operators.neural.multipole_graph import MultipoleConfig, MultipoleGraph

DOUBLE = torch.float64


def seeded(shape, seed=0, dtype=DOUBLE):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def cloud(n, seed=0, d=2):
    return torch.rand(n, d, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def within(neighbours, row):
    """Which sources a row holds."""
    return sorted(neighbours.index[row][neighbours.share[row] > 0].tolist())


def test_neighbourhoods_are_the_balls():
    points, weights = cloud(60), torch.rand(60, dtype=DOUBLE) + 0.1
    found = radius_neighbours(points, weights, 0.3)
    near = torch.cdist(points, points) < 0.3
    for row in range(60):
        assert within(found, row) == near[row].nonzero().flatten().tolist()
        share = torch.zeros(60, dtype=DOUBLE).index_add(0, found.index[row], found.share[row])
        torch.testing.assert_close(share, near[row] * weights / (near[row] * weights).sum())


def test_a_sample_has_the_asked_number_and_repeats_with_the_generator():
    points, weights = cloud(200), torch.ones(200, dtype=DOUBLE)

    def draw(seed):
        return radius_neighbours(points, weights, 0.3, most=10, generator=torch.Generator().manual_seed(seed))

    one, again, other = draw(0), draw(0), draw(1)
    assert torch.equal(one.index, again.index)
    assert not torch.equal(one.index, other.index)
    near = torch.cdist(points, points) < 0.3
    for row in range(200):
        held = within(one, row)
        assert len(set(held)) == min(10, int(near[row].sum()))
        assert near[row, held].all()


def test_a_sample_is_fair():
    """Every point of a ball is chosen equally often, near ones and far ones."""
    points = cloud(40, d=1)
    found = radius_neighbours(
        points, torch.ones(40, dtype=DOUBLE), 5.0, most=10, targets=torch.zeros(4000, 1)
    )
    times = torch.bincount(found.index.flatten(), minlength=40) / 1000
    assert (times - 1).abs().max() < 0.2  # 1 +- 6 standard deviations


def test_an_empty_ball_gets_the_nearest_point():
    points = torch.tensor([[0.0], [1.0]])
    found = radius_neighbours(points, torch.ones(2), 0.1, targets=torch.tensor([[0.3], [0.95]]))
    assert [within(found, 0), within(found, 1)] == [[0], [1]]


@pytest.mark.parametrize("kind", ["closed", "periodic"])
def test_weights_of_grids_integrate(kind):
    points, weights = grid_quadrature((6, 5, 4), kind)
    assert points.shape == (120, 3)
    assert weights.sum().item() == pytest.approx(1)
    square = (weights * points[:, 0] ** 2).sum().item()  # over 0, 1/5, ..., 1 or over 0, 1/6, ..., 5/6
    assert square == pytest.approx(1 / 3 + 1 / 150 if kind == "closed" else 55 / 216)
    assert torch.equal(points[1], torch.tensor([0, 0, 1 / (3 if kind == "closed" else 4)], dtype=DOUBLE))


def by_hand(layer, v, features, neighbours):
    """The sum over neighbours with a matrix for every edge."""
    out = torch.zeros(v.shape[0], len(neighbours.index), layer.bias.shape[0], dtype=DOUBLE)
    outputs, inputs = layer.bias.shape
    for b in range(v.shape[0]):
        for i, (row, shares) in enumerate(zip(neighbours.index, neighbours.share, strict=True)):
            for j, s in zip(row.tolist(), shares, strict=True):
                h = layer.activation(layer.target(features[b, i]) + layer.source(features[b, j]))
                h = layer.middle(h)
                matrix = layer.weight.reshape(outputs, inputs, -1) @ h + layer.bias
                out[b, i] += s * matrix @ v[b, j]
    return out


def kernel(hidden=(7, 6), **more):
    torch.manual_seed(0)
    layer = KernelIntegral(3, 4, 5, hidden, **more).double()
    with torch.no_grad():
        layer.bias.copy_(seeded((5, 4), 9))
    return layer


@pytest.mark.parametrize("hidden", [(7,), (7, 6), (7, 6, 5)])
def test_the_sum_is_that_of_matrices_per_edge(hidden):
    layer, v, f = kernel(hidden), seeded((2, 9, 4)), seeded((2, 9, 3), 1)
    neighbours = radius_neighbours(cloud(9), torch.rand(9, dtype=DOUBLE) + 0.1, 0.4)
    torch.testing.assert_close(layer(v, f, neighbours), by_hand(layer, v, f, neighbours))


def test_a_wrong_neighbour_is_found():
    layer, v, f = kernel(), seeded((1, 9, 4)), seeded((1, 9, 3), 1)
    neighbours = radius_neighbours(cloud(9), torch.ones(9, dtype=DOUBLE), 0.4)
    wrong = Neighbours((neighbours.index + 1) % 9, neighbours.share)
    assert (layer(v, f, wrong) - by_hand(layer, v, f, neighbours)).abs().max() > 0.01


def test_the_constant_kernel_one_gives_the_mean():
    torch.manual_seed(0)
    layer = KernelIntegral(2, 4, 4, (5,)).double()
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.eye(4))
    v, points = seeded((2, 30, 4)), cloud(30)
    weights = torch.rand(30, dtype=DOUBLE) + 0.1
    everywhere = radius_neighbours(points, weights, 2.0)
    mean = (v * weights[:, None]).sum(1, keepdim=True) / weights.sum()
    torch.testing.assert_close(layer(v, points[None], everywhere), mean.expand(-1, 30, -1))


@pytest.mark.parametrize("edges_at_once", [1, 40, 10_000])
def test_portions_of_edges_give_the_same_values_and_gradients(edges_at_once):
    neighbours = radius_neighbours(cloud(30), torch.ones(30, dtype=DOUBLE), 0.4)
    results = []
    for size in (65_536, edges_at_once):
        layer = kernel(edges_at_once=size)
        v, f = seeded((2, 30, 4)).requires_grad_(), seeded((2, 30, 3), 1).requires_grad_()
        out = layer(v, f, neighbours)
        out.square().sum().backward()
        with torch.no_grad():
            torch.testing.assert_close(layer(v, f, neighbours), out)
        results.append([out, v.grad, f.grad, *(p.grad for p in layer.parameters())])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def make_gno(**more):
    torch.manual_seed(0)
    return GNO(GNOConfig(2, 3, width=6, layers=2, kernel=(8,), projection=10, neighbours=0, **more)).double()


def make_multipole(**more):
    torch.manual_seed(0)
    config = MultipoleConfig(2, 3, width=6, layers=2, kernel=(8,), projection=10, nodes=(12, 4), neighbours=0)
    return MultipoleGraph(replace(config, **more)).double()


MODELS = {"gno": make_gno, "multipole": make_multipole}


def test_permuting_points_permutes_the_output():
    model, points, a = make_gno(), cloud(40), seeded((2, 40, 2))
    weights = torch.rand(40, dtype=DOUBLE) + 0.1
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    out = model.on_points(a, model.geometry(points, weights))
    permuted = model.on_points(a[:, order], model.geometry(points[order], weights[order]))
    torch.testing.assert_close(permuted, out[:, order])
    assert (permuted - out).abs().max() > 1e-3


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_grid_is_a_cloud_of_its_points(make):
    model, x = make(), seeded((2, 2, 7, 5))
    points, weights = grid_quadrature((7, 5), "closed")
    out = model.on_points(x.flatten(2).mT, model.geometry(points, weights))
    assert torch.equal(model(x), out.mT.reshape(2, 3, 7, 5))


def density_change(model, n, weighted=True):
    """The change of the output at fixed points when every interval of an uneven line is halved."""

    def on_line(n):
        points = torch.linspace(0, 1, n, dtype=DOUBLE)[:, None] ** 2  # crowded at 0
        gaps = points.diff(dim=0).flatten()
        weights = torch.zeros(n, dtype=DOUBLE)
        weights[1:] += gaps / 2
        weights[:-1] += gaps / 2
        a = torch.cat([torch.sin(3 * points), torch.cos(5 * points)], 1)[None]
        return model.on_points(a, model.geometry(points, weights if weighted else None))

    with torch.no_grad():
        return (on_line(2 * n - 1)[:, ::2] - on_line(n)).abs().max().item()


def test_twice_the_density_changes_the_output_by_the_error_of_quadrature():
    model = make_gno(
        dim=1, radius=2.0, activation="tanh"
    )  # no cut of the ball: the trapezoidal rule, order 2
    coarse, fine = density_change(model, 33), density_change(model, 65)
    assert fine < 1e-3
    assert 3.5 < coarse / fine < 4.5
    cut = make_gno(dim=1, radius=0.3, activation="tanh")  # a ball cuts the rule off anywhere: order 1
    assert density_change(cut, 257) < 0.02


def test_without_weights_the_limit_depends_on_the_density():
    """The same points with and without quadrature weights: two limits, not one."""
    model = make_gno(dim=1, radius=2.0, activation="tanh")
    points = torch.linspace(0, 1, 201, dtype=DOUBLE)[:, None] ** 2
    gaps = points.diff(dim=0).flatten()
    weights = torch.nn.functional.pad(gaps, (0, 1)) / 2 + torch.nn.functional.pad(gaps, (1, 0)) / 2
    a = torch.cat([torch.sin(3 * points), torch.cos(5 * points)], 1)[None]
    outs = [model.on_points(a, model.geometry(points, w)) for w in (weights, None)]
    assert (outs[0] - outs[1]).abs().max() > 10 * density_change(model, 101)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_every_parameter_gets_a_gradient(make, dtype):
    model = make(activation="gelu").to(dtype)
    out = model(seeded((2, 2, 8, 7), dtype=dtype))
    assert out.dtype == dtype
    out.square().sum().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().max() > 0, name


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_all_dimensions_and_grids(make, dim):
    model = make(dim=dim, coordinates="periodic")
    for space in ((17,), (7, 5), (5, 4, 3))[dim - 1], ((32,), (4, 9), (3, 4, 5))[dim - 1]:
        assert model(seeded((2, 2, *space))).shape == (2, 3, *space)


def test_neighbours_on_a_grid_are_drawn_once_until_they_are_drawn_anew():
    model, x = make_gno(), seeded((1, 2, 9, 9))
    model.config = replace(model.config, neighbours=5)
    first = model(x)
    assert torch.equal(model(x), first)
    model.resample()
    assert not torch.equal(model(x), first)


def test_a_mesh_of_areas():
    """A triangulated square: points with lumped areas as weights."""
    from scipy.spatial import Delaunay

    points = cloud(80).numpy()
    cells = Delaunay(points).simplices
    edges = points[cells[:, 1:]] - points[cells[:, :1]]
    areas = np.abs(edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]) / 6
    weights = np.bincount(cells.flatten(), np.repeat(areas, 3), minlength=80)
    model = make_gno()
    geometry = model.geometry(torch.as_tensor(points), torch.as_tensor(weights))
    out = model.on_points(seeded((1, 80, 2), dtype=torch.float32).double(), geometry)
    assert out.shape == (1, 80, 3)
    assert torch.isfinite(out).all()


def test_what_does_not_fit_is_refused():
    model = make_gno()
    with pytest.raises(WrongChannels, match=r"\(B, 40, 2\)"):
        model.on_points(seeded((1, 40, 3)), model.geometry(cloud(40)))
    with pytest.raises(WrongResolution, match="2 coordinates"):
        model.geometry(cloud(40, d=3))
    with pytest.raises(WrongResolution, match="N above 0"):
        check_quadrature(torch.zeros(0, 2), None)
    with pytest.raises(WrongResolution, match="40 points need weights"):
        model.geometry(cloud(40), torch.ones(39))
    for bad in (0.0, -1.0, float("nan")):
        weights = torch.ones(40)
        weights[3] = bad
        with pytest.raises(WrongSettings, match="positive and finite"):
            model.geometry(cloud(40), weights)
    with pytest.raises(WrongSettings, match="12 nodes"):
        make_multipole()(seeded((1, 2, 3, 3)))
    with pytest.raises(WrongSettings, match="most 0"):
        radius_neighbours(cloud(4), torch.ones(4), -1.0)


@pytest.mark.parametrize(
    "wrong",
    [{"radius": 0.0}, {"neighbours": -1}, {"edges_at_once": 0}, {"dim": 4}, {"kernel": ()}, {"width": 0},
     {"coordinates": "open"}],
)  # fmt: skip
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(WrongSettings, match=next(iter(wrong))):
        GNOConfig(1, 1, **wrong)


@pytest.mark.parametrize(
    "wrong", [{"nodes": ()}, {"nodes": (4, 4)}, {"radii": (0.1,)}, {"radii": (0.1, 0.0, 1.0)}]
)
def test_wrong_levels_are_refused(wrong):
    with pytest.raises(WrongSettings, match=next(iter(wrong))):
        MultipoleConfig(1, 1, **wrong)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_settings_round_trip(make):
    model, x = make(), seeded((1, 2, 7, 5))
    again = type(model).from_settings(json.loads(json.dumps(model.settings()))).double()
    assert again.config == model.config
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(x), model(x))


def test_levels_of_the_multipole_graph_carry_all_the_weight():
    model, points = make_multipole(), cloud(50)
    _, hierarchy = model.geometry(points, torch.rand(50, dtype=DOUBLE) + 0.1)
    assert [len(c) for c in hierarchy.chosen] == [50, 12, 4]
    assert [n.index.shape[0] for n in (*hierarchy.down, *hierarchy.up)] == [12, 4, 50, 12]
    for n in (*hierarchy.within, *hierarchy.down, *hierarchy.up):
        torch.testing.assert_close(n.share.sum(1), torch.ones(len(n.share), dtype=DOUBLE))


def test_levels_of_the_multipole_graph_have_their_radii_and_the_weights_of_the_nearest_points():
    model, points = make_multipole(radii=(0.2, 5.0, 6.0)), cloud(50)
    weights = torch.rand(50, dtype=DOUBLE, generator=torch.Generator().manual_seed(2)) + 0.1
    _, h = model.geometry(points, weights)
    assert [n.index.shape[1] for n in (*h.within[1:], *h.down, *h.up)] == [12, 4, 50, 12, 12, 4]  # all
    assert h.within[0].index.shape[1] < 50
    nearest = torch.cdist(points, points[h.chosen[1]]).argmin(1)
    gathered = torch.zeros(12, dtype=DOUBLE).index_add(0, nearest, weights / weights.sum())
    share = torch.zeros(12, dtype=DOUBLE).index_add(0, h.up[0].index[7], h.up[0].share[7])
    torch.testing.assert_close(share, gathered)


def test_far_points_reach_each_other_through_the_coarse_levels_only():
    """A change at one end of a line is felt at the other after a V-cycle, not after one ball."""
    felt = {}
    for name, model in (
        ("ball", make_gno(dim=1, radius=0.1, activation="gelu")),
        ("cycle", make_multipole(dim=1, radii=(0.1, 0.3, 2.0), activation="gelu")),
    ):
        x = seeded((1, 2, 41))
        moved = x.clone()
        moved[..., 0] += 1
        felt[name] = (model(moved) - model(x))[..., -1].abs().max().item()
    assert felt["ball"] == 0
    assert felt["cycle"] > 1e-8


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_export_on_a_grid(make):
    model, x = make().eval(), seeded((2, 2, 7, 5))
    expected = model(x)  # the geometry is made outside of the graph
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), expected)


@pytest.mark.slow
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")
def test_compile_on_a_grid(make):
    model, x = make(), seeded((2, 2, 7, 5))
    expected = model(x)
    torch.testing.assert_close(torch.compile(model)(x), expected)
