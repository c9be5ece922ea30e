"""report.html: a self-contained page with the verdict first; figures are drawn when they become visible."""

from __future__ import annotations

from caloforge.validation.html_page import render
from caloforge.validation.report_data import report_data
from caloforge.validation.report_model import Contents
from caloforge.validation.verdict_html import describe_verdict

DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 2", "1 3")


def build_report(contents: Contents) -> str:
    """The whole HTML document."""
    provenance = contents.metrics["provenance"]
    sections, titles = contents.sections(), contents.titles()
    return render(
        "report.html",
        "caloforge.validation",
        title=contents.title,
        detector=contents.truth.detector.name,
        samples=contents.samples,
        dashes=DASHES,
        sections=sections,
        failed={key: _failing_cards(contents, key) for key in sections},
        verdicts=[describe_verdict(verdict, titles) for verdict in contents.verdicts],
        generators=contents.metrics["generators"],
        thresholds=contents.metrics["thresholds"],
        notes=contents.notes,
        tables=contents.tables,
        files=provenance["files"],
        comparison={key: value for key, value in provenance.items() if key != "files"},
        references=contents.references,
        data=report_data(contents),
    )


def _failing_cards(contents: Contents, section: str) -> int:
    own = {o.name for o in contents.observables if o.section == section}
    own |= {card.name for card in contents.cards if card.section == section}
    return len({j.difference.observable for v in contents.verdicts for j in v.failures} & own)
