"""Import and export of foreign formats: 3DGAN, CaloChallenge, Par04 and the point clouds of showerdata.

Files are read and written in blocks, at constant memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from caloforge.errors import ConfigError, OutputError, nearest
from caloforge.files import check_new
from caloforge.foreign_formats import BUILT_IN, FORMATS, OPTIONS
from caloforge.geometry import Detector
from caloforge.provenance import collect
from caloforge.showers.converters.binning import DATASETS
from caloforge.showers.converters.common import Progress, Source
from caloforge.showers.file import ShowerFile
from caloforge.showers.writer import ShowerWriter

__all__ = ["export_file", "import_file"]


def import_file(
    paths: Sequence[Path],
    out: Path,
    *,
    format: str,  # noqa: A002 - the name of the option
    detector: Detector | None = None,
    particle: str | None = None,
    dataset: str | None = None,
    binning: Path | None = None,
    visible: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Read foreign files into one shower file.

    Args:
        paths: Files of the format, appended in order.
        out: The shower file; appears only when complete.
        format: Format of the files.
        detector: Detector of the showers; by default the one of the format.
        particle: Incident particle ("e-", "gamma", ...), where the files do not say.
        dataset: Which CaloChallenge data set: "1-photons", "1-pions", "2" or "3".
        binning: A CaloChallenge binning XML.
        visible: Undo the sampling-fraction correction of the Par04 stack.
        force: Replace an existing output.
        progress: Called with (done, total).

    Returns:
        The shower file.

    Raises:
        DataError: A file that is damaged, of another layout, or holds impossible values.
        ConfigError: Options that do not apply to the format.
        OutputError: The output exists without `force`, or cannot be written.
    """
    out = _check_output(Path(out), paths, force)
    source = _open(paths, format, detector, particle, dataset, binning, visible)
    provenance = collect(engine="imported", format=format, **source.facts)
    negative = 0
    with ShowerWriter(
        out, source.detector, provenance, energy_meaning=source.energy_meaning, force=force
    ) as writer:
        for batch in source.batches:
            writer.append(batch)
            negative += int(np.count_nonzero(batch.showers < 0))
            if progress is not None:
                progress(writer.count, source.total)
        writer.update_provenance(negative_cells=negative)
    return out


def _open(
    paths: Sequence[Path],
    format: str,  # noqa: A002
    detector: Detector | None,
    particle: str | None,
    dataset: str | None,
    binning: Path | None,
    visible: bool,
) -> Source:
    if not paths:
        raise ConfigError("nothing to import; name at least one file")
    converter = FORMATS.get(format, "format")
    if dataset is not None and dataset not in DATASETS:
        raise ConfigError(f"--dataset: got {dataset!r}. {nearest(dataset, DATASETS)}")
    given = {"dataset": dataset, "binning": binning, "visible": visible}
    for option in OPTIONS:
        if given[option] not in (None, False) and option not in converter.options:
            able = [name for name, known in BUILT_IN.items() if option in known.options]
            raise ConfigError(f"--{option} belongs to --format {' and '.join(able)}; leave it out")
    source: Source = FORMATS.resolve(format, converter.open)(
        paths, detector, particle, **{name: given[name] for name in converter.options}
    )
    return source


def export_file(
    src: Path,
    out: Path,
    *,
    format: str,  # noqa: A002 - as in `import_file`
    force: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write a shower file in a foreign format.

    Args:
        src: A shower file.
        out: The file to write; appears only when complete.
        format: "3dgan" (cartesian meshes), "calochallenge" (cylindrical and ragged ones),
            "par04" (cylindrical ones), "showerdata" (all but ragged ones), or that of a plug-in.
        force: Replace an existing output.
        progress: Called with (done, total).

    Returns:
        The new file.

    Raises:
        DataError: Not a shower file, or showers that the format cannot hold.
        ConfigError: An unknown format.
        OutputError: The output exists without `force`, or cannot be written.
    """
    out = _check_output(Path(out), [src], force)
    write = FORMATS.resolve(format, FORMATS.get(format, "format").write)
    with ShowerFile(src) as showers:
        write(showers, out, force=force, progress=progress)
    return out


def _check_output(out: Path, inputs: Sequence[Path], force: bool) -> Path:
    check_new(out, force=force)
    if out.exists() and any(Path(path).exists() and out.samefile(path) for path in inputs):
        raise OutputError(f"{out}: this is the input; choose another output")
    return out
