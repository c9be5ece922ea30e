"""Joining shower files into one, at constant memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from caloforge import provenance
from caloforge.errors import DataError, Interrupted
from caloforge.files import check_new, check_space
from caloforge.showers.file import ShowerFile
from caloforge.showers.file_pattern import files_of
from caloforge.showers.joined import JoinedShowers
from caloforge.showers.joined_provenance import ShowerInterval, interval_of
from caloforge.showers.writer import ShowerWriter
from caloforge.signals import StopRequest

# showers that are read at once; rounded to whole chunks
BATCH = 256
# threads that compress
MAX_THREADS = 8


@dataclass(frozen=True)
class Joining:
    """What was joined.

    Attributes:
        files: Number of files.
        total: Showers of all of them; of the whole campaign where some are missing.
        missing: Showers of a campaign whose parts are not there yet; then nothing was written.
        existed: The output held these showers already.
    """

    files: int
    total: int
    missing: int = 0
    existed: bool = False


def join_files(
    paths: Path,
    out: Path,
    *,
    when_complete: bool = False,
    force: bool = False,
    progress: Callable[[int, int], object] = lambda *_: None,
) -> Joining:
    """Write the showers of several files to one, which appears only when it is complete.

    Args:
        paths: A pattern, see `caloforge.showers.file_pattern`.
        out: The shower file to write.
        when_complete: Write nothing while parts of a campaign are missing, or where the output holds the
            campaign already.
        force: Replace an existing output.
        progress: Called with (showers done, total).

    Raises:
        DataError: Files that cannot be read as one; the output among them.
        OutputError: The output exists without `force`, cannot be written, or the disk is full.
        Interrupted: Ctrl-C or SIGTERM; nothing is left behind.
    """
    _check_output_apart(paths, out)
    with JoinedShowers(paths) as files:
        if when_complete:
            intervals = files.intervals
            if (missing := _missing(files)) > 0:
                return Joining(len(files.paths), intervals[0].total, missing)
            if out.exists() and _holds(out, intervals[0]):
                return Joining(len(files.paths), len(files), existed=True)
        check_new(out, force=force)
        check_space(out, sum(path.stat().st_size for path in files.paths), f"a file of {len(files)} showers")
        _write(files, out, force=force or when_complete, progress=progress)
        return Joining(len(files.paths), len(files))


def _check_output_apart(paths: Path, out: Path) -> None:
    if out.exists() and any(name.exists() and name.samefile(out) for name in files_of(paths)):
        raise DataError(
            f"{out}: the output is one of the files to join; name another one, or a pattern without it"
        )


def _missing(files: JoinedShowers) -> int:
    """Showers of a campaign that none of its parts holds.

    Raises:
        DataError: The files are not parts of one campaign.
    """
    intervals = files.intervals
    if len(intervals) != len(files.paths) or len({interval.source for interval in intervals}) != 1:
        raise DataError(
            "--when-complete: the files are not parts of one campaign, which simulate --part and "
            "generate --part make; leave the option out to join any files"
        )
    return intervals[0].total - sum(interval.last - interval.first for interval in intervals)


def _holds(out: Path, part: ShowerInterval) -> bool:
    """Whether a file holds the whole campaign of a part."""
    with ShowerFile(out) as file:
        found = interval_of(file.provenance, file.detector.geometry_digest, len(file))
    return found == ShowerInterval(part.source, 0, part.total, part.total)


def _write(files: JoinedShowers, out: Path, *, force: bool, progress: Callable[[int, int], object]) -> None:
    facts = {**provenance.collect(packages=("numpy", "h5py")), **files.provenance}
    threads = min(MAX_THREADS, len(os.sched_getaffinity(0)))
    with (
        StopRequest() as stop,
        ThreadPoolExecutor(threads) as pool,
        ShowerWriter(
            out,
            files.detector,
            facts,
            energy_meaning=files.energy_meaning,
            with_seconds=files.has_seconds,
            force=force,
            pool=pool,
        ) as writer,
    ):
        for batch in files.iterate(BATCH):
            writer.append(batch)
            progress(writer.count, len(files))
            if stop.requested:
                raise Interrupted(f"stopped; {out} was not written: join the files again")
