"""The set of options is closed: what is not here is set in YAML or by --set (house rule)."""

import inspect
import re

import caloforge
from caloforge.cli import SUBVERBS, VERBS, build_app

OPTIONS = {
    "demo": "-o/--out --train-showers --test-showers --workers --seed --force --progress/--no-progress",
    "init": "PRESET --from -o/--out --force",
    "list": "",
    "check": "RUN --data -n/--n --set",
    "simulate": "RUN -n/--n -o/--out --workers/-w --cluster --seed --part --resume --force "
    "--fast --threshold --acceptance --set --progress/--no-progress",
    "simulate-events": "EVENTS -d/--detector -o/--out --fast --threshold --acceptance --distance --facing "
    "--field --contributions --workers/-w --cluster --seed --resume --force --set --progress/--no-progress",
    "import": "SOURCE MORE -o/--out --format --detector --particle --dataset --binning --visible --force "
    "--progress/--no-progress",
    "convert": "SOURCE -o/--out --to --force --progress/--no-progress",
    "inspect": "WHAT MORE -o/--out --set",
    "join": "SOURCE MORE -o/--out --when-complete --force --progress/--no-progress",
    "train": "RUN --data -o/--out --seed --resume --force --start --from --set --progress/--no-progress",
    "generate": "MODEL -o/--out --like -n/--n --energy --theta --phi --particle --impact --seed --part "
    "--cluster --resume --batch-size --backend --precision --device --threads --extrapolate --allow-large "
    "--force --progress/--no-progress",
    "export": "MODEL -o/--out --target --allow-large --force",
    "validate": "TRUTH GENERATED MORE -o/--out --thresholds --classifier/--no-classifier --truth2 "
    "--training --reweight --threshold --neural --repeats --triforce --protocol --pdf/--no-pdf --seed "
    "--workers --force --allow-undecided --progress/--no-progress",
    "tune": "STUDY -o/--out --data --test --address --progress/--no-progress",
    "card": "MODEL REPORTS --benchmark --data --name",
    "submit": "WHERE COMMAND --nodes --array --processes --gpus --cpus --memory --time --image --volume "
    "--env --secret --setup --name --sbatch --namespace --dashboard --print",
    "benchmark": "MODELS --run -n/--n --precision --truth --cnn --all-cores -o/--out --quick --seed --force "
    "--progress/--no-progress",
    "doctor": "",
    "cite": "",
    "config show": "RUN --set",
    "config schema": "",
    "benchmark scaling": "RUN --data --processes --steps --nodes --network --per-node -o/--out --seed "
    "--force --progress/--no-progress",
    "benchmark resources": "RUN --data --truth -o/--out --showers --seeds --set --cnn --geant4 --resume "
    "--progress/--no-progress",
}


# a keyword and a builtin of Python
PYTHON_NAMES = {"import": "import_", "list": "list_", "simulate-events": "simulate_events"}


def described(app):
    names = []
    for argument in app.assemble_argument_collection():
        positional = argument.field_info.kind.name.startswith(("POSITIONAL", "VAR"))
        names.append(argument.names[0].lstrip("-").upper() if positional else "/".join(argument.names))
    return " ".join(names)


def test_the_options_of_every_verb():
    app = build_app()
    found = {verb: described(app[verb]) for verb in VERBS}
    found |= {verb: described(app[verb.split()[0]][verb.split()[1]]) for verb in SUBVERBS}
    assert found == OPTIONS


def test_every_option_is_explained():
    for verb in OPTIONS:
        function = getattr(caloforge, PYTHON_NAMES.get(verb, verb.replace(" ", "_")))
        for name in inspect.signature(function).parameters:
            assert re.search(rf"^ +{name}: \S", function.__doc__, re.MULTILINE), f"{verb}: {name}"
