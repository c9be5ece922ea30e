"""`caloforge submit`."""

import shlex
from importlib import import_module
from inspect import BoundArguments
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts
import yaml
from cyclopts import Parameter

from caloforge.commands.options import Count, Whole
from caloforge.commands.outcome import Outcome
from caloforge.errors import ConfigError, nearest

Where = Literal["slurm", "k8s", "ray"]
# verbs that can be submitted: their function, and where they can run
VERBS = {
    "train": ("caloforge.commands.train:train", ("slurm", "k8s")),
    "tune": ("caloforge.commands.tune:tune", ("slurm", "ray")),
}


def submit(
    where: Where,
    *command: Annotated[str, Parameter(allow_leading_hyphen=True)],
    nodes: Whole = 1,
    processes: Whole | None = None,
    gpus: Count = 0,
    cpus: Whole = 4,
    memory: str = "16Gi",
    time: str = "04:00:00",
    image: str | None = None,
    volume: Annotated[list[str] | None, Parameter(negative=())] = None,
    env: Annotated[list[str] | None, Parameter(negative=())] = None,
    secret: str | None = None,
    setup: str | None = None,
    name: str | None = None,
    sbatch: Annotated[list[str] | None, Parameter(negative=())] = None,
    namespace: str | None = None,
    dashboard: str | None = None,
    print_: Annotated[bool, Parameter(name="--print", negative=())] = False,
) -> Outcome:
    """Submit a training or a study to a cluster; the job resumes by itself after an interruption.

    Args:
        where: SLURM, Kubernetes with Kubeflow Trainer (train), or Ray (tune).
        command: The command: train or tune, with its own arguments and options.
        nodes: Number of nodes.
        processes: Processes per node; the default is one, or one per GPU.
        gpus: GPUs per node.
        cpus: Cores per process.
        memory: Memory per node, such as 16Gi.
        time: Time limit, HH:MM:SS or D-HH:MM:SS.
        image: Container image, registry/name:tag, or a .sif file.
        volume: SOURCE:/path, a claim (Kubernetes) or a folder (SLURM) and its mount point; repeatable.
        env: NAME=VALUE, an environment variable; repeatable.
        secret: A Kubernetes secret whose entries become environment variables.
        setup: Bash commands to run first (SLURM), such as "module load gcc; source venv/bin/activate".
        name: Name of the job; the default comes from the output of the command.
        sbatch: NAME=VALUE, a further option of sbatch such as partition=gpu; repeatable.
        namespace: Kubernetes namespace; the default is that of kubectl.
        dashboard: Dashboard of a running Ray cluster, such as http://head:8265.
        print_: Print the job without submitting it.
    """
    from caloforge.config import build
    from caloforge.deploy import Job, Volume, slug

    verb, bound = _parse(command)
    _check_cluster(
        where, verb, sbatch=sbatch, namespace=namespace, dashboard=dashboard, secret=secret, setup=setup
    )
    _check_locally(verb, bound, must_exist=where == "slurm" and not print_)
    paths = _paths(bound)
    document: dict[str, Any] = {
        "name": name or slug(f"{verb}-{Path(paths.get('-o', '')).name}"),
        "verb": verb,
        "arguments": _resumable_arguments(verb, command[1:], bound),
        "paths": paths,
        "nodes": nodes,
        "processes": processes if processes is not None else max(gpus, 1),
        "gpus": gpus,
        "cpus": cpus,
        "memory": memory,
        "time": time,
        "image": image,
        "volumes": tuple(Volume.parse(text) for text in volume or ()),
        "env": _pairs("--env", env),
        "secret": secret,
        "setup": setup,
    }
    job = build(Job, document, "caloforge submit")
    text, sender = _render(where, job, _pairs("--sbatch", sbatch), namespace, dashboard)
    facts: dict[str, Any] = {"where": where, "name": job.name, "runs": list(job.command), "manifest": text}
    if print_:
        return Outcome(text.rstrip("\n"), submitted=False, **facts)
    from caloforge.deploy import send

    answer = send(sender, text)
    return Outcome(answer, submitted=True, answer=answer, **facts)


def _render(
    where: Where, job: Any, sbatch: dict[str, str], namespace: str | None, dashboard: str | None
) -> tuple[str, list[str]]:
    """The text of a job, and the command that reads it from standard input and submits it."""
    from caloforge.deploy import batch_script, ray_command, ray_job, train_job

    if where == "slurm":
        return batch_script(job, sbatch), ["sbatch"]
    if dashboard is not None:
        command = ray_command(job, dashboard)
        return shlex.join(command) + "\n", command
    documents = train_job(job, namespace) if where == "k8s" else ray_job(job, namespace)
    body = yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True, width=100)
    return f"{job.origin}\n{body}", ["kubectl", "apply", "-f", "-"]


