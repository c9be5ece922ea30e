"""What README and docs quote of the released model is what its card, model.json, says.

Where a test fails because the card was made anew, write into the page the text that the message shows.
"""

import copy
import json
import re

import pytest
from pages import INDENTED, NAMES, ROOT, read

from caloforge.cards import card_markdown
from caloforge.models.registry import family_of
from caloforge.models.store import read_model

MODEL = "clic-electron"
CARD = json.loads((ROOT / f"src/caloforge/pretrained/{MODEL}/model.json").read_text(encoding="utf-8"))
SECTION = re.compile(r"^## The released model\n(.*?)(?=^## )", re.MULTILINE | re.DOTALL)
# a number with an uncertainty, as the pages write it
MEASURED = re.compile(r"([−-]?\d+\.\d+) ± (\d+\.\d+)")


@pytest.mark.parametrize(
    "card",
    sorted((ROOT / "src/caloforge/pretrained").glob("*/model.json")),
    ids=lambda card: card.parent.name,
)
def test_the_page_of_each_released_model_is_its_card(card):
    page = card.with_name("README.md").read_text(encoding="utf-8")
    assert page == card_markdown(json.loads(card.read_text(encoding="utf-8")), card.parent.name)


def one_line(text):
    return " ".join(text.split())


def minus(text):
    return text.replace("-", "−")


def spaced(number):
    """Thousands apart, as in 13 920."""
    return f"{number:,}".replace(",", " ")


def significant(number, digits=3):
    """A large number rounded to so many digits: 10 500."""
    return spaced(int(float(f"{number:.{digits}g}")))


class Figures:
    """The figures of a card as the pages write them."""

    def __init__(self, card):
        self.card = card
        [self.report] = card["card"]["validations"]
        [self.data] = card["data"]
        self.timing = card["card"]["timing"]
        self.parameters = sum(card["parameters"].values())
        low, high = (round(energy / 1000) for energy in card["facts"]["ranges"]["energy"])
        self.energies = f"{low} to {high} GeV"

    def figure(self, label):
        return next(
            one
            for one in self.report["figures"]
            if one["label"] == label and one["where"] == "all showers" and one["value"] is not None
        )

    def row(self, name, label, digits, *, percent=False, floor_digits=None):
        found = self.figure(label)
        scale, unit = (100, " %") if percent else (1, "")
        value, error, floor = (scale * found[key] for key in ("value", "uncertainty", "floor"))
        floor_digits = digits if floor_digits is None else floor_digits
        cells = [f"{value:.{digits}f} ± {error:.{digits}f}{unit}", f"{floor:.{floor_digits}f}{unit}"]
        return f"| {name} | {minus(cells[0])} | {cells[1]} |"

    def timed(self, backend, batch, *, to_disk=False):
        return next(
            row
            for row in self.timing["rows"]
            if (row["backend"], row["batch"], row["to_disk"], row["threads"]) == (backend, batch, to_disk, 1)
        )

    def failing(self):
        """Comparisons that fail, and the observables they are of."""
        failures = self.report["failures"]
        names = " and ".join(f"`{name}`" for name in sorted({one["observable"] for one in failures}))
        return sum(one["count"] for one in failures), names

    def table(self):
        """The table of the README."""
        fast, single = self.timed("numba", 128), self.timed("numba", 1)
        onnx, file = self.timed("onnx", 1), self.timed("numba", 128, to_disk=True)
        failing, names = self.failing()
        megabytes, geant4 = self.card["weights_bytes"] / 1e6, self.timing["geant4"][0]["ms"] / 1000
        alone = f"{single['ms']:.2f} ms (ONNX Runtime {onnx['ms']:.2f} ms)"
        return [
            "| | `clic-electron` | two samples of Geant4 |",
            "|---|---|---|",
            f"| training showers, of {spaced(self.data['showers'])} | {spaced(self.data['trained_on'])} | |",
            f"| showers compared, never trained on | {self.report['showers']} | |",
            self.row("AUC, boosted trees on observables", "AUC, boosted trees on observables", 3),
            self.row("AUC, CNN on every cell", "AUC, strong CNN on every cell", 3, floor_digits=2),
            self.row("AUC, CaloChallenge MLP on cells", "AUC, CaloChallenge MLP on cells", 3, floor_digits=2),
            self.row("mean response", "mean response", 2, percent=True),
            self.row("mean number of hits", "mean number of hits", 2, percent=True),
            self.row("Fréchet physics distance", "Fréchet physics distance", 4),
            f"| comparisons of `strict` that fail | {failing} of {self.report['trials']} ({names}) | |",
            f"| comparisons of `strict` that are undecided | {self.report['undecided']} | |",
            f"| trained parameters, teacher and student | {significant(self.parameters, 2)} | |",
            f"| weights, with the features of the training showers | {megabytes:.0f} MB | |",
            f"| a shower on one core, batch 128, noise included | {fast['ms']:.3f} ms | {geant4:.2f} s |",
            f"| the same one by one; with the file | {alone}; {file['ms']:.2f} ms | |",
            f"| times as fast as Geant4 | {significant(fast['times_geant4'])} | |",
        ]

    def quotes(self):
        """Pages, and what each of them quotes."""
        fast = self.timed("numba", 128)
        for row in self.table():
            yield "README.md", row
        yield "README.md", f"electrons of {self.energies}"
        yield "docs/index.md", f"electrons of {self.energies}"
        yield "docs/index.md", f"[{significant(fast['times_geant4'])} times as fast]"
        yield "docs/how-to/backends.md", f"{fast['ms']:.2f} ms a shower with those of AVX-512"


