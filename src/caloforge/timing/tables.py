"""Tables of the benchmark, as plain text and as Markdown."""

from __future__ import annotations

from typing import Any

from caloforge.number_format import plain

HEADINGS = ("", "MB", "backend", "cores", "batch", "ms a shower", "spread", "× Geant4", "× published")
# columns of text, the others are numbers
TEXT = (0, 2)


def text_table(document: dict[str, Any]) -> str:
    """The machine and the table, in aligned columns."""
    rows = [HEADINGS, *_rows(document)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADINGS))]
    lines = [
        "  ".join(
            cell.ljust(width) if i in TEXT else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([machine_line(document), "", *lines])


def markdown_table(document: dict[str, Any]) -> str:
    """The table in Markdown, followed by the machine and the command."""
    rules = ["---" if i in TEXT else "---:" for i in range(len(HEADINGS))]
    rows = [HEADINGS, rules, *_rows(document)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{table}\n\n{machine_line(document)}. Measured by `{document['command']}`.\n"


def machine_line(document: dict[str, Any]) -> str:
    """Machine and package versions in one line."""
    facts = document["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    flags = ", ".join(facts["cpu_flags"]) or "no vector flags known"
    return (
        f"{facts['cpu']} ({flags}), {facts['cores']} cores, "
        f"load {facts['load_at_start']:g} at the start; caloforge {document['caloforge']}, {versions}"
    )


def _rows(document: dict[str, Any]) -> list[list[str]]:
    return [_row(result) for result in document["results"]]


def _row(result: dict[str, Any]) -> list[str]:
    if result["kind"] == "full simulation":
        backend, batch = "", ""
    else:
        backend = f"{result['backend']} {result['precision']}"
        batch = f"{result['batch']}, to disk" if result["to_disk"] else str(result["batch"])
    size = plain(result["weight_bytes"] / 1e6) if "weight_bytes" in result else ""
    front = [result["name"], size, backend, str(result["threads"]), batch]
    if result["status"] != "measured":
        return [*front, result["status"], "", "", ""]
    ratios = [_ratio(result.get(key)) for key in ("times_geant4", "times_published")]
    once = result["low"] == result["high"]
    spread = "once" if once else f"{plain(result['low'])} to {plain(result['high'])}"
    return [*front, plain(result["ms"]), spread, *ratios]


def _ratio(value: float | None) -> str:
    return "" if value is None else plain(value)