def _parse(command: tuple[str, ...]) -> tuple[str, BoundArguments]:
    """Parse the command to submit: the verb and its bound arguments."""
    if not command:
        raise ConfigError(
            "no command to submit; give one: caloforge submit WHERE train RUN.yaml --data ... -o ..."
        )
    verb, *tokens = command
    if verb not in VERBS:
        raise ConfigError(f"{verb!r} cannot be submitted. {nearest(verb, VERBS)}")
    app = cyclopts.App(name=f"caloforge submit {verb}", exit_on_error=False, print_error=False)
    module, _, function = VERBS[verb][0].partition(":")
    app.default(getattr(import_module(module), function))
    try:
        _, bound, _ = app.parse_args(tokens, exit_on_error=False, print_error=False)
    except cyclopts.UnknownOptionError as error:
        option = error.token.keyword or error.token.value
        arguments = [*app.assemble_argument_collection(), *_submit_app().assemble_argument_collection()]
        known = {name for argument in arguments for name in argument.names}
        raise ConfigError(
            f"{option}: an option of neither caloforge submit nor caloforge {verb}. {nearest(option, known)}"
        ) from error
    except cyclopts.CycloptsError as error:
        raise ConfigError(f"caloforge {verb}: {error}") from error
    return verb, bound


def _submit_app() -> cyclopts.App:
    app = cyclopts.App()
    app.default(submit)
    return app


def _check_cluster(where: Where, verb: str, **given: Any) -> None:
    """Refuse a verb that cannot run on this kind of cluster, and options that do not apply to it."""
    clusters = VERBS[verb][1]
    if where not in clusters:
        raise ConfigError(f"caloforge {verb} does not run on {where}; submit it to {' or '.join(clusters)}")
    applies_to = {
        "sbatch": ("slurm",),
        "namespace": ("k8s", "ray"),
        "dashboard": ("ray",),
        "secret": ("k8s", "ray"),
        # a pod has its setup in the image
        "setup": ("slurm",),
    }
    for option, value in given.items():
        if value is not None and where not in applies_to[option]:
            raise ConfigError(
                f"--{option} does not apply to {where}, only to {' and '.join(applies_to[option])}"
            )
    if given["dashboard"] is not None and (given["namespace"] or given["secret"]):
        raise ConfigError("--dashboard names a cluster that runs already: leave --namespace and --secret out")


def _check_locally(verb: str, bound: BoundArguments, *, must_exist: bool) -> None:
    """Read the run or study, if it is on this machine, to find errors before the job is queued."""
    source = bound.args[0]
    if not (
        must_exist or Path(source).is_file() or source in _shipped("run" if verb == "train" else "study")
    ):
        return
    if verb == "tune":
        from caloforge.tuning.config import load_study

        load_study(source)
    elif verb == "train":
        from caloforge.run import load_run

        load_run(source, bound.arguments.get("set_") or [])


def _shipped(argument: str) -> list[str]:
    """The shipped names that an argument of a verb can be, instead of a path."""
    if argument == "run":
        from caloforge.run import recipe_names

        return recipe_names()
    if argument == "study":
        from caloforge.run import study_names

        return study_names()
    from caloforge.models.released import released_models

    return released_models() if argument == "start" else []


def _paths(bound: BoundArguments) -> dict[str, str]:
    """Files and folders in the command, by their option."""
    titles = {"run": "the run", "study": "the study", "out": "-o"}
    return {
        titles.get(name, f"--{name}"): str(value)
        for name, value in bound.arguments.items()
        if isinstance(value, Path)
        or (name in ("run", "study", "start") and value is not None and str(value) not in _shipped(name))
    }


def _resumable_arguments(verb: str, tokens: tuple[str, ...], bound: BoundArguments) -> tuple[str, ...]:
    """The arguments of a job that the cluster may restart.

    A training gets --resume; a study, which resumes by itself, gets the address of the cluster it runs on.
    """
    if bound.arguments.get("force"):
        raise ConfigError("--force: the job would begin anew at each restart; remove the old output first")
    if verb == "tune":
        return tokens if bound.arguments.get("address") else (*tokens, "--address", "auto")
    return tokens if bound.arguments.get("resume") else (*tokens, "--resume")


def _pairs(option: str, settings: list[str] | None) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for setting in settings or ():
        name, sign, value = setting.partition("=")
        if not sign or not name or name in pairs:
            problem = f"{name} is given twice" if name in pairs else "expected NAME=VALUE"
            raise ConfigError(f"{option} {setting}: {problem}")
        pairs[name] = value
    return pairs
