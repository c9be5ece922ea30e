"""Tables of the scaling benchmark, as plain text and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from caloforge.number_format import percent, plain
from caloforge.timing.tables import machine_line

Cells = list[list[str]]
# load per core from which the machine counts as busy
BUSY = 0.25


def text_tables(document: dict[str, Any]) -> str:
    """The machine and all tables, in aligned columns."""
    parts = [machine_line(document)]
    for title, notes, rows in _tables(document):
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join(
                cell.rjust(width) if i else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        parts.append("\n".join([title, *lines, *(notes if rows[0][0] == "scaling" else notes[:1])]))
    return "\n\n".join(parts)


def markdown_tables(document: dict[str, Any]) -> str:
    """The tables in Markdown, with sources, the machine and the command."""
    parts = []
    for title, notes, rows in _tables(document):
        rules = ["---"] + ["---:"] * (len(rows[0]) - 1)
        lines = [f"| {' | '.join(row)} |" for row in (rows[0], rules, *rows[1:])]
        parts.append("\n".join([f"**{title}**", "", *lines]))
        parts += notes
    parts.append(f"{machine_line(document)}. Measured by `{document['command']}`.")
    return "\n\n".join(parts) + "\n"


def _tables(document: dict[str, Any]) -> Iterator[tuple[str, list[str], Cells]]:
    """Title, notes and rows of every table."""
    network, link = document["network"], document["link"]
    notes = _busy(document["machine"])
    if link is not None:
        latency, bandwidth = plain(1e6 * link["latency"]), plain(link["bandwidth"] / 1e9)
        notes.append(
            f"Between two processes here: {latency} µs and {bandwidth} GB/s, with which the messages of a "
            f"step take {plain(1e3 * link['step'])} ms; the rest of the communication is waiting for the "
            "slower one."
        )
    yield f"Measured here, run {document['run']}, ms of a step", notes, _measured(document)
    showers, jitter = document["workload"]["showers"], document["workload"]["jitter"]
    note = f"Steps of one process vary by {percent(jitter)}; the slowest process determines the time."
    title = f"Projected over {network['name']}, {network['per_node']} process(es) a node"
    title += f": s of an epoch of {plain(showers)} showers"
    yield title, [note, f"Network: {network['source']}."], _projected(document)
    for table in document["published"]:
        note = f"Inputs of the model: {table['inputs']}."
        title = f"Published and predicted: {table['title']}"
        yield title, [note, f"Source: {table['source']}."], _published(table)


def _busy(machine: dict[str, Any]) -> list[str]:
    """A warning if other processes were using the cores."""
    load, cores = machine["load_at_start"], machine["cores"]
    if load < BUSY * cores:
        return []
    return [
        f"Other work was running (load {load:g} on {cores} cores): these figures, and the projection from "
        "them, are worth little."
    ]


def _measured(document: dict[str, Any]) -> Cells:
    head = ["scaling", "processes", "batch", "compute", "communication", "input", "validation once"]
    rows = [[*head, "showers/s", "speed-up", "efficiency"]]
    for row in document["measured"]:
        times = [1e3 * row[kind] for kind in ("compute", "communication", "input", "validation")]
        step = row["compute"] + row["communication"] + row["input"]
        rate = row["processes"] * row["batch"] / step
        front = [row["scaling"], str(row["processes"]), str(row["batch"])]
        rows.append([*front, *map(plain, times), plain(rate), *_gain(row)])
    return rows


def _projected(document: dict[str, Any]) -> Cells:
    kinds = ("compute", "communication", "input", "validation", "seconds")
    rows = [["scaling", "processes", "steps", *kinds[:-1], "together", "speed-up", "efficiency"]]
    for row in document["projected"]:
        front = [row["scaling"], str(row["processes"]), plain(row["steps"])]
        rows.append([*front, *(plain(row[kind]) for kind in kinds), *_gain(row)])
    return rows


def _published(table: dict[str, Any]) -> Cells:
    rows = [["processes", "nodes", "batch", f"published, {table['quantity']}", "model", "error"]]
    for row in table["rows"]:
        bound = "> " if row["at_least"] else ""
        error = "given" if row["given"] else "" if row["error"] is None else f"{100 * row['error']:+.1f} %"
        values = [f"{bound}{row['published']:g}", f"{row['predicted']:.4g}", error]
        rows.append([str(row["processes"]), str(row["nodes"]), str(row.get("batch", "")), *values])
    return rows if any(row[2] for row in rows[1:]) else [[*row[:2], *row[3:]] for row in rows]


def _gain(row: dict[str, Any]) -> list[str]:
    return [plain(row["speedup"]), f"{100 * row['efficiency']:.1f} %"]
