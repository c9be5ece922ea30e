"""Every recipe is a complete run that the program reads, shows and can be started from."""

import json

import pytest
import yaml

from caloforge.cli import main
from caloforge.commands.init import init
from caloforge.fullsim.track import check_beam
from caloforge.run import RECIPES, load_run, recipe_names, recipe_text


def test_the_recipes_are_those_of_the_folder():
    assert recipe_names() == sorted(path.stem for path in RECIPES.iterdir())
    assert {"clic-electron", "clic-electron-angle", "demo", "par04-siw"} <= set(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
class TestRecipe:
    def test_it_can_be_simulated(self, name):
        run = load_run(name)
        assert run.name == name
        assert run.description
        check_beam(run.detector, run.beam)

    def test_what_config_show_prints_is_the_same_run(self, name, tmp_path, capsys):
        assert main(["config", "show", name]) == 0
        (tmp_path / "resolved.yaml").write_text(capsys.readouterr().out)
        assert load_run(tmp_path / "resolved.yaml") == load_run(name)
        assert main(["config", "show", name, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["name"] == name

    def test_init_writes_it_with_its_comments(self, name, tmp_path):
        out = tmp_path / "run.yaml"
        init(name, out=out)
        assert out.read_text() == recipe_text(name)
        assert out.read_text().startswith("# ")
        assert load_run(out) == load_run(name)

    def test_an_override_reaches_every_section(self, name):
        changed = load_run(
            name, ["detector.mesh.layers_per_voxel=5", "training.epochs=7", "beam.particle=e+"]
        )
        assert changed.detector.mesh.layers_per_voxel == 5
        assert changed.training.epochs == 7
        assert changed.beam.pdg_id == -11


@pytest.mark.parametrize("detector", ["clic-ecal-25", "clic-ecal-51", "par04-siw"])
def test_init_finds_a_recipe_by_its_detector(detector):
    assert yaml.safe_load(recipe_text(detector))["detector"] == detector
