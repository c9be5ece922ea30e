"""The page of a model card: Markdown made from model.json."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from caloforge.cards.figures import write_floor, write_number, write_time
from caloforge.geometry.mesh import IMPACT
from caloforge.models.released import claimed_ranges, trained_conditions
from caloforge.models.training_metadata import RELATIVE_SLACK
from caloforge.number_format import plain, size
from caloforge.references import REFERENCES
from caloforge.units import format_energy

Json = dict[str, Any]
CITED = ("caloforge", "Geant4", "3DGAN")
# number of observables with failures that are listed
MAX_FAILURES = 12
# held-out showers: how they were drawn, and what they decided
HELD_OUT = "The showers of a file that were not trained on {}; {}."
# by `training.evaluation.keep`; models of earlier versions do not store it
KEPT = {
    "best": "they chose the step that was kept",
    "last": "they judged the training, whose last step was kept",
    None: "they judged the training",
}
AT_RANDOM, AT_THE_END = "were drawn at random", "are its last ones"
LEGEND = """Means, spreads and deviations are relative differences to Geant4 at the same incident energy, of
profiles in bins with more than 1 % of the whole. *Geant4 against Geant4* is what two samples of Geant4 of
these sizes show; of a profile, what the farthest of as many bins shows. An area (AUC) of 0.5 means that the
classifier cannot tell."""


def card_markdown(card: Json, name: str) -> str:
    """The README.md of a model directory.

    Args:
        card: A model.json with the key "card".
        name: The model in commands: its name or its directory.
    """
    sections = (
        _overview(card, name),
        _usage(card, name),
        _training(card["data"], card),
        *_validations(card["card"]["validations"], recorded=bool(card["data"])),
        _speed(card["card"]["timing"]),
        _limits(card),
        _reproduction(card),
        _cite(),
    )
    return "\n\n".join(section for section in sections if section) + "\n"


def _overview(card: Json, name: str) -> str:
    found, detector = trained_conditions(card), card["detector"]
    shape = " × ".join(map(str, _shape(detector)))
    parts = ", ".join(f"{part} {count:,}".replace(",", " ") for part, count in card["parameters"].items())
    rows = [
        (
            "Generates",
            f"showers of {found['particles']}, {found['energy']}, theta {found['theta']}, phi {found['phi']}"
            + "".join(f", {name} {found[name]}" for name in IMPACT if name in found),
        ),
        ("Detector", f"{detector['name']}: {detector.get('description', '')}".rstrip(": ")),
        ("Voxels", f"{shape}, {card['facts']['energy_meaning']} energy in MeV" if shape else ""),
        ("Family", f"`{card['family']}`"),
        ("Method", _method(card)),
        ("Trained parameters", parts),
        ("Weights", _weights(card)),
        ("Validated precisions", ", ".join(card["facts"]["precisions"])),
        ("Made by", f"caloforge {card['provenance']['caloforge']}, {card['provenance']['created'][:10]}"),
    ]
    return f"# {name}\n\n{_key_value_table(rows)}"


def _method(card: Json) -> str:
    from caloforge.models.registry import read_model_config

    trained_on = sum(record["trained_on"] for record in card["data"])
    return read_model_config(card["config"], "model").describe(trained_on)


def _shape(detector: Json) -> tuple[int, ...]:
    from caloforge.config import build
    from caloforge.geometry import Detector

    return build(Detector, detector, "detector").shower_shape


def _weights(card: Json) -> str:
    told = f"{size(card['weights_bytes'])}, " if "weights_bytes" in card else ""
    return f"{told}SHA-256 `{card['weights_sha256']}`"


def _usage(card: Json, name: str) -> str:
    low, high = (format_energy(float(f"{e:.3g}")) for e in claimed_ranges(card)["energy"])
    # of several particles, generate wants to be told which
    first, *others = trained_conditions(card)["particles"].split(", ")
    particle = f" --particle {first}" if others else ""
    least, most = claimed_ranges(card)["theta"]
    # without it, generate takes the same; a reader should see that it is not 90 deg
    slack = RELATIVE_SLACK * math.pi / 2
    outside = not least - slack <= math.pi / 2 <= most + slack
    theta = f' --theta "{math.degrees(least):.4g} deg:{math.degrees(most):.4g} deg"' if outside else ""
    return (
        "## Use\n\n```sh\n"
        f'caloforge generate {name} -n 10000 --energy "{low}:{high}"{particle}{theta} -o showers.h5\n'
        f"caloforge validate truth.h5 {name} -o report\n```"
    )


def _training(data: Sequence[Json], card: Json) -> str:
    if not data:
        return "## Training data\n\nNot recorded."
    rows = [
        [
            f"`{record['file']}`",
            _source(record["provenance"]),
            str(record["showers"]),
            str(record["trained_on"]),
            _seed(record["provenance"]),
            _short(record["sha256"]),
        ]
        for record in data
    ]
    head = ["file", "made by", "showers", "trained on", "seed", "SHA-256"]
    text = f"## Training data\n\n{_table(head, rows)}"
    if any(record["trained_on"] < record["showers"] for record in data):
        random = all("held_out" in record for record in data)
        text += f"\n\n{HELD_OUT.format(AT_RANDOM if random else AT_THE_END, KEPT[card.get('kept')])}"
    run = [f"{key} {card[key]}" for key in ("seed", "step", "epoch") if card.get(key) is not None]
    if isinstance(origin := card.get("started_from"), dict):
        parts = [str(origin.get(key, "unknown")) for key in ("model", "detector", "weights_sha256")]
        run.append(f"started from {parts[0]} of {parts[1]} (SHA-256 {_short(parts[2])})")
    return text + (f"\n\nTraining: {', '.join(run)}." if run else "")


def _source(facts: Json) -> str:
    """What made the showers of a file, or of each of the files that were read as one."""
    from caloforge.showers.joined_provenance import parts_of

    return "; ".join(dict.fromkeys(_made_by(part) for part in parts_of(facts)))


def _made_by(facts: Json) -> str:
    parts = [facts.get("engine", "unknown"), facts.get("physics", "")]
    parts += [f"cut {facts['production_cut']}"] if "production_cut" in facts else []
    return ", ".join(part for part in parts if part)


def _seed(facts: Json) -> str:
    from caloforge.showers.joined_provenance import parts_of

    return ", ".join(dict.fromkeys(str(part.get("seed", "–")) for part in parts_of(facts)))


def _validations(reports: Sequence[Json], *, recorded: bool) -> Iterable[str]:
    for number, report in enumerate(reports, 1):
        title = "Physics" if len(reports) == 1 else f"Physics, {number} of {len(reports)}"
        yield _validation(report, title, recorded=recorded)


def _validation(report: Json, title: str, *, recorded: bool) -> str:
    truth, generated = report["truth"], report["generated"]
    low, high = (format_energy(float(f"{energy:.3g}")) for energy in truth["energy_MeV"])
    rows = [
        [
            figure["label"],
            figure["where"],
            write_number(figure["value"], figure["unit"], figure["uncertainty"]),
            write_floor(figure),
            _limit(figure),
        ]
        for figure in report["figures"]
    ]
    table = _table(["figure", "where", "value", "Geant4 against Geant4", "tolerated"], rows, right=(2, 3, 4))
    sample = f"`{truth['file']}`, {low} to {high}, seed {_seed(truth)}, SHA-256 {_short(truth.get('sha256'))}"
    unseen = ", which the training has not seen," if recorded else ""
    return f"""## {title}

