import numpy as np
import pytest

from caloforge.errors import ConfigError
from caloforge.showers import ShowerFile
from caloforge.training.config import EvaluationConfig
from caloforge.training.data_split import split_showers
from caloforge.tuning.folds import make_folds


def energies(path):
    with ShowerFile(path) as file:
        return file.column("incident_energy")


def test_every_shower_is_held_out_by_one_fold_and_trained_on_by_the_others(folder, tmp_path):
    data = folder / "train.h5"
    everything = np.sort(energies(data))
    folds = make_folds(data, 7, EvaluationConfig(), tmp_path / "folds", validate=False)
    held = []
    for fold in folds:
        assert fold.held_out is None
        # what the training itself takes for held out, with the part it is given
        split = split_showers(240, EvaluationConfig(fold=fold.part))
        np.testing.assert_array_equal(np.sort([*split.train, *split.held_out]), np.arange(240))
        held.append(energies(data)[split.held_out])
    assert {len(part) for part in held} == {34, 35}
    np.testing.assert_array_equal(np.sort(np.concatenate(held)), everything)
    assert not any((tmp_path / "folds").iterdir())


def test_one_fold_is_the_split_of_the_run(folder, tmp_path):
    data = folder / "train.h5"
    evaluation = EvaluationConfig(share=0.5, seed=3)
    (fold,) = make_folds(data, 1, evaluation, tmp_path / "folds", validate=True)
    assert fold.data == data and fold.part is None
    np.testing.assert_array_equal(
        energies(fold.held_out), energies(data)[split_showers(240, evaluation).evaluated(120)]
    )
    before = fold.held_out.stat().st_mtime_ns
    assert make_folds(data, 1, evaluation, tmp_path / "folds", validate=True) == [fold]
    assert fold.held_out.stat().st_mtime_ns == before


def test_too_few_showers_to_judge_by(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"of its 240 showers 80 are held out, .* .at least 100"):
        make_folds(folder / "train.h5", 3, EvaluationConfig(), tmp_path / "folds", validate=True)
    with pytest.raises(ConfigError, match=r"16 are held out, .* .at least 20"):
        make_folds(folder / "train.h5", 15, EvaluationConfig(), tmp_path / "folds", validate=False)
