"""Optuna's own conformance suite for samplers, run on every sampler of a study."""

import optuna
import pytest
from optuna.testing import pytest_samplers as suite

from caloforge.tuning.samplers import make_sampler
from caloforge.tuning.samplers.config import BUILT_IN, SamplerConfig

KINDS = list(BUILT_IN)
SEVERAL_OBJECTIVES = [kind for kind, entry in BUILT_IN.items() if entry.several_objectives]
# Optuna does not run the relative suite on these two of its own: random search draws each parameter by
# itself, and NSGA-II has nothing to breed from before a whole generation has ended
NOT_JOINT = ("random", "nsga2")
ONE_OBJECTIVE = [kind for kind in KINDS if kind not in SEVERAL_OBJECTIVES]

# the suite tells values that are no number on purpose
pytestmark = pytest.mark.filterwarnings("ignore:The value nan is not acceptable:UserWarning")


@pytest.fixture(scope="module", autouse=True)
def quiet():
    """Without a line in the log for each of some thousand studies."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


class Sampler:
    """The sampler that the suite makes for each of its studies."""

    @pytest.fixture
    def sampler(self, kind):
        # as in Optuna's own run of the suite, TPE has no random start
        config = SamplerConfig(kind=kind, startup=1 if kind == "tpe" else 4, population=8)
        return lambda: make_sampler(config, seed=1)


@pytest.mark.parametrize("kind", KINDS)
class TestBasic(Sampler, suite.BasicSamplerTestCase):
    pass


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in NOT_JOINT])
class TestRelative(Sampler, suite.RelativeSamplerTestCase):
    pass


@pytest.mark.parametrize("kind", SEVERAL_OBJECTIVES)
class TestSeveralObjectives(Sampler, suite.MultiObjectiveSamplerTestCase):
    pass


@pytest.mark.parametrize("kind", ONE_OBJECTIVE)
class TestOneObjective(Sampler, suite.SingleOnlySamplerTestCase):
    pass


CASES = (TestBasic, TestRelative, TestSeveralObjectives, TestOneObjective)


def test_the_suite_is_the_whole_one():
    classes = {name for name in vars(suite) if name.endswith("SamplerTestCase") and name[0] != "_"}
    assert classes == {base.__name__ for case in CASES for base in case.__bases__ if base is not Sampler}
