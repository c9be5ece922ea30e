"""Run every sampler on every problem over 20 seeds: the table and the picture of the documentation.

    python benchmarks/samplers.py

Four trials are pending at any time and end in any order, as with four groups of workers. What was run is kept
in samplers.json beside this file, with every seed's best values, and not run again; `--force` begins anew.
About ten minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from caloforge.files import write_text
from caloforge.testing import problems
from caloforge.tuning.samplers import make_sampler
from caloforge.tuning.samplers.config import SamplerConfig

ROOT = Path(__file__).parents[1]
KEPT = Path(__file__).with_name("samplers.json")
TABLE = ROOT / "docs" / "explanation" / "samplers.inc"
PICTURE = ROOT / "docs" / "images" / "samplers.png"
SEEDS, GROUPS = 20, 4
# trials of a search
PROBLEMS = {
    "branin": (problems.branin_problem, 40),
    "hartmann-6": (problems.hartmann6_problem, 80),
    "training": (problems.training_problem, 80),
    "architecture": (problems.architecture_problem, 120),
}
# population-based training evolves weights too: a problem without weights says nothing about it
KINDS = ("random", "quasi-random", "tpe", "gp", "cma-es", "nsga2", "regularised-evolution", "policy-gradient")
COLOURS = dict(zip(KINDS, ("0.5", "0.75", "C0", "C3", "C2", "C4", "C1", "C5"), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", nargs="*", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--force", action="store_true", help="forget what was run before")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    kept = json.loads(KEPT.read_text()) if KEPT.is_file() and not arguments.force else {}
    for name in arguments.problems:
        make, trials = PROBLEMS[name]
        problem = make()
        runs = kept.setdefault(name, {"trials": trials, "best": {}})
        runs["minimum"] = problem.minimum
        for kind in KINDS:
            if kind not in runs["best"]:
                runs["best"][kind] = [improvements(best) for best in run(problem, kind, trials)]
                write_text(KEPT, json.dumps(kept, separators=(",", ":")))
            print(name, kind, summary(runs, kind), flush=True)
    write_text(TABLE, markdown(kept))
    FigureCanvasAgg(draw(kept)).print_png(str(PICTURE))


def run(problem: problems.Problem, kind: str, trials: int) -> NDArray[np.float64]:
    """Best value after each trial, (seeds, trials)."""
    config = SamplerConfig(kind=kind)
    searches = []
    for seed in range(SEEDS):
        sampler = make_sampler(config, seed=seed)
        searches.append(problems.search(problem, sampler, trials, groups=GROUPS, seed=seed))
    return np.array(searches)


def improvements(best: NDArray[np.float64]) -> list[tuple[int, float]]:
    """Where the best value changed, counted from 0, and to what: short to keep."""
    places = np.flatnonzero(np.diff(best, prepend=np.inf))
    return [(int(place), float(f"{best[place]:.6g}")) for place in places]


def curves(runs: dict[str, Any], kind: str) -> NDArray[np.float64]:
    """Best value after each trial, (seeds, trials)."""
    best = np.empty((SEEDS, runs["trials"]))
    for row, steps in zip(best, runs["best"][kind], strict=True):
        for place, value in steps:
            row[place:] = value
    return best


def regret(runs: dict[str, Any], kind: str) -> NDArray[np.float64]:
    """Distance of the best value from the minimum after each trial, (seeds, trials)."""
    return np.maximum(curves(runs, kind) - runs["minimum"], 0.0)


def summary(runs: dict[str, Any], kind: str) -> tuple[float, float]:
    """Median regret in the end, and p of the hypothesis that random search does as well (Mann-Whitney)."""
    ours, random = (regret(runs, name)[:, -1] for name in (kind, "random"))
    return float(np.median(ours)), float(mannwhitneyu(ours, random, alternative="less").pvalue)


def markdown(kept: dict[str, Any]) -> str:
    """Rows are samplers, columns problems."""
    names = [name for name in PROBLEMS if name in kept]
    lines = [
        "| Sampler | " + " | ".join(f"`{name}`, {kept[name]['trials']} trials" for name in names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for kind in KINDS:
        cells = []
        for name in names:
            median, p = summary(kept[name], kind)
            chance = "" if kind == "random" else f" ({probability(p)})"
            # values are kept to six digits
            cells.append(f"{median if median > 1e-6 else 0:.2g}{chance}")
        lines.append(f"| `{kind}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def probability(p: float) -> str:
    return f"p = {p:.2g}" if p >= 1e-3 else f"p < 10⁻{str(int(-np.log10(p))).translate(SUPERSCRIPT)}"


# smaller distances are drawn as this one
LEAST = 1e-4
SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def draw(kept: dict[str, Any]) -> Figure:
    """Median regret against the number of trials, one panel for each problem."""
    names = [name for name in PROBLEMS if name in kept]
    figure = Figure(figsize=(10, 7.2), layout="constrained", dpi=120)
    for name, axes in zip(names, figure.subplots(2, 2).flat, strict=False):
        for kind in KINDS:
            values = np.maximum(regret(kept[name], kind), LEAST)
            low, median, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
            trials = np.arange(1, len(median) + 1)
            axes.plot(trials, median, color=COLOURS[kind], label=kind, linewidth=1.6)
            if kind in ("random", "gp"):
                axes.fill_between(trials, low, high, color=COLOURS[kind], alpha=0.2, linewidth=0)
        axes.set(yscale="log", title=name, xlabel="trials", ylabel="best value − minimum")
        axes.set_xlim(1, len(median))
        axes.grid(alpha=0.3, which="major")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


if __name__ == "__main__":
    main()
