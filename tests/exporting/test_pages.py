"""The blocks of the guides run, on the export of a small model."""

import shutil
import sys
from pathlib import Path

import pytest

from caloforge.cli import build_app

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))
from pages import blocks, commands

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.mark.parametrize("page", ["onnx", "openvino", "ddml"])
def test_the_blocks_run(exported, page, tmp_path, monkeypatch, capsys):
    name = f"docs/how-to/export-{page}.md"
    # the last command is the one that the block continues
    _, bound, _ = build_app().parse_args([c for c in commands(name) if c[0] == "export"][-1])
    shutil.copytree(exported(bound.arguments.get("target", "onnx")), tmp_path / bound.arguments["out"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    programs = blocks(name, "python")
    assert programs
    for program in programs:
        exec(compile(program, name, "exec"), {})
    assert "(100, 25, 6, 8)" in capsys.readouterr().out or page != "onnx"
    sys.modules.pop("caloforge_ddml", None)
