"""`caloforge join`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from caloforge.commands.options import FilePath
from caloforge.commands.outcome import Outcome
from caloforge.commands.progress import Meter


def join(
    source: FilePath,
    *more: FilePath,
    out: Annotated[FilePath, Parameter(name=["-o", "--out"])],
    when_complete: Annotated[bool, Parameter(negative=())] = False,
    force: Annotated[bool, Parameter(negative=())] = False,
    progress: bool = True,
) -> Outcome:
    """Join shower files of one detector into one file, at constant memory.

    Parts of a campaign (`simulate --part`, `generate --part`) are put into their order: the file is the one
    that a single process would have written.

    Args:
        source: A shower file, or a pattern such as `train-*.h5`.
        more: Further files or patterns, appended in order.
        out: The shower file to write.
        when_complete: Join parts of a campaign only when all are there, and leave a file that was joined from
            them as it is: every part can then end with the same command.
        force: Replace an existing output.
        progress: Show progress.
    """
    from caloforge.showers.file_pattern import joined_path
    from caloforge.showers.joining import join_files

    out = Path(out)
    with Meter("join", 0, enabled=progress) as meter:
        result = join_files(
            joined_path([source, *more]),
            out,
            when_complete=when_complete,
            force=force,
            progress=meter.update,
        )
    if result.missing:
        text = f"{result.missing} of {result.total} showers are not there yet; nothing was joined"
        return Outcome(text, path=None, n=0, files=result.files, missing=result.missing)
    how = "was joined already" if result.existed else f"joined from {result.files} files"
    return Outcome(
        f"{result.total} showers in {out}, {how}", path=out, n=result.total, files=result.files, missing=0
    )
