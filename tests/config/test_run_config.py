"""The run document: detectors by name, by file or written out, and overrides that reach all of it."""

import pytest

from caloforge.config import to_yaml
from caloforge.errors import CaloforgeError, ConfigError
from caloforge.geometry import load_detector
from caloforge.run import load_run, recipe_names, recipe_text

DETECTOR = """\
name: mine
layers:
  - slabs:
      - {material: G4_PbWO4, thickness: 230 mm, active: true}
mesh: {kind: cartesian, nx: 9, ny: 9, cell_x: 22 mm, cell_y: 22 mm}
"""


@pytest.fixture
def run_file(tmp_path):
    """A run whose detector is a file beside it."""
    (tmp_path / "mine.yaml").write_text(DETECTOR)
    text = recipe_text("clic-electron").replace("detector: clic-ecal-25", "detector: mine.yaml")
    assert "mine.yaml" in text
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_a_whole_run(name, tmp_path):
    run = load_run(name)
    path = tmp_path / "again.yaml"
    path.write_text(to_yaml(run), encoding="utf-8")
    assert load_run(path) == run


def test_overrides_reach_the_layers_of_a_preset():
    run = load_run("demo", ["detector.layers.0.slabs.1.thickness=1 mm", "detector.mesh.nx=21"])
    assert run.detector.layers[0].slabs[1].thickness == 1.0
    assert run.detector.mesh.nx == 21
    with pytest.raises(ConfigError, match=r"layers\.0\.slabs\.0\.thickness: got 3 without a unit"):
        load_run("demo", ["detector.layers.0.slabs.0.thickness=3"])
    with pytest.raises(ConfigError, match="Did you mean 'thickness'"):
        load_run("demo", ["detector.layers.0.slabs.0.thicknes=3 mm"])


@pytest.mark.parametrize("key", ["detector", "detector.preset"])
def test_another_detector_is_chosen_before_it_is_changed(key):
    run = load_run("clic-electron", ["detector.mesh.nx=49", f"{key}=clic-ecal-51"])
    assert run.detector == load_detector("clic-ecal-51", ("mesh.nx=49",))


def test_a_detector_file_beside_the_run(run_file):
    assert load_run(run_file).detector == load_detector(run_file.with_name("mine.yaml"))
    assert load_run(run_file, ["detector.mesh.nx=7"]).detector.mesh.nx == 7


@pytest.mark.parametrize("place", ["../secret.yaml", "/etc/detector.yaml", "none.yaml"])
def test_a_detector_file_elsewhere_is_refused(run_file, place):
    run_file.write_text(run_file.read_text(encoding="utf-8").replace("mine.yaml", place), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"outside the folder|none\.yaml"):
        load_run(run_file)


@pytest.mark.parametrize("value", ["3", "[]", "null", "{preset: 3}", "{preset: clic}", "clic-ecal-26"])
def test_a_detector_that_is_none(value):
    with pytest.raises(ConfigError, match=r"detector|clic-ecal-25"):
        load_run("demo", [f"detector={value}"])


def test_a_run_that_does_not_exist(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'clic-electron'"):
        load_run("clic-elektron")
    with pytest.raises(ConfigError, match="No such file"):
        load_run(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="no recipe or detector preset is called 'nothing'"):
        recipe_text("nothing")


@pytest.mark.parametrize(
    "setting",
    [
        "beam.energy.value=0 GeV",
        "beam.energy.value=-5 GeV",
        "beam.energy.min=0 MeV",
        "beam.particle=electron",
        "fullsim.physics=G4EmStandardPhysic",
        "fullsim.production_cut=0 mm",
        "seed=-1",
        "seed=1.5",
        "name=a/b",
        "model.family=gan",
        "training.batch_size=0",
        "nothing=1",
    ],
)
def test_settings_that_cannot_be(setting):
    with pytest.raises(CaloforgeError) as caught:
        load_run("demo", [setting])
    assert caught.value.exit_code == 2
    assert setting.partition("=")[0].split(".")[-1] in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        # the right name, at another level
        ("model.factors=8", r"model\.factors: unknown setting .* Did you mean 'generator\.factors'"),
        ("training.patience=3", r"Did you mean 'evaluation\.patience'"),
        ("batch_size=3", r"Did you mean 'training\.batch_size'"),
        # misspelt: the nearest of this kind of network, not of the other one
        ("model.generator.factor=8", "Did you mean 'factors'"),
        (
            "model.generator.latent=8",
            r"generator\.latent: unknown setting .* Valid names: channels, energy_dependent, factors",
        ),
        ("model.generator.kind=wide", r"generator\.kind: got 'wide'\. Valid names: compact, published"),
        ("model.generator.factors=0", r"generator\.factors: .*greater than or equal to 1 \(got 0\)"),
        ("model.generator.radial_bins=[1, 2]", r"got \[1, 2\], expected rising rings from 0"),
        ("model.generator.radial_bins=3", r"generator\.radial_bins: got 3, expected a list"),
        ("model.generator.channels=[1, 2]", r"channels: got \[1, 2\], expected at least 3 values"),
        ("model.generator=compact", r"generator: got 'compact', expected settings"),
        ("model=null", r"model: got None, expected settings"),
    ],
)
def test_a_setting_of_the_compact_3dgan_that_cannot_be_says_what_can(setting, message):
    with pytest.raises(ConfigError, match=message):
        load_run("clic-electron-compact", [setting])