{report["showers"]} showers of {_source(truth)} ({sample}){unseen} against
{generated["showers"]} generated ones (seed {_seed(generated)}, {report["backend"]} {report["precision"]}).
Hits are cells above {report["hit_threshold_MeV"]:g} MeV.

{table}

{LEGEND}

**Verdict: {report["verdict"]}.**"""


def _short(digest: str | None) -> str:
    return f"`{digest[:16]}`" if digest else "not recorded"


def _limit(figure: Json) -> str:
    if "threshold" not in figure:
        return ""
    mark = {"pass": "✓", "fail": "✗", "undecided": "?"}[figure["status"]]
    return f"{write_number(figure['threshold'], figure['unit'])} {mark}"


def _speed(timing: Json | None) -> str:
    if timing is None:
        return ""
    rows = [["Geant4", str(row["threads"]), "", write_time(row["ms"]), ""] for row in timing["geant4"]]
    for row in sorted(timing["rows"], key=lambda row: (row["threads"], row["ms"])):
        batch = f"{row['batch']}, to disk" if row["to_disk"] else str(row["batch"])
        times = write_time(row["times_geant4"]) if "times_geant4" in row else ""
        engine = f"{row['backend']} {row['precision']}"
        rows.append([engine, str(row["threads"]), batch, write_time(row["ms"]), times])
    machine = timing["machine"]
    flags = ", ".join(machine["cpu_flags"])
    versions = ", ".join(f"{package} {version}" for package, version in machine["packages"].items())
    table = _table(["", "cores", "batch", "ms a shower", "× Geant4"], rows, right=(1, 2, 3, 4))
    return f"""## Speed

