"""The page of a study of resources in Markdown: fidelity, speed, and the cost of 10^9 showers."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from caloforge.number_format import plain
from caloforge.timing.resources.curves import Node, Spread, nodes
from caloforge.timing.tables import machine_line

# showers of a campaign, and s of an hour
CAMPAIGN, HOUR = 1e9, 3600.0
DISTANCES = ("distance_median", "distance_worst")
EQUIVALENTS = ("equivalent_showers_median", "equivalent_showers_worst")
AS_WRITTEN = "the run as it is"


def markdown_page(document: dict[str, Any]) -> str:
    """The page of a study: its title, the picture and all tables."""
    low, high = (energy / 1e3 for energy in document["energy"])
    detector = document["identity"]["detector"]
    title = f"# Resources: {document['run']} in {detector}, {low:.3g} to {high:.3g} GeV"
    return f"{title}\n\n![Fidelity against training showers](resources.png)\n\n{markdown_tables(document)}"


def markdown_tables(document: dict[str, Any]) -> str:
    """All tables with their captions, the machine and the command."""
    identity = document["identity"]
    floor = fmean(row["trees"]["floor"] for row in document["points"])
    parts = [
        f"Trained on showers of `{identity['data']['file']}`, judged by the {identity['truth']['showers']} "
        f"of `{identity['truth']['file']}`, which no training has seen. ± is the scatter of trainings with "
        "other showers and weights; for a single one, its uncertainty. Two samples of Geant4 have trees of "
        f"{floor:.3f}.",
        _table(_fidelity(document)),
        *_speed(document),
        *_cost(document),
        f"{machine_line(document)}. Measured by",
        "\n".join(f"    {command}" for command in document["commands"]),
    ]
    return "\n\n".join(parts) + "\n"


def settings_name(node: Node) -> str:
    """What was changed in the run."""
    return ", ".join(node.settings) or AS_WRITTEN


def _table(rows: list[list[str]]) -> str:
    rules = ["---:"] * len(rows[0])
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rules, *rows[1:]))


def _fidelity(document: dict[str, Any]) -> list[list[str]]:
    everything = nodes(document)
    with_cnn = any(node.figure("cnn") is not None for node in everything)
    cnn = ["CNN, AUC"] if with_cnn else []
    head = ["showers", "trainings", "steps", "CPU time, min", "trees, AUC", *cnn, "distance, median, worst"]
    rows = [[*head, "equivalent showers, median, worst", "mean response", "MB", "settings"]]
    for node in everything:
        areas = [node.figure(name) for name in ("trees", "cnn") if name == "trees" or with_cnn]
        response = node.figure("response")
        rows.append(
            [
                str(node.showers),
                str(len(node.rows)),
                plain(node.mean("steps")),
                plain(node.mean("cpu_seconds") / 60, 2),
                *(_value(area, 3) for area in areas),
                ", ".join(_value(node.figure(name), 3) for name in DISTANCES),
                ", ".join(_count(node.figure(name)) for name in EQUIVALENTS),
                "" if response is None else f"{100 * response.mean:.2f} ± {100 * response.error:.2f} %",
                plain(node.mean("weight_bytes") / 1e6, 2),
                settings_name(node),
            ]
        )
    return rows


def _value(found: Spread | None, places: int) -> str:
    return "" if found is None else f"{found.mean:.{places}f} ± {found.error:.{places}f}"


def _count(found: Spread | None) -> str:
    if found is None:
        return ""
    return f"> {plain(found.mean, 2)}" if found.limit else plain(found.mean, 2)


def _timed(document: dict[str, Any]) -> dict[str, Any] | None:
    """The row whose times were measured, of the most showers and, of these, on the most backends."""
    rows = [row for row in document["points"] if row.get("ms")]
    return max(rows, key=lambda row: (row["showers"], len(row["ms"])), default=None)


def _speed(document: dict[str, Any]) -> list[str]:
    row = _timed(document)
    if row is None:
        return []
    batches = list(next(iter(row["ms"].values())))
    lines = [["backend, fp32", *(f"CPU ms a shower, batch {batch}" for batch in batches)]]
    lines += [
        [name, *(plain(times[b]) if b in times else "" for b in batches)] for name, times in row["ms"].items()
    ]
    title = f"**Speed** of the model of {row['showers']} showers, one core; "
    title += f"{plain(row['parameters'])} trained parameters."
    return [title, _table(lines)]


def cost_rows(document: dict[str, Any]) -> list[tuple[str, float]]:
    """Core-hours of 10^9 showers: Geant4, then the fastest backend with its training and training showers."""
    row, full = _timed(document), document["geant4_cpu_seconds"]
    if row is None or full is None:
        return []
    fastest = min(times[max(times, key=int)] for times in row["ms"].values())
    once = (row["showers"] * full + row["cpu_seconds"]) / HOUR
    return [
        ("Geant4", CAMPAIGN * full / HOUR),
        (f"simulate {row['showers']} showers, and train once", once),
        ("generate", CAMPAIGN * fastest / 1e3 / HOUR),
    ]


def _cost(document: dict[str, Any]) -> list[str]:
    rows = cost_rows(document)
    if not rows:
        return []
    (_, full), *fast = rows
    together = sum(hours for _, hours in fast)
    lines = [["10⁹ showers", "core-hours"], *([name, plain(hours)] for name, hours in rows)]
    lines.append(["Geant4 over all of the fast way", plain(full / together)])
    text = f"**Cost of 10⁹ showers.** A shower of Geant4 takes {document['geant4_cpu_seconds']:.2f} s of CPU "
    text += "time. Writing files is not counted."
    return [text, _table(lines)]
