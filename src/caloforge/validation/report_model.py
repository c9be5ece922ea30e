"""Data model of a report: cards with figures, tables, matrices, samples and verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from caloforge.observables import Observable
from caloforge.validation import mathtext
from caloforge.validation.conditions import Bin
from caloforge.validation.figure_data import Figure
from caloforge.validation.observed_sample import Sample
from caloforge.validation.verdict import Verdict

# sections in the order of the report; a section without content is left out
SECTIONS = {
    "verdict": "Verdict",
    "response": "Response",
    "longitudinal": "Longitudinal",
    "lateral": "Lateral",
    "hits": "Hits",
    "cells": "Cells",
    "angle": "Angle",
    "correlations": "Correlations",
    "whole": "Whole showers",
    "networks": "Neural networks",
    "reconstruction": "Reconstruction",
    "calochallenge": "CaloChallenge",
    "showers": "Showers",
    "provenance": "Provenance",
}


@dataclass(frozen=True)
class Card:
    """A card with the figures whose `observable` is its name.

    Attributes:
        name: Key of its figures, and of its comparisons in the verdict.
        title: Mathtext.
        section: Section of the report.
        facts: Lines below the title.
    """

    name: str
    title: str
    section: str
    facts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table of text; the first column holds names, the others numbers.

    Attributes:
        section: Section of the report; tables follow the cards.
        title: Heading.
        head: Titles of the columns.
        rows: Text of the cells.
        marked: Highlighted rows.
        note: A sentence below.
    """

    section: str
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: frozenset[int] = frozenset()
    note: str = ""


@dataclass(frozen=True)
class Matrix:
    """Square matrices of numbers from -1 to 1, one for each sample.

    Attributes:
        section: Section of the report.
        labels: Of rows and columns, mathtext.
        titles: Of the matrices.
        values: (k, k) each.
    """

    section: str
    labels: tuple[str, ...]
    titles: tuple[str, ...]
    values: tuple[Sequence[Sequence[float]], ...]


@dataclass
class Contents:
    """The content of a report.

    Attributes:
        truth: Full simulation.
        generated: The samples judged.
        observables: The catalogue.
        bins: Bins of conditions.
        figures: All figures.
        cards: Cards besides those of the observables.
        tables: Tables.
        matrices: Matrices.
        verdicts: One for each generator.
        events: Single showers, truth and generators at equal conditions; see `showers.events`.
        averages: Mean showers; see `showers.averages`.
        notes: Warnings: reweighting, negative voxels, small samples.
        metrics: metrics.json.
        references: Publications to cite, by name.
    """

    truth: Sample
    generated: Sequence[Sample]
    observables: Sequence[Observable]
    bins: Sequence[Bin]
    figures: list[Figure]
    cards: list[Card] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    matrices: list[Matrix] = field(default_factory=list)
    verdicts: Sequence[Verdict] = ()
    events: list[dict[str, Any]] = field(default_factory=list)
    averages: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The truth first."""
        return (self.truth, *self.generated)

    @property
    def title(self) -> str:
        """Heading of the report."""
        return f"{', '.join(s.name for s in self.generated)} against {self.truth.name}"

    def titles(self) -> dict[str, list[mathtext.Run]]:
        """Titles of observables and cards, by name."""
        named = {o.name: o.label for o in self.observables} | {c.name: c.title for c in self.cards}
        return {name: mathtext.runs(title) for name, title in named.items()}

    def sections(self) -> dict[str, str]:
        """Titles of the sections that have content."""
        filled = {"verdict", "showers", "provenance"}
        filled |= {o.section for o in self.observables} | {c.section for c in self.cards}
        filled |= {t.section for t in self.tables} | {m.section for m in self.matrices}
        return {key: title for key, title in SECTIONS.items() if key in filled}
