"""The cost model against published scaling results: prediction and relative error for each row."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field

from caloforge.config import StrictModel, build, read_yaml
from caloforge.errors import ConfigError, nearest
from caloforge.timing.scaling.allreduce import Link, Network
from caloforge.timing.scaling.projection import Epoch, Workload, epoch

DATA = Path(__file__).parent / "data"


class Layout(StrictModel):
    """Numbers of processes and nodes, and the batch per process if it is not that of the workload."""

    processes: int
    nodes: int
    batch: int | None = None


class Row(Layout):
    """A published value, or a lower limit of it."""

    value: float
    at_least: bool = False


class Given(StrictModel):
    """Indices of the rows that parameters of the model are taken from."""

    compute: tuple[int, ...] = ()
    storage: int | None = None


class Table(StrictModel):
    """A published table; see data/published.yaml."""

    name: str
    title: str
    quantity: Literal["seconds an epoch", "seconds a pass", "efficiency"]
    source: str
    inputs: str
    network: dict[Literal["between", "inside"], str]
    workload: dict[str, float | tuple[float, ...]]
    given: Given = Given()
    base: Layout | None = None
    rows: tuple[Row, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Prediction:
    """A published row and its prediction.

    Attributes:
        row: The published row.
        predicted: Prediction in the unit of the row.
        given: Whether a parameter of the model was taken from this row.
    """

    row: Row
    predicted: float
    given: bool

    @property
    def error(self) -> float | None:
        """Relative error; None for a limit, and for a row that gave a parameter."""
        if self.given or self.row.at_least:
            return None
        return self.predicted / self.row.value - 1


@cache
def networks() -> dict[str, Link]:
    """Known networks, by name."""
    document = read_yaml(DATA / "networks.yaml")
    return {name: Link(**facts) for name, facts in document.items()}


def network_link(name: str) -> Link:
    """Look up a network by name.

    Raises:
        ConfigError: The name is unknown; with the nearest one.
    """
    if name not in networks():
        raise ConfigError(f"no network is called {name!r}. {nearest(name, networks())}")
    return networks()[name]


@cache
def published_tables() -> tuple[Table, ...]:
    """All published tables."""
    path = DATA / "published.yaml"
    return tuple(build(Table, table, path.name) for table in read_yaml(path)["tables"])


def predict(table: Table) -> list[Prediction]:
    """Predict each row of a table."""
    work = _workload(table)
    taken = {*table.given.compute, table.given.storage}
    return [Prediction(row, _value(table, work, row), place in taken) for place, row in enumerate(table.rows)]


def _value(table: Table, work: Workload, layout: Layout) -> float:
    found = _epoch(table, work, layout)
    if table.quantity != "efficiency":
        return found.seconds
    assert table.base is not None
    base = _epoch(table, work, table.base)
    return base.processes * base.seconds / (found.processes * found.seconds)


def _epoch(table: Table, work: Workload, layout: Layout) -> Epoch:
    return epoch(replace(work, batch=layout.batch or work.batch), _network(table, layout), layout.processes)


def _network(table: Table, layout: Layout) -> Network:
    links = {place: network_link(name) for place, name in table.network.items()}
    return Network(**links, per_node=math.ceil(layout.processes / layout.nodes))


def _workload(table: Table) -> Workload:
    """The workload of a table, with parameters from its given rows."""
    work = Workload(**table.workload)  # type: ignore[arg-type]
    if table.given.compute:
        seconds = {}
        for place in table.given.compute:
            row = table.rows[place]
            # computing is zero in this workload: the difference is the time of computing
            rest = _epoch(table, work, row)
            seconds[row.batch or work.batch] = (row.value - rest.seconds) / rest.steps
        per_step, per_shower = _affine(seconds)
        work = replace(work, per_step=per_step, per_shower=per_shower)
    if table.given.storage is not None:
        work = replace(work, storage=work.showers / table.rows[table.given.storage].value)
    return work


def _affine(seconds: dict[int, float]) -> tuple[float, float]:
    """Computing time per step and per shower, from steps with one or two batch sizes."""
    (batch, first), *others = seconds.items()
    if not others:
        return first, 0.0
    [(other, second)] = others
    slope = (second - first) / (other - batch)
    return first - slope * batch, slope
