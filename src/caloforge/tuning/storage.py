"""Storage of a study: its folder and lock, Optuna's journal, and the check of its configuration."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from caloforge.errors import ConfigError, OutputError
from caloforge.files import check_writable, write_text, writing
from caloforge.tuning.config import PrunerConfig, StudyConfig
from caloforge.tuning.samplers import make_sampler
from caloforge.tuning.space import Space, difference

if TYPE_CHECKING:
    from optuna import Study
    from optuna.pruners import BasePruner

JOURNAL, IDENTITY, LOCK = "journal.log", "identity.json", "lock"


@contextlib.contextmanager
def study_folder(out: Path) -> Iterator[Path]:
    """Create and lock the folder of a study.

    Raises:
        OutputError: It holds something else, another search has locked it, or it is not writable.
    """
    if out.exists() and not (out / IDENTITY).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} exists already and holds no study; choose another name")
    check_writable(out)
    with writing(out):
        out.mkdir(exist_ok=True)
    with (out / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(f"{out}: another search works on this study now") from error
        yield out


def check_identity(out: Path, identity: dict[str, Any]) -> bool:
    """Save the identity of a new study, or compare with the saved one.

    Args:
        out: Folder of the study.
        identity: Everything that must not change between searches, such as "space", by name.

    Returns:
        Whether the study existed before.

    Raises:
        ConfigError: The identities differ; the message lists the differences.
    """
    path = out / IDENTITY
    identity = json.loads(json.dumps(identity))
    if not path.is_file():
        write_text(path, json.dumps(identity, indent=1))
        return False
    kept = json.loads(path.read_text(encoding="utf-8"))
    lines = []
    for part in {**kept, **identity}:
        old, new = (d.get(part) for d in (kept, identity))
        if isinstance(old, dict) and isinstance(new, dict):
            lines += [f"  {part} {line}" for line in difference(_flat(old), _flat(new))]
        elif old != new:
            lines.append(f"  {part} ~ {json.dumps(old)} -> {json.dumps(new)}")
    if lines:
        shown = "\n".join(lines[:20])
        raise ConfigError(
            f"{out}: this study was begun with another configuration (- then, + now):\n{shown}\n"
            "Its trials cannot be compared with new ones: undo the change, or choose another -o"
        )
    return True


def _flat(document: Any, path: str = "") -> dict[str, Any]:
    """Flatten a document to values by path; keys that contain dots are not split."""
    if not isinstance(document, dict) or not document:
        return {path: document}
    parts = (_flat(value, f"{path} › {key}" if path else str(key)) for key, value in document.items())
    return {name: value for part in parts for name, value in part.items()}


def open_study(out: Path, config: StudyConfig, space: Space) -> Study:
    """Open the study of a folder, or create it.

    A last line of the journal that was truncated by a kill is removed.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = out / JOURNAL
    _drop_partial_line(path)
    storage = JournalStorage(JournalFileBackend(str(path), lock_obj=cast("Any", _NoLock())))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = make_sampler(config.sampler, seed=config.seed, objectives=len(config.objectives))
        study = optuna.create_study(
            study_name=config.name,
            storage=storage,
            sampler=sampler,
            pruner=_pruner(config.pruner),
            directions=[objective.direction for objective in config.objectives],
            load_if_exists=True,
        )
        study.set_metric_names([objective.figure for objective in config.objectives])
    study.set_user_attr("space", space.describe())
    return study


class _NoLock:
    """No lock of the journal: the folder is locked, and Optuna's lock file would survive a killed search."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def _drop_partial_line(path: Path) -> None:
    """Truncate the journal after its last complete line."""
    if not path.is_file():
        return
    with path.open("rb+") as stream:
        content = stream.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            stream.truncate(whole)
            os.fsync(stream.fileno())


def _pruner(config: PrunerConfig) -> BasePruner:
    from optuna import pruners

    if config.kind == "asha":
        return pruners.SuccessiveHalvingPruner(min_resource=config.first, reduction_factor=config.reduction)
    if config.kind == "hyperband":
        return pruners.HyperbandPruner(
            min_resource=config.first, max_resource=config.last, reduction_factor=config.reduction
        )
    return pruners.NopPruner()
