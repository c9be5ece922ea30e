"""Collection of the data of a model card from model.json, validation reports and a benchmark."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from caloforge import provenance
from caloforge.cards.figures import figures
from caloforge.errors import DataError, ModelError
from caloforge.files import read_regular

Json = dict[str, Any]
# key of model.json that holds the collected data
KEY = "card"
REFERENCE_PRECISION = "fp32"
# supported version of metrics.json
LAYOUT = 2
# more than a report of many generators has
MAX_BYTES = 2**27


def collect_card(
    card: Json, reports: Sequence[Path], *, benchmark: Path | None = None, data: Sequence[Path] = ()
) -> Json:
    """A model.json with the data of a card under "card", and the validated precisions in its facts.

    Args:
        card: The model.json.
        reports: Report directories of `caloforge validate` for showers of this model, or their metrics.json.
        benchmark: A benchmark.json with timings of this model, or its directory.
        data: Shower files it was trained on, where the training did not record them.

    Raises:
        DataError: A document that cannot be read, or a report on showers that were trained on.
        ModelError: A report or benchmark of other weights.
    """
    digest = card["weights_sha256"]
    training = list(card.get("data", []))
    training += [
        record for path in data if not _digests_of([record := _training_record(path)]) & _digests_of(training)
    ]
    validations = []
    for path in reports:
        with _complete(path):
            validations.append(_validation(path, digest, training))
    timing = None
    if benchmark is not None:
        with _complete(benchmark):
            timing = _timing(benchmark, digest)
    checked = _precisions(validations)
    document: Json = {
        **card,
        "facts": {**card["facts"], "precisions": checked},
        "data": training,
        KEY: {
            **provenance.collect(),
            "validations": validations,
            "timing": timing,
        },
    }
    shared: Json = _without_folders(document)
    return shared


def _without_folders(value: Any, key: str = "") -> Any:
    """A document with absolute paths in commands replaced by file names."""
    if isinstance(value, dict):
        return {name: _without_folders(entry, name) for name, entry in value.items()}
    if isinstance(value, list):
        return [_without_folders(entry) for entry in value]
    if key == "command" and isinstance(value, str):
        words = shlex.split(value)
        return shlex.join(Path(word).name if Path(word).is_absolute() else word for word in words)
    return value


def _training_record(path: Path) -> Json:
    # imported here: caloforge list imports the cards and must not load h5py
    from caloforge.models.training_metadata import data_record

    record = data_record(path, 0)
    return {**record, "trained_on": record["showers"]}


def _digests_of(records: Sequence[Json]) -> set[str]:
    """The digests of recorded files: of each file, and where several were read as one, of all."""
    return {
        part["sha256"]
        for record in records
        for part in (record, *record.get("files", ()))
        if part.get("sha256")
    }


@contextlib.contextmanager
def _complete(path: Path) -> Iterator[None]:
    """Turn what a missing or changed entry of a document raises into a `DataError`."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise DataError(f"{path}: incomplete or changed ({error!r}); make it again") from error


