"""The command line: calls the function of a verb and prints its result, or its error, as text or JSON.

Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 validation not within its thresholds, 4 validation
undecided.
"""

import itertools
import json
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import cyclopts
from rich.console import Console
from rich.text import Text

from caloforge._version import __version__
from caloforge.errors import CaloforgeError, ConfigError, OutputError
from caloforge.output import discard, open_streams, shorten, write_out

VERBS = {
    "demo": ("demo:demo", "The whole workflow on a small scale, in minutes."),
    "init": ("init:init", "Write a commented run.yaml."),
    "list": ("init:list_", "List recipes, detectors, models, physics lists and formats."),
    "check": ("check:check", "Pre-flight of a run.yaml: config, detector, data, one step, memory, disk."),
    "simulate": ("simulate:simulate", "Full simulation with Geant4."),
    "simulate-events": ("simulate_events:simulate_events", "Calorimeter hits of HepMC or EDM4hep events."),
    "import": ("convert:import_", "Read foreign shower data into a shower file."),
    "convert": ("convert:convert", "Write a shower file in a foreign format."),
    "inspect": ("inspect:inspect", "Show what a detector, a shower file or a model holds, with pictures."),
    "join": ("join:join", "Join shower files into one."),
    "train": ("train:train", "Train a model on a shower file."),
    "generate": ("generate:generate", "Fast simulation with a trained model."),
    "export": ("export:export", "Export a trained model for other programs: ONNX, OpenVINO, Par04, DDML."),
    "validate": ("validate:validate", "Physics comparison of generated showers with Geant4."),
    "tune": ("tune:tune", "Search for the best settings of a run, on one machine or a Ray cluster."),
    "card": ("card:card", "Write the card of a model from its validation reports."),
    "submit": ("submit:submit", "Submit a training or a study to a cluster: SLURM, Kubernetes, Ray."),
    "benchmark": ("benchmark:benchmark", "Time Geant4, published networks and ours in one run."),
    "doctor": ("doctor:doctor", "Show versions, the hardware, and missing dependencies."),
    "cite": ("cite:cite", "How to cite caloforge and the software it builds on."),
}
# verbs with a second word
SUBVERBS = {
    "config show": ("config:config_show", "The resolved run.yaml, overrides applied."),
    "config schema": ("config:config_schema", "The JSON schema of run.yaml, for editors."),
    "benchmark scaling": (
        "benchmark:benchmark_scaling",
        "Time a training on one and several processes, and project it to many nodes.",
    ),
    "benchmark resources": (
        "benchmark_resources:benchmark_resources",
        "Measure what numbers of training showers and time of training give.",
    ),
}
# options that take every word up to the next option
SEVERAL_FILES = ("--data", "--like", "--training", "--triforce")
# position of `config` in the help: after `check`
CONFIG_POSITION = 3
EPILOGUE = "Every verb also takes --json (result as JSON on stdout) and --traceback (full error trace)."


class _Console(Console):
    """The console that help pages are printed to; a closed pipe is no error."""

    def on_broken_pipe(self) -> None:
        discard(sys.stdout)


def build_app() -> cyclopts.App:
    """The cyclopts application; the module of a verb is imported only when the verb runs."""
    app = cyclopts.App(
        name="caloforge",
        help="From a calorimeter description to a fast, validated, deployable shower generator.",
        help_epilogue=EPILOGUE,
        version=__version__,
        console=_Console(),
        exit_on_error=False,
        print_error=False,
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    for place, (verb, (target, summary)) in enumerate(VERBS.items()):
        app.command(f"caloforge.commands.{target}", name=verb, help=summary, sort_key=place)
    app.command(
        cyclopts.App(
            name="config",
            help="Show the resolved configuration or its JSON schema.",
            sort_key=CONFIG_POSITION,
        )
    )
    for verb, (target, summary) in SUBVERBS.items():
        parent, name = verb.split()
        app[parent].command(f"caloforge.commands.{target}", name=name, help=summary)
    app.register_install_completion_command()
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    open_streams()
    if arguments is None and not sys.warnoptions:
        # caloforge reports overflows itself; -W or PYTHONWARNINGS shows NumPy's warnings of them
        warnings.simplefilter("ignore", RuntimeWarning)
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    as_json, trace = _pop_flag(tokens, "--json"), _pop_flag(tokens, "--traceback")
    try:
        return _print_outcome(build_app()(tokens), as_json)
    except CaloforgeError as error:
        if trace and error.exit_code:
            raise
        return _fail(error, as_json)
    except cyclopts.CycloptsError as error:
        if trace:
            raise
        verb = " ".join(("caloforge", *(error.command_chain or ())))
        return _fail(ConfigError(f"{error}{_taken_by(error, tokens)}\nSee: {verb} --help"), as_json)
    except OSError as error:
        # errors that no verb translates: a name too long, a folder without permission, a full disk
        if trace:
            raise
        where = f"{error.filename}: " if error.filename else ""
        return _fail(OutputError(f"{where}{error.strerror or error}"), as_json)
    except KeyboardInterrupt:
        return _print_error("stopped; nothing half-written is left behind", "yellow", 1)
    except MemoryError:
        return _print_error("error: out of memory; take fewer showers or a smaller batch size", "bold red", 1)


def _taken_by(error: cyclopts.CycloptsError, tokens: Sequence[str]) -> str:
    """Where an argument is missing: the option that took it as one of its files, for the message."""
    for option in (option for option in SEVERAL_FILES if option in tokens):
        values = list(itertools.takewhile(lambda word: word[:1] != "-", tokens[tokens.index(option) + 1 :]))
        if isinstance(error, cyclopts.MissingArgumentError) and len(values) > 1:
            return f" {option} took {' '.join(values)}, up to the next option: write it last."
    return ""


def _pop_flag(tokens: list[str], flag: str) -> bool:
    found = flag in tokens
    while flag in tokens:
        tokens.remove(flag)
    return found


def _fail(error: CaloforgeError, as_json: bool) -> int:
    message = shorten(str(error))
    if as_json:
        report = {"error": type(error).__name__, "message": message, "exit_code": error.exit_code}
        return _print(json.dumps(report), error.exit_code)
    if error.exit_code == 0:
        return _print_error(message, "yellow", 0)
    return _print_error(Text.assemble(("error: ", "bold red"), message), "", error.exit_code)


def _print_error(message: str | Text, style: str, code: int) -> int:
    """Print a line to standard error, unless it is closed; returns the exit code."""
    try:
        text = message if isinstance(message, Text) else Text(message, style)
        Console(stderr=True, soft_wrap=True).print(text)
    except (OSError, SystemExit):
        discard(sys.stderr)
    return code


def _print_outcome(outcome: Any, as_json: bool) -> int:
    # help, version and completion return nothing to show
    if outcome is None or not hasattr(outcome, "text"):
        return 0
    text = json.dumps(outcome, default=str) if as_json else outcome.text
    return _print(text, int(outcome.exit_code))


def _print(text: str, code: int) -> int:
    """Print a text to standard output; returns `code`, or that of the error where it cannot be written."""
    try:
        write_out(f"{text}\n" if text else "")
    except OutputError as error:
        return _print_error(f"error: {error}", "bold red", code or error.exit_code)
    return code


if __name__ == "__main__":
    sys.exit(main())
