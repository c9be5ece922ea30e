"""Type checkers know the public names: what is right passes, what is wrong does not."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import caloforge

ROOT = Path(__file__).parents[1]
RIGHT = """
import caloforge
from pathlib import Path
from caloforge.commands.outcome import Outcome

caloforge.simulate("clic-electron", n=20, out="truth.h5", workers=2)
caloforge.train("run.yaml", data=Path("truth.h5"), out="runs/first")
written: Outcome = caloforge.generate("runs/first", out="a.h5", like="truth.h5")
showers: caloforge.ShowerBatch = caloforge.generate("clic-electron", n=5, energy="50 GeV")
caloforge.validate("truth.h5", "a.h5", Path("b.h5"), out="report", truth2="more.h5")
with caloforge.ShowerFile("truth.h5") as file:
    batches = [batch.visible_energy() for batch in file]
    one: caloforge.ShowerBatch = file[0]
caloforge.plot.mean_shower(showers).savefig("mean.png")
caloforge.load_detector("clic-ecal-25").depth
"""
WRONG = {
    "caloforge.simulate('clic-electron', n=20, out='a.h5', worker=2)": "Unexpected keyword argument",
    "caloforge.generate('m', out='a.h5', precision='fp33')": "No overload variant",
    "caloforge.generate('m', n=5).n": 'has no attribute "n"',
    "caloforge.train('run.yaml', data='a.h5')": 'Missing named argument "out"',
    "caloforge.ShowerFile('a.h5').reed(0, 5)": 'has no attribute "reed"',
    "caloforge.generated('m')": 'has no attribute "generated"',
    "caloforge.plot.mean_showers('a.h5')": 'has no attribute "mean_showers"',
}


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """Messages of mypy by the line of a program, the right one first.

    With the settings of the project and its sources, which `make lint` has left in mypy's cache.
    """
    program = tmp_path_factory.mktemp("types") / "program.py"
    program.write_text("\n".join([RIGHT.strip(), *WRONG]))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "src", str(program)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stdout + done.stderr
    # the folder may be that of an earlier run, from the cache
    return re.findall(r"^.*program\.py:(\d+): (.*)$", done.stdout, re.MULTILINE)


def test_a_right_program_passes(checked):
    last = len(RIGHT.strip().splitlines())
    assert [text for line, text in checked if int(line) <= last] == []


@pytest.mark.parametrize("number", range(len(WRONG)), ids=list(WRONG))
def test_a_wrong_line_does_not(checked, number):
    line = len(RIGHT.strip().splitlines()) + 1 + number
    found = " ".join(text for place, text in checked if place == str(line))
    assert list(WRONG.values())[number] in found


def test_type_checkers_see_the_names_that_exist():
    tree = ast.parse(inspect.getsource(caloforge))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    seen = {}
    for node in block.body:
        seen |= {alias.name: node.module for alias in node.names}
    assert set(seen) == set(caloforge.__all__) - {"__version__"}
    for name, module in seen.items():
        value = inspect.unwrap(getattr(caloforge, name))
        assert value is getattr(sys.modules[module], name), name


def test_signatures_read_well():
    for name in caloforge.__all__:
        value = getattr(caloforge, name)
        if inspect.isfunction(value):
            text = str(inspect.signature(value))
            assert not any(word in text for word in ("Annotated", "Parameter", "Union", "ForwardRef")), text
            # text will do for every path
            assert text.count("pathlib.Path") == text.count("str | pathlib.Path") + text.count(
                "pathlib.Path | str"
            ), text
    assert caloforge.generate.__module__ == "caloforge"
    assert caloforge.generate is caloforge.generate