{table}

{machine["cpu"]} ({flags}), {machine["cores"]} cores, load {machine["load_at_start"]:g} at the start;
{versions}. Noise, inverse transforms and thresholds are included; *to disk* also the file. Measured by
`{timing["command"]}`."""


def _limits(card: Json) -> str:
    found, reports = trained_conditions(card), card["card"]["validations"]
    items = [
        f"Trained on {found['particles']}, {found['energy']}, theta {found['theta']}, phi {found['phi']} in "
        f"{card['detector']['name']}; other conditions are refused unless `--extrapolate` is given, another "
        "detector needs another training.",
    ]
    items += [item for report in reports for item in _failure_items(report)]
    tested = {figure["label"] for report in reports for figure in report["figures"]}
    if not any(label.startswith("AUC, strong") for label in tested):
        items.append("Not tested with the strong classifier (`caloforge validate --neural strong`).")
    if not reports:
        items.append("Not validated.")
    if card["card"]["timing"] is None:
        items.append("Not timed.")
    if len(card["facts"]["precisions"]) == 1:
        items.append(
            "Its physics was not checked in bf16 or int8, which `--precision auto` therefore leaves alone."
        )
    return "## Limits\n\n" + "\n".join(f"- {item}" for item in items)


def _failure_items(report: Json) -> Iterable[str]:
    if report["undecided"]:
        # cards of earlier releases lack the entry
        needed = report.get("showers_needed")
        more = f"; about {plain(needed)} of each sample would decide" if needed else ""
        yield (
            f"{report['undecided']} of {report['trials']} comparisons with '{report['thresholds']}' are "
            f"undecided: {report['showers']} showers are too few to show it within{more}."
        )
    failures = report["failures"]
    if failures:
        named = ", ".join(
            f"`{f['observable']}` ({f['metric'].replace('_', ' ')}, {f['where']})"
            for f in failures[:MAX_FAILURES]
        )
        more = f" and {len(failures) - MAX_FAILURES} more" if len(failures) > MAX_FAILURES else ""
        yield f"Beyond '{report['thresholds']}' against {report['showers']} showers: {named}{more}."


def _reproduction(card: Json) -> str:
    reports, timing = card["card"]["validations"], card["card"]["timing"]
    commands = [record["provenance"].get("command", "") for record in card["data"]]
    commands.append(card["provenance"]["command"])
    for report in reports:
        commands += [
            report["truth"].get("command", ""),
            report["generated"].get("command", ""),
            report["command"],
        ]
    commands += [timing["command"] if timing else "", card["card"]["command"]]
    lines = "\n".join(dict.fromkeys(command for command in commands if command))
    return f"## Reproduce\n\n```sh\n{lines}\n```"


def _cite() -> str:
    return "## Cite\n\n" + "\n".join(f"- {REFERENCES[name]}" for name in CITED)


def _key_value_table(rows: Iterable[tuple[str, str]]) -> str:
    return _table(["", ""], [[f"**{key}**", value] for key, value in rows if value])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    rule = ["---:" if i in right else "---" for i in range(len(head))]
    # a bar would end the cell
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *cells))
