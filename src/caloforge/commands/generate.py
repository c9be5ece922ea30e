"""`caloforge generate`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from caloforge.commands.options import Seed, Showers, Whole, Workers
from caloforge.commands.outcome import Outcome
from caloforge.commands.progress import Meter
from caloforge.errors import ConfigError


def generate(
    model: str | Path,
    *,
    out: Annotated[Path, Parameter(name=["-o", "--out"])],
    like: Path | None = None,
    n: Annotated[Showers | None, Parameter(name=["-n", "--n"])] = None,
    energy: str | None = None,
    theta: str = "90 deg",
    phi: str = "0 deg",
    particle: str | None = None,
    seed: Seed = 0,
    batch_size: Whole | None = None,
    backend: Literal["auto", "torch", "numba", "onnx", "openvino"] = "auto",
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto",
    device: str = "cpu",
    threads: Workers | None = None,
    extrapolate: Annotated[bool, Parameter(negative=())] = False,
    force: Annotated[bool, Parameter(negative=())] = False,
    progress: bool = True,
) -> Outcome:
    """Generate showers with a trained model.

    Args:
        model: A run directory, a model directory, or the name of a released model; see `caloforge list`.
        out: The shower file to write.
        like: Take the conditions, shower by shower, from this file (best for a comparison with it).
        n: Number of showers; with --like the first n of it.
        energy: "100 GeV", or a flat range "10 GeV:500 GeV"; the default is the trained range.
        theta: Polar angle, one value or a range; 90 deg is orthogonal incidence.
        phi: Azimuth, one value or a range.
        particle: e-, e+, gamma, pi0, mu-; the default is what the model was trained on.
        seed: Seed of the noise and of the sampled conditions.
        batch_size: Showers in one pass of the network; does not change them. The default is the fastest.
        backend: What runs the network. "auto" measures once which is the fastest, and remembers it; numba is
            machine code of the layered family; onnx and openvino need `pip install 'caloforge[onnx]'`.
        precision: Arithmetic of the network. "auto" is fp32, and bf16 or int8 where they are faster and the
            model's card says that its physics was checked for them.
        device: "cpu" or "cuda".
        threads: CPU threads; the default is all cores.
        extrapolate: Allow conditions outside the trained range.
        force: Replace an existing output.
        progress: Show progress.
    """
    if like is None and n is None and energy is None:
        raise ConfigError("give either --like FILE, or -n N with an optional --energy range")
    if like is not None and energy is not None:
        raise ConfigError("--energy has no meaning with --like, whose energies are used; drop one of them")
    if like is None and n is None:
        raise ConfigError("how many showers? give -n N")
    if n is not None and n < 1:
        raise ConfigError(f"-n: got {n}, expected at least 1")

    from caloforge.beam import beam_from_text
    from caloforge.generation.choice import plan_for
    from caloforge.generation.conditions import columns_like, columns_sampled
    from caloforge.generation.generate import generate_file
    from caloforge.generation.network import packages_of
    from caloforge.models.store import load_model, model_digest
    from caloforge.provenance import collect, digest_file

    network = load_model(model)
    facts: dict[str, Any] = {
        "engine": "caloforge generate",
        "family": network.family,
        "model_digest": model_digest(model),
    }
    if like is not None:
        columns = columns_like(Path(like), network, n)
        facts["like"] = {"name": Path(like).name, "sha256": digest_file(Path(like))}
    else:
        beam = beam_from_text(network.ranges, energy=energy, theta=theta, phi=phi, particle=particle)
        columns = columns_sampled(beam, seed, n or 0)
        facts["beam"] = beam.model_dump(mode="json")
    plan = plan_for(
        network,
        len(columns),
        backend=backend,
        precision=precision,
        batch_size=batch_size,
        threads=threads,
        device=device,
    )
    facts |= {"backend": plan.backend, "precision": plan.precision}
    with Meter("generate", len(columns), enabled=progress) as meter:
        generate_file(
            network,
            columns,
            Path(out),
            seed=seed,
            provenance=collect(packages=("torch", *packages_of(plan)), seed=seed, **facts),
            **asdict(plan),
            extrapolate=extrapolate,
            force=force,
            progress=meter.update,
        )
    how = f"{plan.backend} {plan.precision}, threads: {plan.threads}, batches of {plan.batch_size}"
    return Outcome(
        f"{len(columns)} showers in {out} ({how})",
        path=Path(out),
        n=len(columns),
        seed=seed,
        plan=asdict(plan),
    )
