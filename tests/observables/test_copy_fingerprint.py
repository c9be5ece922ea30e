import numpy as np
import pytest
from observable_samples import DETECTORS, random_showers

from caloforge import observables as obs


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_copies_and_rescaled_copies_count_once(name):
    rng = np.random.default_rng(1)
    library = random_showers(DETECTORS[name], 60)
    library.reshape(60, -1)[:, :3] += 1.0  # the smallest mesh may leave a shower empty
    chosen = rng.integers(0, 60, 500)
    scaled = library[chosen] * rng.uniform(0.5, 2, 500).astype(np.float32).reshape(
        -1, *[1] * (library.ndim - 1)
    )
    assert obs.distinct_showers(obs.fingerprint(library)) == 60
    assert obs.distinct_showers(obs.fingerprint(scaled)) == len(np.unique(chosen))


def test_an_empty_shower_has_a_fingerprint_of_zeros():
    assert not obs.fingerprint(np.zeros((2, 3, 4, 5), np.float32)).any()
