"""Plant defects in Geant4 showers and tabulate which metric sees which: the table of the documentation.

    python benchmarks/planted_defects.py ../shared/truth/clic_electron_orthogonal.h5

One half of the file is the truth, defects are planted in the other. About two minutes on one core.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np

from caloforge.showers import ShowerFile
from caloforge.testing.defects import DEFECTS, Setting
from caloforge.validation import judge_batches
from caloforge.validation.verdict import Judgement, Verdict, equivalent_sigma

OUT = Path(__file__).parents[1] / "docs" / "explanation" / "planted-defects.inc"
# columns: families of metrics
FAMILIES = {
    "means": ("mean_shift", "mean_offset"),
    "widths": ("width_shift",),
    "W1": ("wasserstein",),
    "separation": ("separation_power",),
    "profiles": ("profile_deviation",),
    "single bins": ("bin_deviation", "bin_offset"),
    "correlations": ("correlation_shift",),
    "PRDC": ("precision", "recall", "coverage"),
    "copies": ("near_copies", "neighbour_spacing"),
    "AUC": ("classifier_auc",),
    "FPD": ("fpd",),
    "KPD": ("kpd",),
    "P + E + S": ("merit_sum",),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with ShowerFile(arguments.truth) as file:
        batch, detector = file.read(), file.detector
    order = np.random.default_rng(arguments.seed).permutation(len(batch))
    truth, other = (batch[np.sort(part)] for part in np.array_split(order, 2))
    setting = Setting(detector, np.random.default_rng(1))
    planted = {"nothing (Geant4 against Geant4)": other}
    rows, clearest = [], []
    for name in (*planted, *DEFECTS):
        showers = planted.get(name) or DEFECTS[name](other, setting)
        verdict = judge_batches(truth, showers, detector, thresholds="strict", classifier=True)
        rows.append([name, *(cell(verdict, metrics) for metrics in FAMILIES.values())])
        clearest.append([name, "; ".join(top(verdict)) or "nothing fails"])
        print(rows[-1], clearest[-1][1], flush=True)
    text = (
        f"{len(truth)} showers against {len(other)}, thresholds `strict`, "
        f"{verdict.trials} comparisons: a comparison fails above {verdict.critical:.1f} standard errors.\n\n"
        + table(["planted", *FAMILIES], rows)
        + "\n"
        + table(["planted", "seen most clearly by"], clearest)
    )
    OUT.write_text(text, encoding="utf-8")


def cell(verdict: Verdict, metrics: tuple[str, ...]) -> str:
    """Standard errors beyond the threshold, bold where that fails; beyond the floor without a threshold."""
    found = max((sigma(j) for j in verdict.judgements if j.difference.metric in metrics), default=-math.inf)
    if found > verdict.critical:
        return f"**{min(found, 999):.0f}**"
    return f"{found:.1f}" if found > 1 else "–"


def sigma(judgement: Judgement) -> float:
    if judgement.threshold is not None:
        return judgement.sigma
    result = judgement.difference.result
    if result.uncertainty <= 0:
        return -math.inf
    return equivalent_sigma((result.value - result.floor) / result.uncertainty, judgement.difference.dof)


def top(verdict: Verdict) -> list[str]:
    """The three observables that fail most clearly, each with its clearest metric."""
    found: dict[str, str] = {}
    for judgement in verdict.failures:
        d = judgement.difference
        found.setdefault(d.observable, f"`{d.observable}` {d.metric.replace('_', ' ')} ({d.where})")
    return list(found.values())[:3]


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