def _read(path: Path, name: str, kind: str) -> Json:
    """Read a JSON document, given by its path or its directory; checks its format."""
    path = path / name if path.is_dir() else path
    if not path.exists():
        raise DataError(f"{path}: no such file; expected what {kind} writes")
    try:
        document = json.loads(read_regular(path, MAX_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON; expected what {kind} writes") from error
    if not isinstance(document, dict) or document.get("format") != f"caloforge-{Path(name).stem}":
        raise DataError(f"{path}: not a {name} of {kind}")
    return document


def _validation(path: Path, digest: str, training: Sequence[Json]) -> Json:
    """The data of one validation report that a card holds."""
    metrics = _read(path, "metrics.json", "caloforge validate")
    if metrics["version"] != LAYOUT:
        raise DataError(
            f"{path}: its metrics.json has layout {metrics['version']}, expected {LAYOUT}; validate again"
        )
    name = _sample_of_model(path, metrics, digest)
    truth, found = metrics["truth"], metrics["generators"][name]
    files = metrics["provenance"]["files"]
    _check_unseen(path, files[truth["name"]], training)
    generated = files[name]
    return {
        "truth": {"file": truth["file"], "energy_MeV": truth["incident_energy_MeV"], **files[truth["name"]]},
        "generated": {"showers": found["sample"]["showers"], **generated},
        "showers": truth["showers"],
        "precision": generated.get("precision", REFERENCE_PRECISION),
        "backend": generated.get("backend", "torch"),
        "thresholds": metrics["thresholds"]["name"],
        "summary": metrics["thresholds"]["summary"],
        "hit_threshold_MeV": metrics["hit_threshold_MeV"],
        "passed": found["passed"],
        "trials": found["trials"],
        "undecided": found["undecided"],
        "showers_needed": found["showers_needed"],
        "failures": _failures(found["failures"], {b["key"]: b["label"] for b in metrics["bins"]}),
        "verdict": found["sentence"],
        "figures": figures(metrics, name),
        "command": metrics["provenance"]["command"],
        "caloforge": metrics["provenance"]["caloforge"],
        "notes": metrics["notes"],
    }


def _sample_of_model(path: Path, metrics: Json, digest: str) -> str:
    """The name of the sample in a report that this model generated."""
    known: dict[str, str | None] = {
        name: entry["sample"]["provenance"].get("model_digest")
        for name, entry in metrics["generators"].items()
    }
    for name, made_by in known.items():
        if made_by == digest:
            return name
    listed = ", ".join(f"{name} by {str(made)[:12]}" for name, made in known.items())
    raise ModelError(
        f"{path}: has no showers of these weights ({digest[:12]}), but {listed}; generate with "
        "this model, validate, and write the card anew"
    )


def _check_unseen(path: Path, truth: Json, training: Sequence[Json]) -> None:
    """Refuse a validation against showers of the training data."""
    from caloforge.showers.joined_provenance import parts_of

    simulations = [part["simulation"] for part in parts_of(truth) if "simulation" in part]
    for record in training:
        # campaigns with the same settings share showers, whatever their number
        again = any(part.get("simulation") in simulations for part in parts_of(record["provenance"]))
        if again or _digests_of([record]) & _digests_of([truth]):
            raise DataError(
                f"{path}: its truth {truth['file']} is what the model was trained on ({record['file']}); "
                "validate against showers of another seed"
            )


def _failures(failures: Sequence[Json], bins: dict[str, str]) -> list[Json]:
    """The first, which is the clearest, failure of each observable, and their number."""
    grouped: dict[str, Json] = {}
    for failure in failures:
        entry = grouped.setdefault(
            failure["observable"],
            {
                "observable": failure["observable"],
                "metric": failure["metric"],
                "where": bins[failure["bin"]],
                "value": failure["value"],
                "uncertainty": failure["uncertainty"],
                "threshold": failure["threshold"],
                "count": 0,
            },
        )
        entry["count"] += 1
    return list(grouped.values())


def _precisions(validations: Sequence[Json]) -> list[str]:
    """Precisions in which no observable fails that does not fail in fp32 as well."""
    checked = [REFERENCE_PRECISION]
    plain = [_failing(v) for v in validations if v["precision"] == REFERENCE_PRECISION]
    for report in validations:
        name = report["precision"]
        if name not in checked and (
            not report["failures"] or any(_failing(report) <= fails for fails in plain)
        ):
            checked.append(name)
    return checked


def _failing(validation: Json) -> set[str]:
    return {failure["observable"] for failure in validation["failures"]}


def _timing(path: Path, digest: str) -> Json:
    """The rows of this model and of Geant4 in a benchmark, and its machine."""
    document = _read(path, "benchmark.json", "caloforge benchmark")
    measured = [row for row in document["results"] if row["status"] == "measured"]
    own = [row for row in measured if row.get("model_digest") == digest]
    if not own:
        names = ", ".join({row["name"] for row in document["results"]})
        raise ModelError(f"{path}: these weights ({digest[:12]}) were not timed, only {names}")
    keys = ("backend", "precision", "threads", "batch", "to_disk", "ms", "low", "high", "times_geant4")
    return {
        "machine": document["machine"],
        "command": document["command"],
        "created": document["created"],
        "geant4": [
            {key: row[key] for key in ("threads", "ms", "low", "high")}
            for row in measured
            if row["kind"] == "full simulation"
        ],
        "rows": [{key: row[key] for key in keys if key in row} for row in own],
    }
