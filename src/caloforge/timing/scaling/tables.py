"""The benchmark of the scaling as text: for a terminal and for Markdown."""

from __future__ import annotations

from typing import Any

from caloforge.timing.tables import machine_line, number

Cells = list[list[str]]


def text_tables(document: dict[str, Any]) -> str:
    """The machine and every table, in columns."""
    parts = [machine_line(document)]
    for title, rows in _tables(document):
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join(
                cell.rjust(width) if i else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        parts.append("\n".join([title, *lines]))
    return "\n\n".join(parts)


def markdown_tables(document: dict[str, Any]) -> str:
    """The same in Markdown, with the machine and the command under it."""
    parts = []
    for title, rows in _tables(document):
        rules = ["---"] + ["---:"] * (len(rows[0]) - 1)
        lines = [f"| {' | '.join(row)} |" for row in (rows[0], rules, *rows[1:])]
        parts.append("\n".join([f"**{title}**", "", *lines]))
    parts.append(f"{machine_line(document)}. Measured by `{document['command']}`.")
    return "\n\n".join(parts) + "\n"


def _tables(document: dict[str, Any]) -> list[tuple[str, Cells]]:
    network = document["network"]
    published = [
        (f"{table['title']} ({table['source']})", _published(table)) for table in document["published"]
    ]
    return [
        (f"Measured here: ms of a step, run {document['run']}", _measured(document)),
        (
            f"Projected: s of an epoch of {document['workload']['showers']} showers, {network['per_node']} "
            f"process(es) a node, {network['name']}",
            _projected(document),
        ),
        *published,
    ]


def _measured(document: dict[str, Any]) -> Cells:
    head = ["scaling", "processes", "batch", "compute", "communication", "input", "validation once"]
    rows = [[*head, "showers/s", "speed-up", "efficiency"]]
    for row in document["measured"]:
        times = [1e3 * row[kind] for kind in ("compute", "communication", "input", "validation")]
        step = row["compute"] + row["communication"] + row["input"]
        rate = row["processes"] * row["batch"] / step
        front = [row["scaling"], str(row["processes"]), str(row["batch"])]
        rows.append([*front, *map(number, times), number(rate), *_gain(row)])
    return rows


def _projected(document: dict[str, Any]) -> Cells:
    kinds = ("compute", "communication", "input", "validation", "seconds")
    rows = [["scaling", "processes", "steps", *kinds[:-1], "together", "speed-up", "efficiency"]]
    for row in document["projected"]:
        front = [row["scaling"], str(row["processes"]), str(row["steps"])]
        rows.append([*front, *(number(row[kind]) for kind in kinds), *_gain(row)])
    return rows


def _published(table: dict[str, Any]) -> Cells:
    rows = [["processes", "nodes", "batch", f"published, {table['quantity']}", "model", "error"]]
    for row in table["rows"]:
        bound = "> " if row["at_least"] else ""
        error = "given" if row["given"] else "" if row["error"] is None else f"{100 * row['error']:+.1f} %"
        values = [bound + number(row["published"]), number(row["predicted"]), error]
        rows.append([str(row["processes"]), str(row["nodes"]), str(row.get("batch", "")), *values])
    return rows if any(row[2] for row in rows[1:]) else [[*row[:2], *row[3:]] for row in rows]


def _gain(row: dict[str, Any]) -> list[str]:
    return [number(row["speedup"]), f"{100 * row['efficiency']:.1f} %"]
