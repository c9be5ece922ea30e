"""`caloforge import` and `caloforge convert`: conversion from and to foreign formats."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from caloforge.commands.options import FilePath
from caloforge.commands.outcome import Outcome
from caloforge.commands.progress import Meter
from caloforge.geometry import load_detector


def import_(
    source: FilePath,
    *more: FilePath,
    out: Annotated[FilePath, Parameter(name=["-o", "--out"])],
    format: str,  # noqa: A002 - the name of the option
    detector: str | None = None,
    particle: str | None = None,
    dataset: Literal["1-photons", "1-pions", "2", "3"] | None = None,
    binning: FilePath | None = None,
    visible: Annotated[bool, Parameter(negative=())] = False,
    force: Annotated[bool, Parameter(negative=())] = False,
    progress: bool = True,
) -> Outcome:
    """Read foreign shower data into a shower file.

    Args:
        source: A file of the foreign format.
        more: Further files, appended in order.
        out: The shower file to write.
        format: Format of the files: 3dgan, calochallenge, par04, showerdata, or that of a plug-in.
        detector: Detector preset or YAML; the default is the one of the format.
        particle: Incident particle, where the format does not store it.
        dataset: CaloChallenge data set.
        binning: A CaloChallenge binning XML, for data of your own.
        visible: Undo the sampling-fraction correction of CaloChallenge sets 2 and 3 and of LEMURS.
        force: Replace an existing output.
        progress: Show progress.
    """
    from caloforge.showers.converters import import_file

    with Meter("import", 0, enabled=progress) as meter:
        path = import_file(
            [Path(source), *map(Path, more)],
            Path(out),
            format=format,
            detector=load_detector(detector) if detector else None,
            particle=particle,
            dataset=dataset,
            binning=None if binning is None else Path(binning),
            visible=visible,
            force=force,
            progress=meter.update,
        )
    return _imported(path)


def _imported(path: Path) -> Outcome:
    """Summary of an imported file, and the next step."""
    from caloforge.models.registry import families_for
    from caloforge.showers import ShowerFile

    with ShowerFile(path) as file:
        detector, meaning, count = file.detector, file.energy_meaning, len(file)
        negative = int(file.provenance["negative_cells"])
    families = families_for(detector)
    lines = [
        f"imported into {path}: {count} showers in {detector.name} {detector.shower_shape}, {meaning} energy"
    ]
    if negative:
        lines.append(f"{negative} cells are below zero; they are kept as they are")
    if detector.mesh.kind == "ragged":
        lines.append(f"the mesh is ragged; model families that take one: {', '.join(families)}")
    lines.append(f"next: caloforge init --from {path}")
    return Outcome(
        "\n".join(lines),
        path=path,
        showers=count,
        detector=detector.name,
        energy_meaning=meaning,
        negative_cells=negative,
        families=families,
    )


def convert(
    source: FilePath,
    *,
    out: Annotated[FilePath, Parameter(name=["-o", "--out"])],
    to: str,
    force: Annotated[bool, Parameter(negative=())] = False,
    progress: bool = True,
) -> Outcome:
    """Write a shower file in a foreign format.

    Args:
        source: A shower file.
        out: The file to write.
        to: The format: 3dgan, calochallenge, par04, showerdata, or that of a plug-in.
        force: Replace an existing output.
        progress: Show progress.
    """
    from caloforge.showers.converters import export_file

    with Meter("convert", 0, enabled=progress) as meter:
        path = export_file(Path(source), Path(out), format=to, force=force, progress=meter.update)
    return Outcome(f"converted to {path}", path=path)
