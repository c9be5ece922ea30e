"""Tests on request, which take minutes to hours: neural classifiers, TriForce, CaloChallenge protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caloforge.errors import ConfigError, nearest
from caloforge.metrics.submission import submission
from caloforge.validation.classifiers import NETWORKS, STRONG, classify
from caloforge.validation.inputs import Input, Inputs, Progress
from caloforge.validation.reconstruction import add_reconstruction
from caloforge.validation.report_model import Contents
from caloforge.validation.report_sections import networks_table, protocol_table

PROTOCOLS = ("calochallenge",)


@dataclass(frozen=True)
class Slow:
    """The tests that were requested.

    Attributes:
        neural: Neural classifiers.
        repeats: Trainings of each.
        triforce: Shower files of the full simulation to train TriForce on; empty leaves it out.
        protocol: "calochallenge" or None.
    """

    neural: Sequence[str]
    repeats: int
    triforce: Sequence[Path]
    protocol: str | None


def add_slow(contents: Contents, slow: Slow, inputs: Inputs, *, seed: int, progress: Progress) -> None:
    """Run the requested tests; adds sections to the report and entries to metrics.json.

    Args:
        contents: Of the report.
        slow: The requested tests.
        inputs: The files; reconstruction and protocol read them whole.
        seed: Seed of all trainings.
        progress: Called with (what is being done, done, total).
    """
    truth, generated = inputs.files[0], inputs.files[1 : 1 + len(contents.generated)]
    results: dict[str, dict[str, Any]] = {file.name: {} for file in generated}
    if slow.protocol:
        _protocol(contents, slow, truth, generated, results, seed)
    # those of the challenge are part of its protocol
    asked = [name for name in slow.neural if not slow.protocol or name == STRONG]
    for number, sample in enumerate(contents.generated if asked else ()):

        def tell(done: int, total: int, number: int = number) -> None:
            progress("train classifiers", number * total + done, total * len(generated))

        found = classify(contents.truth, sample, asked, repeats=slow.repeats, seed=seed, progress=tell)
        contents.tables.append(networks_table(sample.name, found))
        results[sample.name]["neural"] = {
            name: {"auc": auc.to_json(), "jsd": jsd.to_json()} for name, (auc, jsd) in found.items()
        }
    if slow.triforce:
        # torch is imported only where a network is trained
        from caloforge.validation.triforce import triforce

        answers = {}
        for file in generated:
            answers[file.name] = triforce(
                list(slow.triforce),
                truth.path,
                file.path,
                seed=seed,
                progress=lambda done, total: progress("train TriForce", done, total),
            )
            results[file.name]["triforce"] = answers[file.name].to_json()
        add_reconstruction(contents, answers)
    if any(results.values()):
        contents.metrics["on_request"] = results


def _protocol(
    contents: Contents,
    slow: Slow,
    truth: Input,
    generated: Sequence[Input],
    results: dict[str, dict[str, Any]],
    seed: int,
) -> None:
    """Results in the metrics of the CaloChallenge, with the published ones."""
    networks: Any = [name for name in slow.neural if name != STRONG]
    rows = []
    for file in generated:
        found = submission(truth.path, file.path, networks=networks, repeats=slow.repeats, seed=seed)
        rows.append((file.name, found))
        results[file.name]["calochallenge"] = found.row(file.name)
    contents.tables.append(protocol_table(rows[0][1].dataset, rows))


def check_protocol(name: str | None) -> None:
    """Refuse a protocol that does not exist.

    Raises:
        ConfigError: With the nearest name.
    """
    if name is not None and name not in PROTOCOLS:
        raise ConfigError(f"no protocol is called {name!r}. {nearest(name, PROTOCOLS)}")


def check_networks(names: Sequence[str]) -> None:
    """Refuse a network that does not exist.

    Raises:
        ConfigError: With the nearest name.
    """
    for name in names:
        if name not in NETWORKS:
            raise ConfigError(f"no neural classifier is called {name!r}. {nearest(name, NETWORKS)}")
