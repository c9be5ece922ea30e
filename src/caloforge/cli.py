"""The command line: verbs to functions, outcomes to text or JSON, errors to messages and exit codes.

Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 validation not within its thresholds, 4 validation
undecided.
"""

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
    "demo": ("demo:demo", "The whole way on a small scale in minutes."),
    "init": ("init:init", "Write a commented run.yaml."),
    "list": ("init:list_", "What exists: recipes, detectors, models, physics lists, formats."),
    "check": ("check:check", "Pre-flight of a run.yaml: config, detector, data, one step, memory, disk."),
    "simulate": ("simulate:simulate", "Full simulation with Geant4."),
    "import": ("convert:import_", "Foreign shower data to a shower file."),
    "convert": ("convert:convert", "A shower file to a foreign format."),
    "inspect": ("inspect:inspect", "What a detector, a shower file or a model holds, with pictures."),
    "train": ("train:train", "Train a model on a shower file."),
    "generate": ("generate:generate", "Fast simulation with a trained model."),
    "validate": ("validate:validate", "Physics comparison of generated showers with Geant4."),
    "tune": ("tune:tune", "Search for the best settings of a run, on one machine or a Ray cluster."),
    "card": ("card:card", "Write the card of a model from its reports."),
    "submit": ("submit:submit", "Give a training or a study to a cluster: SLURM, Kubernetes, Ray."),
    "benchmark": ("benchmark:benchmark", "Time Geant4, published networks and ours in one run."),
    "doctor": ("doctor:doctor", "Versions, what works here and what is missing for which verb."),
    "cite": ("cite:cite", "How to cite caloforge and what it stands on."),
}
# verbs of a verb
SUBVERBS = {
    "config show": ("config:config_show", "The resolved run.yaml, overrides applied."),
    "config schema": ("config:config_schema", "The JSON schema of run.yaml, for editors."),
    "benchmark scaling": (
        "benchmark:benchmark_scaling",
        "Time a training on one and several processes, and project it to many nodes.",
    ),
}
# in the help, after check
CONFIG_PLACE = 3
EPILOGUE = "Every verb also takes --json (result as JSON on stdout) and --traceback (full error trace)."


class _Console(Console):
    """Where the help goes; a reader that has seen enough is no error."""

    def on_broken_pipe(self) -> None:
        discard(sys.stdout)


def build_app() -> cyclopts.App:
    """The application; verbs are imported only when they run."""
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
            name="config", help="Show the resolved configuration or its JSON schema.", sort_key=CONFIG_PLACE
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
        # numbers that overflow end in an error or a note of ours; -W or PYTHONWARNINGS shows them
        warnings.simplefilter("ignore", RuntimeWarning)
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    as_json, trace = _take(tokens, "--json"), _take(tokens, "--traceback")
    try:
        return _show(build_app()(tokens), as_json)
    except CaloforgeError as error:
        if trace and error.exit_code:
            raise
        return _fail(error, as_json)
    except cyclopts.CycloptsError as error:
        if trace:
            raise
        verb = " ".join(("caloforge", *(error.command_chain or ())))
        return _fail(ConfigError(f"{error}\nSee: {verb} --help"), as_json)
    except OSError as error:
        # what no verb has a better word for: a name too long, a folder without permission, a full disk
        if trace:
            raise
        where = f"{error.filename}: " if error.filename else ""
        return _fail(OutputError(f"{where}{error.strerror or error}"), as_json)
    except KeyboardInterrupt:
        return _say("stopped; nothing half-written is left behind", "yellow", 1)
    except MemoryError:
        return _say("error: out of memory; take fewer showers or a smaller batch size", "bold red", 1)


def _take(tokens: list[str], flag: str) -> bool:
    found = flag in tokens
    while flag in tokens:
        tokens.remove(flag)
    return found


def _fail(error: CaloforgeError, as_json: bool) -> int:
    message = shorten(str(error))
    if as_json:
        report = {"error": type(error).__name__, "message": message, "exit_code": error.exit_code}
        return _write(json.dumps(report), error.exit_code)
    if error.exit_code == 0:
        return _say(message, "yellow", 0)
    return _say(Text.assemble(("error: ", "bold red"), message), "", error.exit_code)


def _say(message: str | Text, style: str, code: int) -> int:
    """A line on standard error, if there is anybody to read it; returns the exit code."""
    try:
        text = message if isinstance(message, Text) else Text(message, style)
        Console(stderr=True, soft_wrap=True).print(text)
    except (OSError, SystemExit):
        discard(sys.stderr)
    return code


def _show(outcome: Any, as_json: bool) -> int:
    # help, version and completion return nothing to show
    if outcome is None or not hasattr(outcome, "text"):
        return 0
    text = json.dumps(outcome, default=str) if as_json else outcome.text
    return _write(text, int(outcome.exit_code))


def _write(text: str, code: int) -> int:
    """A text on standard output; returns the exit code, which is no success where that cannot be written."""
    try:
        write_out(f"{text}\n" if text else "")
    except OutputError as error:
        return _say(f"error: {error}", "bold red", code or error.exit_code)
    return code


if __name__ == "__main__":
    sys.exit(main())
