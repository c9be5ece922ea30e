"""`validate --training`: are generated showers near copies of those that the generator was trained on?"""

import json

import numpy as np
import pytest
import toy_showers

from caloforge.cards.figures import figures
from caloforge.cli import main
from caloforge.errors import DataError
from caloforge.metrics.definitions import features
from caloforge.metrics.resampling import Metric
from caloforge.validation import validate_files

NAMES = ("training_copies", "training_distance")


@pytest.fixture(autouse=True, scope="module")
def quick():
    """The Fréchet distance, which is slow, has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "frechet_physics_distance", lambda *_, **__: Metric(0.01, 0.01, 0.01))
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Truth; two training files; honest showers; training showers with a little noise in every cell."""
    folder = tmp_path_factory.mktemp("training")
    training = [toy_showers.batch(300, seed) for seed in (11, 12)]
    copied = toy_showers.batch(300, 11)
    copied.showers *= np.random.default_rng(0).normal(1, 0.02, copied.showers.shape).astype(np.float32)
    batches = {
        "truth": toy_showers.batch(300, 1),
        "first": training[0],
        "second": training[1],
        "honest": toy_showers.batch(300, 2),
        "copied": copied,
    }
    return {name: toy_showers.write(folder / f"{name}.h5", batch) for name, batch in batches.items()}


@pytest.fixture(scope="module")
def report(files, tmp_path_factory):
    """A report of the command, with both training files."""
    out = tmp_path_factory.mktemp("reports") / "report"
    arguments = ["validate", *(str(files[name]) for name in ("truth", "honest", "copied")), "-o", str(out)]
    arguments += [word for name in ("first", "second") for word in ("--training", str(files[name]))]
    assert main([*arguments, "--no-classifier", "--no-pdf", "--no-progress"]) in (3, 4)
    return out


def test_copies_of_training_showers_are_found(report):
    document = json.loads((report / "metrics.json").read_text())
    honest, copied = (
        document["generators"][name]["observables"]["shower"]["inclusive"] for name in ("honest", "copied")
    )
    assert copied["training_copies"]["value"] > 0.95
    assert honest["training_copies"]["value"] <= 3 * honest["training_copies"]["uncertainty"]
    assert copied["training_copies"]["floor"] < 0.02
    assert copied["training_distance"]["value"] < 0.3
    assert honest["training_distance"]["value"] == pytest.approx(1, abs=0.1)
    assert copied["training_distance"]["floor"] == pytest.approx(1, abs=0.1)
    # no copies of each other
    assert copied["near_copies"]["value"] < 0.02
    assert [(entry["file"], entry["showers"]) for entry in document["training"]] == [
        ("first.h5", 300),
        ("second.h5", 300),
    ]
    assert all(len(entry["sha256"]) == 64 for entry in document["training"])


def test_report_and_card_show_them(report):
    page = (report / "report.html").read_text()
    assert "fraction of showers that are near copies of training showers" in page
    assert "distance to the nearest training shower over that of the truth" in page
    rows = figures(json.loads((report / "metrics.json").read_text()), "copied")
    shown = {row["label"]: row for row in rows if "training" in row["label"]}
    assert list(shown) == [
        "near copies of training showers",
        "distance to the nearest training shower, over the truth's",
    ]
    assert shown["near copies of training showers"]["unit"] == "percent"


def test_without_training_nothing_is_said_of_it(files, tmp_path):
    found = validate_files(files["truth"], [files["honest"]], tmp_path / "r", classifier=False, pdf=False)
    assert "training" not in found.metrics
    assert not set(NAMES) & set(found.metrics["generators"]["honest"]["observables"]["shower"]["inclusive"])


def test_a_threshold_may_decide_on_them(files, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("name: own\ninclusive: {training_copies: 0.05, training_distance: 0.2}\n")
    options = {"classifier": False, "pdf": False, "thresholds": str(own), "training": [files["first"]]}
    judged = [files["honest"], files["copied"]]
    found = validate_files(files["truth"], judged, tmp_path / "r", **options)
    assert found.metrics["generators"]["honest"]["verdict"] == "within"
    failures = found.metrics["generators"]["copied"]["failures"]
    assert {failure["metric"] for failure in failures} == set(NAMES)


def test_a_truth_that_was_trained_on_is_refused(files, tmp_path):
    part = toy_showers.batch(300, 1)[slice(100, 150)]
    seen = toy_showers.write(tmp_path / "seen.h5", part)
    options = {"classifier": False, "pdf": False}
    with pytest.raises(DataError, match=r"50 of its 300 showers are in the training file .*seen\.h5"):
        validate_files(files["truth"], [files["honest"]], tmp_path / "r", training=[seen], **options)
    other = toy_showers.write(tmp_path / "other.h5", toy_showers.batch(120, 5, "cylindrical"), "cylindrical")
    with pytest.raises(DataError, match="its mesh is cylindrical"):
        validate_files(files["truth"], [files["honest"]], tmp_path / "r", training=[other], **options)
    assert not (tmp_path / "r").exists()
