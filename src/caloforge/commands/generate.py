"""`caloforge generate`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, overload

from cyclopts import Parameter

from caloforge.campaign_part import Part
from caloforge.commands.options import SEVERAL, FilePath, FilePaths, Seed, Showers, Whole, Workers
from caloforge.commands.outcome import Outcome
from caloforge.commands.progress import Meter
from caloforge.errors import ConfigError
from caloforge.output import write_line

if TYPE_CHECKING:
    from caloforge.conditions import Conditions
    from caloforge.models.store import StoredModel
    from caloforge.showers import ShowerBatch

Precision = Literal["auto", "fp32", "bf16", "int8"]


@overload
def generate(
    model: str | Path,
    *,
    out: FilePath,
    like: FilePaths | None = None,
    n: int | None = None,
    energy: str | None = None,
    theta: str | None = None,
    phi: str | None = None,
    particle: str | None = None,
    impact: Literal["centre", "cell"] | None = None,
    seed: int = 0,
    part: str | None = None,
    cluster: str | None = None,
    resume: bool = False,
    batch_size: int | None = None,
    backend: str = "auto",
    precision: Precision = "auto",
    device: str = "cpu",
    threads: int | None = None,
    extrapolate: bool = False,
    allow_large: bool = False,
    force: bool = False,
    progress: bool = True,
) -> Outcome: ...


@overload
def generate(
    model: str | Path,
    *,
    out: None = None,
    like: FilePaths | None = None,
    n: int | None = None,
    energy: str | None = None,
    theta: str | None = None,
    phi: str | None = None,
    particle: str | None = None,
    impact: Literal["centre", "cell"] | None = None,
    seed: int = 0,
    part: str | None = None,
    cluster: str | None = None,
    resume: bool = False,
    batch_size: int | None = None,
    backend: str = "auto",
    precision: Precision = "auto",
    device: str = "cpu",
    threads: int | None = None,
    extrapolate: bool = False,
    allow_large: bool = False,
    force: bool = False,
    progress: bool = True,
) -> "ShowerBatch": ...


def generate(
    model: str | Path,
    *,
    out: Annotated[FilePath | None, Parameter(name=["-o", "--out"], required=True)] = None,
    like: Annotated[FilePaths | None, SEVERAL] = None,
    n: Annotated[Showers | None, Parameter(name=["-n", "--n"])] = None,
    energy: str | None = None,
    theta: str | None = None,
    phi: str | None = None,
    particle: str | None = None,
    impact: Literal["centre", "cell"] | None = None,
    seed: Seed = 0,
    part: str | None = None,
    cluster: str | None = None,
    resume: Annotated[bool, Parameter(negative=())] = False,
    batch_size: Whole | None = None,
    backend: str = "auto",
    precision: Precision = "auto",
    device: str = "cpu",
    threads: Workers | None = None,
    extrapolate: Annotated[bool, Parameter(negative=())] = False,
    allow_large: Annotated[bool, Parameter(negative=())] = False,
    force: Annotated[bool, Parameter(negative=())] = False,
    progress: bool = True,
) -> Any:
    """Generate showers with a trained model.

    Args:
        model: A run directory, a model directory, or the name of a released model; see `caloforge list`.
        out: The shower file to write. From Python it may be left out: the showers are returned.
        like: Take the conditions, shower by shower, from this file (best for a comparison with it). Several
            files, or a pattern such as `truth-*.h5`, are read as one.
        n: Number of showers; with --like, its first n.
        energy: "100 GeV", or a flat range "10 GeV:500 GeV"; the default is the trained range.
        theta: Polar angle, one value or a range; the default is 90 deg, orthogonal incidence, or the trained
            range where that is outside of it.
        phi: Azimuth, one value or a range; the default is 0 deg, or the trained range.
        particle: e-, e+, gamma, pi0, mu-; the default is what the model was trained on.
        impact: Where the particles enter: "centre", on the axis of the mesh, or anywhere in a "cell" around
            it; the default is what the model was trained on.
        seed: Seed of the noise and of the sampled conditions.
        part: Make one of several equal parts alone, such as 3/16, into a file named OUT-3-of-16.h5;
            `caloforge join` makes one file of them.
        cluster: A Ray cluster that generates on all its nodes, such as auto or ray://head:10001.
        resume: Continue an interrupted generation on a cluster, on any other or here. A finished output of
            the same command is left as it is, so that batch jobs can always set it.
        batch_size: Showers per pass of the network; has no effect on the showers. The default is the fastest.
        backend: Runtime of the network. "auto" selects the fastest: numba (compiled code of the layered
            family), or the result of a cached measurement; otherwise torch, onnx or openvino (these two need
            the extra `onnx`), or that of a plug-in.
        precision: Precision of the network. "auto" is fp32, or bf16 or int8 where these are faster and the
            model's card says that they were validated.
        device: "cpu" or "cuda".
        threads: CPU threads; the default is all cores. On a cluster the number of workers, of one thread
            each; the default is one for each of its cores.
        extrapolate: Allow conditions outside the trained range.
        allow_large: Allow a model of more than 100 million numbers, which may exhaust the memory.
        force: Replace an existing output.
        progress: Show progress.

    Returns:
        A summary of the file that was written, or the showers (`ShowerBatch`) without `out`.
    """
    if like is None and n is None and energy is None:
        raise ConfigError("give either --like FILE, or -n N with an optional --energy range")
    if like is not None and energy is not None:
        raise ConfigError("--energy has no meaning with --like, whose energies are used; drop one of them")
    if like is not None and impact is not None:
        raise ConfigError("--impact has no meaning with --like, whose impacts are used; drop one of them")
    if like is None and n is None:
        raise ConfigError("how many showers? give -n N")
    if n is not None and n < 1:
        raise ConfigError(f"-n: got {n}, expected at least 1")

    from caloforge.generation.backend_selection import all_cores, plan_for
    from caloforge.generation.campaign import discard_blocks, generate_campaign, has_blocks
    from caloforge.generation.generate import check_memory, check_output, generate_batch, generate_file
    from caloforge.generation.model_provenance import provenance_of
    from caloforge.models.store import read_model

    if out is None and (part is not None or resume or cluster is not None):
        raise ConfigError("--part, --cluster and --resume are for files; give -o FILE")
    stored = read_model(model, allow_large=allow_large)
    piece = None if part is None else Part.parse(part)
    if out is not None:
        out = Path(out) if piece is None else piece.path(Path(out))
    # before sampling: for very many showers the conditions alone would not fit into the memory
    if n is not None and out is None:
        check_memory(stored.detector, n)
    elif n is not None and out is not None and not (resume and Path(out).exists()):
        check_output(Path(out), stored.detector, n, force=force)
    conditions, condition_source = _conditions(stored, like, n, energy, theta, phi, particle, impact, seed)
    total = len(conditions)
    first, last = (0, total) if piece is None else piece.interval(total)
    conditions = conditions[first:last]
    if (
        resume
        and out is not None
        and _is_finished(out, stored, {**condition_source, "seed": seed}, (first, last, total))
    ):
        discard_blocks(Path(out))
        text = f"{len(conditions)} showers in {out}, which was finished already"
        return Outcome(text, path=Path(out), n=len(conditions), seed=seed, plan=None)
    # what an interrupted campaign has made is used, also without its cluster
    in_blocks = out is not None and (cluster is not None or has_blocks(Path(out)))
    plan = plan_for(
        stored,
        len(conditions),
        backend=backend,
        precision=precision,
        batch_size=batch_size,
        threads=1 if in_blocks else threads,
        device=device,
        say=(lambda text: write_line(f"generate: {text}")) if progress else lambda _: None,
    )
    how = f"{plan.backend} {plan.precision}, threads: {plan.threads}, batches of {plan.batch_size}"
    with Meter("generate", len(conditions), enabled=progress) as meter:
        options: dict[str, Any] = {"plan": plan, "seed": seed, "extrapolate": extrapolate}
        options["progress"] = meter.update
        if out is None:
            return generate_batch(stored, conditions, **options)
        which = {"n": total} if piece is None else {"n": total, "interval": [first, last]}
        provenance = provenance_of(stored, plan, seed, condition_source | which)
        options |= {"provenance": provenance, "first": first, "force": force}
        if in_blocks:
            workers = threads if cluster is not None else threads or all_cores()
            options |= {"workers": workers, "cluster": cluster, "resume": resume, "total": total}
            generate_campaign(stored, conditions, Path(out), condition_source=condition_source, **options)
            how = f"{plan.backend} {plan.precision}, batches of {plan.batch_size}"
        else:
            generate_file(stored, conditions, Path(out), **options)
    return Outcome(
        f"{len(conditions)} showers in {out} ({how})",
        path=Path(out),
        n=len(conditions),
        seed=seed,
        plan=asdict(plan),
    )


def _is_finished(
    out: FilePath, model: "StoredModel", condition_source: dict[str, Any], interval: tuple[int, int, int]
) -> bool:
    """Whether the output holds these showers of this model."""
    from caloforge.showers import ShowerFile
    from caloforge.showers.joined_provenance import interval_of

    if not Path(out).exists():
        return False
    geometry = model.detector.geometry_digest
    with ShowerFile(out) as file:
        found = interval_of(file.provenance, file.detector.geometry_digest, len(file))
    first, last, total = interval
    facts = {**condition_source, "model_digest": model.weights_sha256, "n": total, "interval": [first, last]}
    return found is not None and found == interval_of(facts, geometry, last - first)


def _conditions(
    model: "StoredModel",
    like: FilePaths | None,
    n: int | None,
    energy: str | None,
    theta: str | None,
    phi: str | None,
    particle: str | None,
    impact: str | None,
    seed: int,
) -> tuple["Conditions", dict[str, Any]]:
    """The incident conditions, and their entries in the provenance."""
    from caloforge.beam import beam_from_text
    from caloforge.generation import model_provenance
    from caloforge.generation.conditions import conditions_like, conditions_sampled
    from caloforge.showers.file_pattern import joined_path

    if like is not None:
        path = joined_path(like)
        return conditions_like(path, model.detector, n), model_provenance.like(path)
    beam = beam_from_text(model.claim, energy=energy, theta=theta, phi=phi, particle=particle, impact=impact)
    condition_source = {"beam": beam.model_dump(mode="json")}
    return conditions_sampled(beam, model.detector.mesh, seed, n or 0), condition_source
