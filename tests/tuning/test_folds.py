import numpy as np
import pytest

from caloforge.errors import ConfigError
from caloforge.showers import ShowerFile
from caloforge.training.config import EvaluationConfig, TrainingConfig
from caloforge.training.data import split_showers
from caloforge.tuning.folds import make_folds


def energies(path):
    with ShowerFile(path) as file:
        return file.column("incident_energy")


def test_every_shower_is_held_out_by_one_fold_and_trained_on_by_the_others(folder, tmp_path):
    data = folder / "train.h5"
    everything = np.sort(energies(data))
    folds = make_folds(data, 7, 0.1, tmp_path / "folds", validate=False)
    held = []
    for fold in folds:
        own = energies(fold.data)
        np.testing.assert_array_equal(np.sort(own), everything)
        # what the training itself takes for held out, with the share it is given
        config = TrainingConfig(batch_size=2, evaluation=EvaluationConfig(share=fold.share))
        split, count = split_showers(fold.data, config, 1)
        assert count == 240 and fold.held is None
        held.append(own[split:])
    assert {len(part) for part in held} == {34, 35}
    np.testing.assert_array_equal(np.sort(np.concatenate(held)), everything)
    before = folds[0].data.stat().st_mtime_ns
    assert make_folds(data, 7, 0.1, tmp_path / "folds", validate=False) == folds
    assert folds[0].data.stat().st_mtime_ns == before


def test_one_fold_is_the_split_of_the_run_and_needs_no_copy(folder, tmp_path):
    data = folder / "train.h5"
    (fold,) = make_folds(data, 1, 0.5, tmp_path / "folds", validate=True)
    assert fold.data == data and fold.share is None
    np.testing.assert_array_equal(energies(fold.held), energies(data)[120:])


def test_too_few_showers_to_judge_by(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"of its 240 showers 80 are held out, .* .at least 100"):
        make_folds(folder / "train.h5", 3, 0.1, tmp_path / "folds", validate=True)
    with pytest.raises(ConfigError, match=r"16 are held out, .* .at least 20"):
        make_folds(folder / "train.h5", 15, 0.1, tmp_path / "folds", validate=False)
