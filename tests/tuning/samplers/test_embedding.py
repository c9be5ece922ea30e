"""Parameters as coordinates."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from caloforge.tuning.samplers.embedding import Embedding, make_axis

SPACE = {
    "a": FloatDistribution(1e-4, 10.0, log=True),
    "b": FloatDistribution(-3.0, 2.0),
    "c": FloatDistribution(0.0, 1.0, step=0.1),
    "d": IntDistribution(1, 100, log=True),
    "e": IntDistribution(-4, 8, step=3),
    "f": CategoricalDistribution((64, 8, 32)),
    "g": CategoricalDistribution(("x", "y", "z")),
    "h": CategoricalDistribution((True, False)),
}
EMBEDDING = Embedding(SPACE)


@given(st.lists(st.floats(0, 1), min_size=EMBEDDING.width, max_size=EMBEDDING.width))
def test_a_point_survives_the_way_there_and_back(place):
    params = EMBEDDING.decode(np.array(place))
    for name, found in params.items():
        assert SPACE[name]._contains(SPACE[name].to_internal_repr(found))
    again = EMBEDDING.decode(EMBEDDING.encode(params))
    for name, found in params.items():
        assert again[name] == (pytest.approx(found) if isinstance(found, float) else found)
    snapped = EMBEDDING.snap(np.array([place]))
    np.testing.assert_allclose(snapped[0], EMBEDDING.encode(params), atol=1e-12)
    assert ((snapped >= 0) & (snapped <= 1)).all()


def test_uniform_numbers_give_every_value_its_share():
    rng = np.random.default_rng(0)
    places = EMBEDDING.from_uniform(rng.uniform(size=(20_000, len(SPACE))))
    points = [EMBEDDING.decode(place) for place in places]
    for name, shares in {
        "e": dict.fromkeys((-4, -1, 2, 5, 8), 1 / 5),
        "f": dict.fromkeys((8, 32, 64), 1 / 3),
        "g": dict.fromkeys("xyz", 1 / 3),
        "h": dict.fromkeys((True, False), 1 / 2),
        # logarithmic cells of whole numbers: from 0.5 to 1.5 of 0.5 to 100.5
        "d": {1: math.log(3) / math.log(201), 100: math.log(100.5 / 99.5) / math.log(201)},
    }.items():
        found = [point[name] for point in points]
        for value, share in shares.items():
            # five standard errors
            error = 5 * math.sqrt(share * (1 - share) / len(found))
            assert abs(found.count(value) / len(found) - share) < error, (name, value)
    assert abs(np.median([math.log10(point["a"]) for point in points]) + 1.5) < 0.1


def test_choices_among_numbers_are_in_order_and_others_equally_far():
    number = make_axis(SPACE["f"])
    assert number.encode(8) < number.encode(32) < number.encode(64)
    word = make_axis(SPACE["g"])
    x, y, z = (word.encode(value) for value in "xyz")
    distances = [np.linalg.norm(x - y), np.linalg.norm(y - z), np.linalg.norm(z - x)]
    np.testing.assert_allclose(distances, 1.0)


def test_what_does_not_exist_is_in_the_middle():
    place = EMBEDDING.encode({})
    words = EMBEDDING.columns["g"]
    others = np.delete(place, np.arange(words.start, words.stop))
    np.testing.assert_array_equal(others, 0.5)
    assert len(set(place[words])) == 1
