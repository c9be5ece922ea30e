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
    "simulate": ("caloforge.commands.simulate:simulate", ("slurm", "k8s", "ray")),
    "generate": ("caloforge.commands.generate:generate", ("slurm", "k8s", "ray")),
    "simulate-events": ("caloforge.commands.simulate_events:simulate_events", ("slurm", "ray")),
}
# verbs whose campaigns run on a Ray cluster
ON_RAY = ("simulate", "generate", "simulate-events")
# arguments that are a path, or a name that comes with caloforge
PATHS_OR_NAMES = ("run", "study", "start", "from_", "model", "fast", "detector")


def submit(
    where: Where,
    *command: Annotated[str, Parameter(allow_leading_hyphen=True)],
    nodes: Whole = 1,
    array: Whole | None = None,
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
    """Submit a training, a study, a simulation or a generation to a cluster.

    The job resumes by itself after an interruption.

    Args:
        where: SLURM, Kubernetes (train: with Kubeflow Trainer), or Ray (all but train).
        command: The command: train, tune, simulate, simulate-events or generate, with its own arguments and
            options.
        nodes: Number of nodes; of an array on Kubernetes, how many tasks run at a time.
        array: Number of independent tasks (simulate, generate): each makes a part of the showers, and the
            last one joins them. Without it a campaign on SLURM runs on Ray, over all nodes of the job.
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
    _check_array(where, verb, array, gpus, bound)
    _check_locally(verb, bound, must_exist=where == "slurm" and not print_)
    paths = _paths(bound)
    document: dict[str, Any] = {
        "name": name or slug(f"{verb}-{Path(paths.get('-o', '')).name}"),
        "verb": verb,
        "arguments": _resumable_arguments(
            verb, command[1:], bound, array, cpus * (processes if processes is not None else max(gpus, 1))
        ),
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
        "array": array,
        "out": str(bound.arguments.get("out") or ""),
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
    from caloforge.deploy import array_job, batch_script, ray_command, ray_job, train_job

    if where == "slurm":
        return batch_script(job, sbatch), ["sbatch"]
    if dashboard is not None:
        command = ray_command(job, dashboard)
        return shlex.join(command) + "\n", command
    render = ray_job if where == "ray" else array_job if job.array is not None else train_job
    documents = render(job, namespace)
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
    if verb in ("generate", "simulate-events") or not (
        must_exist or Path(source).is_file() or source in _shipped("study" if verb == "tune" else "run")
    ):
        return
    if verb == "tune":
        from caloforge.tuning.config import load_study

        load_study(source)
    else:
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
    if argument == "detector":
        from caloforge.geometry.detector import preset_names

        return preset_names()
    from caloforge.models.released import released_libraries, released_models

    if argument == "from_":
        return [*released_models(), *released_libraries()]
    return released_models() if argument in ("start", "model", "fast") else []


def _paths(bound: BoundArguments) -> dict[str, str]:
    """Files and folders in the command, by their option."""
    titles = {"run": "the run", "study": "the study", "model": "the model", "out": "-o", "from_": "--from"}
    found: dict[str, str] = {}
    for name, value in bound.arguments.items():
        title = titles.get(name, f"--{name}")
        if isinstance(value, list) and value and all(isinstance(path, Path) for path in value):
            # several files that are read as one
            for number, path in enumerate(value, 1):
                found[title if len(value) == 1 else f"{title} ({number})"] = str(path)
        elif isinstance(value, Path) or (
            name in PATHS_OR_NAMES and value is not None and str(value) not in _shipped(name)
        ):
            found[title] = str(value)
    return found


def _check_array(where: Where, verb: str, array: int | None, gpus: int, bound: BoundArguments) -> None:
    """Check how a job is divided into tasks."""
    if array is None:
        if verb in ON_RAY and where == "k8s":
            raise ConfigError(f"caloforge {verb} on {where} is divided into tasks: give --array N")
        return
    if verb not in ("simulate", "generate") or where == "ray":
        raise ConfigError(f"--array is for simulate and generate on slurm and k8s, not for {verb} on {where}")
    if bound.arguments.get("part") or bound.arguments.get("cluster"):
        raise ConfigError("--part and --cluster are decided by --array; leave them out")
    if gpus:
        raise ConfigError("--array: its tasks run on CPUs; leave --gpus out")


def _resumable_arguments(
    verb: str, tokens: tuple[str, ...], bound: BoundArguments, array: int | None, cores: int
) -> tuple[str, ...]:
    """The arguments of a job that the cluster may restart.

    A training gets --resume, and so does a simulation or generation; a study, which resumes by itself, and a
    campaign on Ray get the address of the cluster that they run on. A task of an array uses its `cores`.
    """
    if bound.arguments.get("force"):
        raise ConfigError("--force: the job would begin anew at each restart; remove the old output first")
    if verb == "tune":
        return tokens if bound.arguments.get("address") else (*tokens, "--address", "auto")
    if verb in ON_RAY and array is None and not bound.arguments.get("cluster"):
        tokens = (*tokens, "--cluster", "auto")
    option = {"simulate": "workers", "generate": "threads"}.get(verb, "")
    if array is not None and not bound.arguments.get(option):
        tokens = (*tokens, f"--{option}", str(cores))
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
