"""The benchmark problems: known minima, and how well the trees know networks they have not seen."""

import itertools
import json
import math
import os

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution
from scipy.stats import mannwhitneyu, spearmanr

from caloforge.testing import problems
from caloforge.tuning.samplers import make_sampler
from caloforge.tuning.samplers.config import SamplerConfig

SMALL = os.environ.get("CALOFORGE_SCALE") == "small"


@pytest.mark.parametrize("place", [(-math.pi, 12.275), (math.pi, 2.275), (9.42478, 2.475)])
def test_branin(place):
    """Minima of Dixon and Szegő (1978): 0.397887."""
    problem = problems.branin_problem()
    assert problem.value({"x": place[0], "y": place[1]}) == pytest.approx(0.397887, abs=1e-6)
    assert problem.minimum == pytest.approx(0.397887, abs=1e-6)


def test_hartmann6():
    """Minimum of Dixon and Szegő (1978): -3.32237."""
    place = (0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573)
    problem = problems.hartmann6_problem()
    value = problem.value({f"x{i}": x for i, x in enumerate(place, start=1)})
    assert value == pytest.approx(-3.32237, abs=1e-5)
    assert problem.minimum == -3.32237


def test_the_table_holds_different_networks_of_the_spaces():
    for name, space in problems.SPACES.items():
        points, figures = problems.layer_networks(name)
        assert len({json.dumps(point) for point in points}) == len(points) >= 350
        assert np.isfinite(figures).all()
        for point in points:
            assert set(space) - set(point) <= {"momentum"}
            for key, value in point.items():
                assert space[key]._contains(space[key].to_internal_repr(value)), (key, value)


def test_the_architecture_space_is_large():
    sizes = [
        len(d.choices) if isinstance(d, CategoricalDistribution) else d.high - d.low + 1
        for d in problems.ARCHITECTURE.values()
    ]
    assert math.prod(sizes) == 57_600


@pytest.mark.parametrize(
    ("name", "explained", "rank"), [("architecture", 0.85, 0.92), ("training", 0.65, 0.82)]
)
def test_the_trees_know_networks_they_have_not_seen(name, explained, rank):
    points, figures = problems.layer_networks(name)
    unseen, seen = np.split(np.random.default_rng(0).permutation(len(points)), [len(points) // 4])
    trees = problems.Surrogate(problems.SPACES[name], [points[i] for i in seen], figures[seen])
    guessed = np.log(trees([points[i] for i in unseen]) + problems.OFFSET)
    known = np.log(figures[unseen] + problems.OFFSET)
    assert 1 - np.mean((known - guessed) ** 2) / known.var() > explained
    assert spearmanr(known, guessed).statistic > rank


def searches(problem, kind, seeds, trials):
    config = SamplerConfig(kind=kind)
    runs = [
        problems.search(problem, make_sampler(config, seed=seed), trials, seed=seed) for seed in range(seeds)
    ]
    return np.array(runs)


def test_a_search_keeps_its_groups_busy():
    problem = problems.branin_problem()
    best = searches(problem, "random", 1, 20)[0]
    assert len(best) == 20
    assert all(b <= a for a, b in itertools.pairwise(best))


@pytest.mark.parametrize(("name", "kind", "trials"), [("branin", "gp", 28), ("hartmann6", "tpe", 45)])
def test_surrogates_beat_random_search(name, kind, trials):
    problem = getattr(problems, f"{name}_problem")()
    ours, random = (searches(problem, which, 6, trials)[:, -1] for which in (kind, "random"))
    assert mannwhitneyu(ours, random, alternative="less").pvalue < 0.05


# of the documentation, and how many trials of its searches are enough
FIGURES = [
    ("branin", "gp", 30),
    ("hartmann6", "tpe", 60),
    ("architecture", "regularised-evolution", 100),
    ("architecture", "policy-gradient", 100),
    ("branin", "tpe", 40),
    ("hartmann6", "gp", 40),
    ("training", "tpe", 80),
    ("training", "gp", 40),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind", "trials"), FIGURES[:3] if SMALL else FIGURES)
def test_figures(name, kind, trials):
    """The statement of the documentation: better than random search with p < 0.01 over 20 seeds."""
    problem = getattr(problems, f"{name}_problem")()
    seeds, chance = (8, 0.05) if SMALL else (20, 0.01)
    ours, random = (searches(problem, which, seeds, trials)[:, -1] for which in (kind, "random"))
    assert mannwhitneyu(ours, random, alternative="less").pvalue < chance
