"""Every recipe is a complete run that the program reads, shows and can be started from."""

import json

import pytest
import yaml

from caloforge.cli import main
from caloforge.commands.init import init
from caloforge.fullsim.beam_placement import check_beam
from caloforge.geometry import preset_names
from caloforge.run import RECIPES, load_run, recipe_names, recipe_text, run_schema

TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
}


def complaints(value, schema, path="run"):
    """What is wrong with a value, by the part of JSON Schema that pydantic writes."""
    if "$ref" in schema:
        yield from complaints(value, run_schema()["$defs"][schema["$ref"].rsplit("/", 1)[1]], path)
        return
    for key in ("anyOf", "oneOf"):
        if key in schema and all(list(complaints(value, part, path)) for part in schema[key]):
            yield f"{path}: {value!r} is none of {key}"
    kind = schema.get("type")
    if kind == "null" or (kind in TYPES and not isinstance(value, TYPES[kind])):
        yield f"{path}: {value!r} is no {kind}"
        return
    if value not in schema.get("enum", [value]) or value != schema.get("const", value):
        yield f"{path}: {value!r} is not allowed"
    if kind == "object":
        yield from (f"{path}.{key} is missing" for key in schema.get("required", []) if key not in value)
        for key, item in value.items():
            if key in schema.get("properties", {}):
                yield from complaints(item, schema["properties"][key], f"{path}.{key}")
            elif schema.get("additionalProperties") is False:
                yield f"{path}.{key} is unknown"


def test_the_recipes_are_those_of_the_folder():
    assert recipe_names() == sorted(path.stem for path in RECIPES.glob("*.yaml"))
    assert {"clic-electron", "clic-electron-angle", "demo", "par04-siw"} <= set(recipe_names())


def test_every_detector_has_a_recipe_of_the_layered_family():
    runs = [load_run(name) for name in recipe_names()]
    assert {run.detector.name for run in runs if run.model.family == "layered"} == set(preset_names())


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

    def test_the_schema_for_editors_accepts_it(self, name):
        assert not list(complaints(yaml.safe_load(recipe_text(name)), run_schema()))

    def test_init_writes_it_with_its_comments(self, name, tmp_path):
        out = tmp_path / "run.yaml"
        init(name, out=out)
        assert out.read_text() == recipe_text(name)
        assert out.read_text().startswith("# ")
        assert load_run(out) == load_run(name)

    def test_an_override_reaches_every_section(self, name):
        layers = load_run(name).detector.n_physical_layers
        changed = load_run(
            name, [f"detector.mesh.layers_per_voxel={layers}", "training.epochs=7", "beam.particle=e+"]
        )
        assert changed.detector.mesh.layers_per_voxel == layers
        assert changed.training.epochs == 7
        assert changed.beam.pdg_id == -11


@pytest.mark.parametrize("detector", ["clic-ecal-25", "clic-ecal-51", "par04-siw"])
def test_init_finds_a_recipe_by_its_detector(detector):
    assert yaml.safe_load(recipe_text(detector))["detector"] == detector


def test_the_schema_knows_what_is_wrong_and_what_a_preset_supplies():
    document = yaml.safe_load(recipe_text("clic-electron"))
    assert not list(
        complaints(document | {"detector": {"preset": "par04-siw", "mesh": {"nr": 5}}}, run_schema())
    )
    assert not list(complaints(document | {"model": {"generator": {"latent": 64}}}, run_schema()))
    wrong = document | {"beam": {"energy": {"kind": "flat", "min": 10}}, "trainning": {}}
    found = "\n".join(complaints(wrong, run_schema()))
    assert "run.trainning is unknown" in found
    assert "run.beam.energy" in found
    assert run_schema()["$defs"]["FullSimConfig"]["properties"]["production_cut"]["default"] == "0.7 mm"
