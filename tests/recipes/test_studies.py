"""The studies that come with caloforge."""

import pytest

from caloforge.run import RECIPES
from caloforge.tuning.config import load_study
from caloforge.tuning.space import Space

STUDIES = sorted((RECIPES / "studies").glob("*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_can_be_searched_from_its_run(path):
    study = load_study(path)
    space = Space(study, path.parent, path.name)
    space.check()
    values, outside = space.start()
    # the first trial is the run itself, to compare with
    assert not outside and values
    assert space.run(values) == space.base()


def test_there_is_one():
    assert STUDIES
