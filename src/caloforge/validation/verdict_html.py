"""The verdict section of the report: the verdict in words, and a table with one row per observable."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from caloforge.metrics.registry import metrics
from caloforge.validation import formatting
from caloforge.validation.mathtext import Run
from caloforge.validation.metrics_document import remedy
from caloforge.validation.report_model import Contents
from caloforge.validation.verdict import Judgement, Verdict

LISTED = 8
Titles = Mapping[str, Sequence[Run]]


def verdict_section(contents: Contents) -> str:
    """HTML of the verdict: a box for each generator, notes, the table."""
    titles, thresholds = contents.titles(), contents.metrics["thresholds"]
    parts = [_box(verdict, titles, thresholds) for verdict in contents.verdicts]
    parts += [_equivalent(contents, verdict.generator) for verdict in contents.verdicts]
    parts.append('<div class="first"></div>')
    parts += [f'<div class="note">{html.escape(note)}</div>' for note in contents.notes]
    for number, verdict in enumerate(contents.verdicts):
        several = len(contents.verdicts) > 1
        title = f"Every observable: {verdict.generator}" if several else "Every observable"
        parts.append(f"<h2>{html.escape(title)}</h2>")
        if number == 0:
            parts.append(
                '<div class="tools"><label><input type="checkbox" id="only-failures"> only what fails</label>'
                "<span>A row shows what fails, else what is not decided, else what is nearest to its "
                "threshold; open it for all comparisons.</span></div>"
            )
        parts.append(_table(verdict, titles))
    parts.append(_reading(contents.verdicts[0], thresholds))
    return "".join(parts)


def _equivalent(contents: Contents, generator: str) -> str:
    found = contents.metrics["generators"][generator]["equivalent_statistics"]
    return f"<p>{html.escape(generator)} is {html.escape(found['sentence'])}.</p>" if found else ""


def title_html(runs: Sequence[Run]) -> str:
    """Styled runs as HTML."""
    tags = {"i": "i", "sub": "sub", "sup": "sup"}
    return "".join(
        f"<{tags[style]}>{html.escape(text)}</{tags[style]}>" if style else html.escape(text)
        for text, style in runs
    )


def _box(verdict: Verdict, titles: Titles, thresholds: dict[str, Any]) -> str:
    count = len({j.difference.observable for j in verdict.judgements if j.threshold is not None})
    name, chosen = html.escape(verdict.generator), html.escape(thresholds["name"])
    confidence = f"{100 * thresholds['confidence']:g} % confidence"
    if verdict.state == "within":
        return (
            f'<div class="verdict pass"><strong>{name} is within the thresholds “{chosen}”.</strong><p>All '
            f"{verdict.trials} comparisons of {count} observables are decided: no difference is larger than "
            f"tolerated, at {confidence}. {html.escape(thresholds['summary'])}</p></div>"
        )
    if verdict.state == "undecided":
        return (
            f'<div class="verdict undecided"><strong>{name}: undecided with the thresholds “{chosen}”.'
            f"</strong><p>Nothing fails, but {_open(verdict)} of {count} observables are not decided: these "
            f"{min(verdict.showers)} showers do not show at {confidence} that the differences are as small "
            f"as tolerated. {remedy(verdict).capitalize()}.</p></div>"
        )
    failing: dict[str, list[Judgement]] = {}
    for judgement in verdict.failures:
        failing.setdefault(judgement.difference.observable, []).append(judgement)
    items = "".join(
        f"<li>{_sentence(found, verdict, titles)}</li>" for found in list(failing.values())[:LISTED]
    )
    rest = len(failing) - LISTED
    more = f"<li>and {rest} more, in the table</li>" if rest > 0 else ""
    return (
        f'<div class="verdict fail"><strong>{name} is NOT within the thresholds “{chosen}”: '
        f"{len(failing)} of {count} observables fail.</strong><ul>{items}{more}</ul>"
        f"<p>{_open(verdict)} are not decided.</p></div>"
    )


def _sentence(failures: Sequence[Judgement], verdict: Verdict, titles: Titles) -> str:
    """The failure of one observable, described by its headline metric, else by the first one."""
    known = metrics()
    order = list(known)

    def position(j: Judgement) -> tuple[bool, int]:
        return not known[j.difference.metric].headline, order.index(j.difference.metric)

    judgement = min(failures, key=position)
    d = judgement.difference
    beyond = formatting.format_sigma(judgement.sigma)
    by = f", {beyond} beyond" if beyond and beyond != "always" else ""
    return (
        f"<b>{title_html(titles[d.observable])}</b>, {html.escape(d.where)}: {metrics()[d.metric].label} "
        f"{formatting.with_error(d.result.value, d.result.uncertainty, d.metric)}, threshold "
        f"{formatting.format_number(judgement.threshold or 0.0, d.metric)}{by}{_elsewhere(failures, verdict)}"
    )


def _elsewhere(failures: Sequence[Judgement], verdict: Verdict) -> str:
    """The bins of energy, angle and particle in which the observable fails."""
    name, parts = failures[0].difference.observable, []
    for axis in ("energy", "angle", "particle"):
        bins = {
            j.difference.bin.key: j.difference.bin.label
            for j in verdict.judgements
            if j.difference.observable == name and j.difference.bin.axis == axis
        }
        failed = {j.difference.bin.key for j in failures} & set(bins)
        if 0 < len(failed) <= 2:
            parts.append(" and ".join(label for key, label in bins.items() if key in failed))
        elif failed:
            parts.append(f"{len(failed)} of {len(bins)} bins of {axis}")
    return f"; fails in {', '.join(parts)}" if parts else ""


def _open(verdict: Verdict) -> str:
    return f"{len(verdict.undecided)} of {verdict.trials} comparisons"


def worst_of(verdict: Verdict) -> dict[str, Judgement]:
    """The most significant failure of each observable, else the undecided comparison closest to failing."""
    worst: dict[str, Judgement] = {}
    for j in verdict.judgements:
        if j.threshold is None:
            continue
        name = j.difference.observable
        old = worst.get(name)
        if old is None or _rank(j) < _rank(old):
            worst[name] = j
    return worst


def _rank(j: Judgement) -> tuple[int, float]:
    """Sort key: failures, undecided, passes; in each the most significant excess first."""
    return ("fail", "undecided", "pass").index(j.status), -j.sigma if math.isfinite(j.sigma) else 0.0


def _table(verdict: Verdict, titles: Titles) -> str:
    rows = sorted(worst_of(verdict).values(), key=_rank)
    counts: dict[str, list[int]] = {}
    for j in verdict.judgements:
        if j.threshold is not None:
            count = counts.setdefault(j.difference.observable, [0, 0])
            count[0] += j.status == "fail"
            count[1] += 1
    body = "".join(_row(verdict, j, counts[j.difference.observable], titles) for j in rows)
    return (
        '<div class="scroll"><table class="stacked"><thead><tr><th></th><th>observable</th><th>where</th>'
        '<th>metric</th><th class="n">value</th><th class="n">floor</th><th class="n">threshold</th>'
        '<th class="n">beyond</th><th class="n">fail / all</th></tr>'
        "</thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def tag(status: str) -> str:
    """The status as a coloured word."""
    sign = {"pass": "✓", "fail": "✗", "undecided": "?"}[status]
    return f'<span class="tag {status}">{sign} {status}</span>'


def _row(verdict: Verdict, j: Judgement, count: list[int], titles: Titles) -> str:
    d = j.difference
    value = formatting.with_error(d.result.value, d.result.uncertainty, d.metric)
    sigma = formatting.format_sigma(j.sigma) if not math.isinf(j.sigma) or j.sigma > 0 else ""
    return (
        f'<tr class="row" tabindex="0" aria-expanded="false" data-status="{j.status}" '
        f'data-generator="{html.escape(verdict.generator)}" data-observable="{html.escape(d.observable)}">'
        f"<td>{tag(j.status)}</td>"
        f"<td>{title_html(titles[d.observable])} "
        f'<span class="key">{html.escape(d.observable)}</span></td>'
        f'<td data-label="where">{html.escape(d.where)}</td>'
        f'<td data-label="metric">{metrics()[d.metric].short}</td>'
        f'<td class="n" data-label="value">{value}</td>'
        f'<td class="n" data-label="floor">{formatting.format_number(d.result.floor, d.metric)}</td>'
        f'<td class="n" data-label="threshold">{formatting.format_number(j.threshold or 0.0, d.metric)}</td>'
        f'<td class="n" data-label="beyond">{sigma or "–"}</td>'
        f'<td class="n" data-label="fail / all">{count[0]} / {count[1]}</td></tr>'
    )


def _reading(verdict: Verdict, thresholds: dict[str, Any]) -> str:
    alarm = 100 * thresholds["false_alarm"]
    return (
        "<h2>How to read this</h2>"
        "<p><b>Value</b>: generated against full simulation, at fixed incident energy, angle and particle: "
        "what full simulation gives on average at a shower's conditions is taken off first. <b>±</b> is one "
        "standard error of both samples (bootstrap). <b>Floor</b> is what full simulation against full "
        "simulation gives at these sample sizes.</p>"
        f"<p><b>Trial factor</b>: {verdict.trials} comparisons are made. A value fails when it exceeds its "
        f"threshold by more than {verdict.critical:.1f} standard errors, so that a perfect generator fails "
        f"anywhere with a probability of at most {alarm:g} % (Bonferroni). Distances, which are above zero "
        "for equal distributions too, are compared with threshold plus floor.</p>"
        f"<p><b>pass</b>: with {100 * thresholds['confidence']:g} % confidence the difference is no larger "
        f"than tolerated: the value lies at least {verdict.assured:.2f} standard errors within its "
        "threshold. <b>undecided</b>: neither that nor a failure; more showers decide. A sample is "
        "<b>within</b> the thresholds when every comparison passes.</p>"
    )
