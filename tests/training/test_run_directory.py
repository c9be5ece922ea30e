"""The names in a run directory have one owner, which every module imports."""

import ast
from pathlib import Path

import caloforge
from caloforge import run_directory

OWNER = Path(run_directory.__file__)
# "model" and "trackers" are also sections of a run
NAMES = {
    run_directory.RUN,
    run_directory.RESOLVED,
    run_directory.METRICS,
    run_directory.CHECKPOINTS,
    run_directory.CARD,
    run_directory.README,
}


def literals(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)} & NAMES


def test_no_other_module_writes_the_names():
    sources = Path(caloforge.__file__).parent.rglob("*.py")
    assert {str(path): found for path in sources if path != OWNER and (found := literals(path))} == {}
    assert literals(OWNER) == NAMES