# kinds of figures of the released model wherever a page quotes one, and the text they must have
KINDS = {
    r"\d[\d ]* times as fast(?=(?:\]\([^)]*\))? as Geant4)": lambda found: (
        f"{significant(found.timed('numba', 128)['times_geant4'])} times as fast"
    ),
    r"\d+ of \d+ comparisons(?= of `strict`| fail)": lambda found: (
        f"{found.failing()[0]} of {found.report['trials']} comparisons"
    ),
    r"\d+ \d{3} of \d+ \d{3}(?= showers)": lambda found: (
        f"{spaced(found.data['trained_on'])} of {spaced(found.data['showers'])}"
    ),
    r"(?<=`clic-electron`, )\d+\.\d+ MB": lambda found: f"{found.card['weights_bytes'] / 1e6:.2f} MB",
    r"\d+ 000(?= numbers are learned)": lambda found: significant(found.parameters, 2),
    r"\d+ \d{3}(?= numbers are trained)": lambda found: spaced(found.parameters),
    r"(?<=off by up to )\d+\.\d+ %": lambda found: (
        f"{100 * max(one['value'] for one in found.report['failures']):.1f} %"
    ),
    r"\d\.\d\d ms(?= on an EPYC)": lambda found: f"{found.timed('numba', 128)['ms']:.2f} ms",
}


@pytest.mark.parametrize(("name", "text"), [*Figures(CARD).quotes()])
def test_a_page_quotes_the_card(name, text):
    assert text in one_line(read(name)), f"{name}: expected {text!r}"


@pytest.mark.parametrize("pattern", KINDS)
def test_the_same_figure_is_the_same_on_every_page(pattern):
    expected = KINDS[pattern](Figures(CARD))
    for name in NAMES:
        assert {found.strip() for found in re.findall(pattern, one_line(read(name)))} <= {expected}, name


def test_measured_figures_of_the_released_model_are_those_of_the_card():
    """In every sentence about the released model or its card."""
    known = CARD["card"]["validations"][0]["figures"]
    for name in NAMES:
        for sentence in re.split(r"(?<=[.:;|])\s", read(name)):
            if not re.search(r"released model|the card", sentence):
                continue
            for value, error in MEASURED.findall(one_line(sentence)):
                digits = len(value.split(".")[1])
                written = {
                    (minus(f"{scale * one['value']:.{digits}f}"), f"{scale * one['uncertainty']:.{digits}f}")
                    for one in known
                    for scale in (1, 100)
                }
                assert (minus(value), error) in written, f"{name}: {one_line(sentence)}"


def test_the_section_of_the_readme_quotes_nothing_else():
    text = SECTION.search(read("README.md"))[1]
    for row in Figures(CARD).table():
        text = text.replace(row, "")
    text = text.replace(f"electrons of {Figures(CARD).energies}", "").replace("25 × 25 × 25", "")
    mesh = CARD["detector"]["mesh"]
    assert (mesh["nx"], mesh["ny"]) == (25, 25)
    # of several trainings, which the card does not know
    [spread] = MEASURED.findall(text)
    assert " ± ".join(spread) in read("docs/explanation/layered.md")
    rest = INDENTED.sub("", MEASURED.sub("", text)).replace("(AUC) of 0.5", "").replace("AVX-512", "")
    assert not re.findall(r"\d+", re.sub(r"`[^`]*`|\]\([^)]*\)", "", rest))


def test_every_quote_follows_the_card():
    """With every number of the card another, no quote stays as it is."""

    def changed(value):
        if isinstance(value, dict):
            # what a row is looked up by
            return {key: one if key in ("batch", "threads") else changed(one) for key, one in value.items()}
        if isinstance(value, list):
            return [changed(one) for one in value]
        return value if isinstance(value, bool | str | None) else type(value)(1.5 * value + 5)

    before, after = Figures(CARD), Figures(changed(copy.deepcopy(CARD)))
    head = before.table()[:2]
    for (_, old), (_, new) in zip(before.quotes(), after.quotes(), strict=True):
        assert old != new or old in head
    assert all(expected(before) != expected(after) for expected in KINDS.values())


def test_the_count_of_numbers_is_that_of_the_program():
    """What `generate --allow-large` compares with its limit."""
    stored = read_model(MODEL)
    count = family_of(stored.config).count_numbers(stored.config, stored.detector, stored.facts)
    assert f"The released model has {count / 1e6:.1f} million" in one_line(read("docs/how-to/generate.md"))
