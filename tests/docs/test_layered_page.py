"""The page of the layered model and its code use the same names and the same numbers of equations."""

import re

from pages import ROOT, read

PAGE = read("docs/explanation/layered.md")
SOURCES = {
    path: path.read_text(encoding="utf-8") for path in (ROOT / "src/caloforge/models/layered").rglob("*.py")
}
EQUATIONS = list(range(1, 30))


def test_equations_are_numbered_without_a_gap():
    assert [int(number) for number in re.findall(r"^\*\*\((\d+)\) ", PAGE, re.MULTILINE)] == EQUATIONS


def test_names_of_the_notation_are_those_of_the_code():
    sections = [
        PAGE.split(f"## {title}")[1].split("\n## ")[0]
        for title in ("Notation", "Showers at an angle, and anywhere in a cell")
    ]
    rows = re.findall(r"^\| \$.*?\$ \| ([^|]*) \|", "\n".join(sections), re.MULTILINE)
    names = {name for row in rows for name in re.findall(r"`([\w.]+)`", row)}
    assert len(names) > 32
    text = "\n".join(SOURCES.values())
    assert not [name for name in sorted(names) if not re.search(rf"\b{re.escape(name)}\b", text)]


def test_the_code_cites_every_equation_of_the_page_and_no_other():
    cited = set()
    for text in SOURCES.values():
        for first, joint, last in re.findall(r"Eq\. (\d+)(?:(,| and| to) (\d+))?", text):
            cited |= (
                set(range(int(first), int(last) + 1)) if joint == " to" else {int(first), int(last or first)}
            )
    assert sorted(cited) == EQUATIONS


def test_the_page_of_the_released_model_says_what_it_is():
    released = {
        "clic-electron": "13 920",
        "clic-electron-angle": "3 549",
        "clic-electron-wide": "7 524",
        "clic-em": "12 000",
        "hgcal-electron": "1 812",
        "par04-siw-electron": "1 574",
    }
    for name, showers in released.items():
        folder = f"src/caloforge/pretrained/{name}"
        page = read(f"{folder}/README.md")
        # what it stores, of how many showers, and what it learns
        assert f"resampled from those of {showers} stored training showers" in page
        assert "learned conditional density" in page
