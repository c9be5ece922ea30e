"""A campaign from its missing blocks to its output: the same for simulations, events and generations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from caloforge import provenance
from caloforge.campaign.parts import DamagedBlockError, Parts
from caloforge.campaign.pool import BlockSize, Pool
from caloforge.campaign.ray_pool import RayPool
from caloforge.errors import ConfigError, Interrupted, OutputError, SimulationError
from caloforge.signals import StopRequest

Progress = Callable[..., object]
Merged = TypeVar("Merged")

MAX_WORKERS = 1024
# how often damaged blocks are made again before the campaign fails
MAX_MERGES = 3


@dataclass(frozen=True)
class Workers:
    """What makes the blocks of a campaign.

    Attributes:
        module: What each worker process runs.
        job: What it needs to know, as JSON document.
        count: Number of workers; the default is one, or one for each core of the cluster.
        cluster: Address of a Ray cluster; by default the workers run here.
        packages: Distributions that must have one version on all nodes.
        block_size: Limits on the blocks.
        reports: Name, in the manifest, of the version that a worker reports.
    """

    module: str
    job: Mapping[str, Any]
    count: int | None = None
    cluster: str | None = None
    packages: tuple[str, ...] = ()
    block_size: BlockSize = field(default_factory=BlockSize)
    reports: str = "geant4"

    def open(self, folder: Path) -> Pool | RayPool:
        """The pool that writes blocks to a folder."""
        if self.cluster is None:
            return Pool(dict(self.job), folder, self.count or 1, self.module, self.block_size)
        return RayPool(
            dict(self.job),
            folder,
            self.count,
            self.module,
            self.cluster,
            packages=self.packages,
            block_size=self.block_size,
        )


def parts_folder(out: Path) -> Path:
    """Where the finished blocks of an output lie until all are there."""
    return out.absolute().with_name(f"{out.name}.parts")


def check_workers(count: int | None) -> None:
    """Check a number of workers.

    Raises:
        ConfigError: None, or too many.
    """
    if count is not None and not 1 <= count <= MAX_WORKERS:
        raise ConfigError(f"workers: got {count}, expected 1 to {MAX_WORKERS}; one per core is best")


def check_no_blocks(folder: Path, *, resume: bool, force: bool) -> None:
    """Refuse to remove the blocks of an interrupted campaign without being told to.

    Raises:
        OutputError: There are some.
    """
    if not resume and not force and any(folder.glob("*.npz")):
        raise OutputError(
            f"{folder}: an interrupted campaign is there; give --resume to continue it, or --force to start "
            "again"
        )


def complete(
    parts: Parts,
    workers: Workers,
    merge: Callable[[Callable[[], None]], Merged],
    *,
    load: Callable[[Path], object],
    out: Path,
    verb: str,
    what: str = "showers",
    progress: Progress = lambda *_: None,
    say: Callable[[str], object] = lambda _: None,
) -> Merged:
    """Make the missing blocks, merge all of them to the output, and remove them.

    Args:
        parts: The folder of the campaign, entered.
        workers: What makes the blocks.
        merge: Writes the output; it raises `DamagedBlockError` for a damaged block. Calls its argument
            now and then, which raises `Interrupted` when a stop is requested.
        load: Reads a block, and removes it if it is damaged.
        out: The output, for messages.
        verb: What the user called, for messages.
        what: What the blocks consist of.
        progress: Called with (done, total), on a cluster also with a note on its nodes.
        say: Called with notes to the user.

    Returns:
        What `merge` returns.

    Raises:
        SimulationError: Workers that keep dying, or blocks that are damaged again and again.
        Interrupted: Ctrl-C or SIGTERM; finished blocks are kept.
    """
    with StopRequest() as stop:

        def end_if_asked() -> None:
            if stop.requested:
                raise Interrupted(_resume_hint(parts, out, verb, what))

        for _ in range(MAX_MERGES):
            _make(parts, workers, stop, progress)
            end_if_asked()
            try:
                merged = merge(end_if_asked)
            except DamagedBlockError as error:
                parts.remove_damaged(load)
                lost = parts.count - parts.finished()
                say(f"{str(error).partition(':')[0]} was damaged: {lost} {what} are made again")
            else:
                parts.remove()
                return merged
        raise SimulationError(
            f"{parts.folder}: finished blocks were damaged {MAX_MERGES} times; look at the disk, or choose "
            "an output on another one"
        )


def _make(parts: Parts, workers: Workers, stop: StopRequest, progress: Progress) -> None:
    """Make the missing blocks, until a stop is requested."""
    missing = parts.missing()
    done = parts.finished()
    progress(done, parts.count)
    if not missing:
        return
    with workers.open(parts.folder) as pool:
        for interval, facts in pool.run(missing):
            if interval is not None:
                done += interval[1] - interval[0]
                progress(done, parts.count, *pool.progress)
            elif "version" in facts:
                parts.record(**{workers.reports: facts["version"]})
            if stop.requested:
                return


def _resume_hint(parts: Parts, out: Path, verb: str, what: str) -> str:
    done = parts.finished()
    command = provenance.command_line()
    # another verb, such as the demo, may have started it
    if not command.startswith(f"caloforge {verb} "):
        how = f"call the same {verb.replace('-', '_')} with resume=True"
    else:
        how = f"continue with: {command}" + ("" if "--resume" in command else " --resume")
    if not done:
        how = "start it again with the same command"
    return f"stopped; {done} of {parts.count} {what} of {out} are kept: {how}"
