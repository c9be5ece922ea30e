"""`caloforge config show` and `caloforge config schema`."""

import json
from typing import Annotated

from cyclopts import Parameter

from caloforge.commands.outcome import Outcome
from caloforge.config import to_yaml
from caloforge.run import load_run, run_schema


def config_show(
    run: str, *, set_: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None
) -> Outcome:
    """Print a run with presets written out, defaults filled in and overrides applied.

    Args:
        run: A run.yaml, or the name of a recipe.
        set_: Change a setting of the run: KEY=VALUE, repeatable.
    """
    config = load_run(run, set_ or [])
    return Outcome(to_yaml(config).rstrip(), **config.model_dump(mode="json"))


def config_schema() -> Outcome:
    """Print the JSON schema of run.yaml, for editors that complete and check YAML."""
    schema = run_schema()
    return Outcome(json.dumps(schema, indent=2), **schema)
