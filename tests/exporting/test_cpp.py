"""The C++ generator, compiled with CMake, passes the self-test of an export and refuses what was changed."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import caloforge

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))
from pages import blocks

pytest.importorskip("onnxscript")
TOOLS = [shutil.which(name) for name in ("cmake", "g++")]
pytestmark = pytest.mark.skipif(
    None in TOOLS or importlib.util.find_spec("openvino") is None,
    reason="needs cmake, g++ and OpenVINO with its headers: the C++ generator is not compiled",
)
SOURCES = Path(caloforge.__path__[0]) / "exporting/cpp"


@pytest.fixture(scope="session")
def program(exported, tmp_path_factory):
    """The example, built as the guide says."""
    folder = exported("cpp", particles=(11, 22))
    build = tmp_path_factory.mktemp("build")
    openvino = Path(importlib.util.find_spec("openvino").origin).parent
    configure = ["cmake", "-S", folder, "-B", build, f"-DOpenVINO_DIR={openvino / 'cmake'}"]
    # all warnings are errors; unoptimised, since it is built for every run of the tests
    configure += ["-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror", "-DCMAKE_BUILD_TYPE=Debug"]
    for command in (configure, ["cmake", "--build", build]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stdout + done.stderr
    return build / "example"


def run(program, folder):
    return subprocess.run([program, folder], capture_output=True, text=True, timeout=120)


def test_it_makes_the_showers_of_the_export(program, exported):
    done = run(program, exported("cpp", particles=(11, 22)))
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"self-test passed: (\S+) of the energy", done.stdout)
    assert float(found[1]) < 1e-5
    assert re.findall(r"batch +(\d+): +\S+ ms a shower", done.stdout) == ["1", "10", "100"]
    assert "is outside the trained range; leave this particle to Geant4" in done.stdout


@pytest.mark.parametrize("file", ["model.onnx", "reference.bin"])
def test_a_changed_file(program, copied, file):
    folder = copied("cpp", particles=(11, 22))
    data = bytearray((folder / file).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / file).write_bytes(data)
    done = run(program, folder)
    assert done.returncode == 1
    assert f"{file} is not the file of its manifest.json; export the model again" in done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], "manifest.json is no JSON"),
        (lambda text: text.replace('"format_version": 1', '"format_version": 2'), "no export of a version"),
        (lambda text: text.replace('"trained"', '"learned"'), 'no "trained"'),
        (lambda text: text.replace('"energy"', '"Energy"', 1), "the input Energy is not known here"),
        (lambda text: text.replace('"shape": [\n   25,', '"shape": [\n   24,'), "another size"),
        (lambda text: text.replace('"min": 10000.0', '"min": 499999.0'), "outside the trained range"),
    ],
)
def test_a_manifest_that_does_not_match(program, copied, change, message):
    folder = copied("cpp", particles=(11, 22))
    text = (folder / "manifest.json").read_text()
    assert change(text) != text
    (folder / "manifest.json").write_text(change(text))
    done = run(program, folder)
    assert (done.returncode, message in done.stderr) == (1, True), done.stderr


def test_the_commands_of_the_guide_are_those_of_the_test():
    (block,) = blocks("docs/how-to/export-cpp.md", "sh")
    configure, compile_, start = block.splitlines()
    assert configure.startswith("cmake -S exported -B build -DOpenVINO_DIR=")
    assert (compile_, start) == ("cmake --build build", "build/example exported")


def test_the_generator_of_the_guide_compiles(program, exported, tmp_path):
    """The first block, in a function, with a source of numbers instead of CLHEP's."""
    text = blocks("docs/how-to/export-cpp.md", "cpp")[0].replace("CLHEP::RandGauss::shoot()", "0.0")
    include, body = text.split("\n", 1)
    (tmp_path / "guide.cpp").write_text(f"{include}\nvoid guide() {{\n{body}}}\n")
    headers = Path(importlib.util.find_spec("openvino").origin).parent / "include"
    command = ["g++", "-std=c++17", "-fsyntax-only", "-Wall", "-I", SOURCES, "-isystem", headers]
    done = subprocess.run([*command, tmp_path / "guide.cpp"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_the_folder_has_every_source(exported):
    folder = exported("cpp", particles=(11, 22))
    names = {str(path.relative_to(SOURCES)) for path in SOURCES.rglob("*") if path.is_file()}
    assert "caloforge/fast_sim_model.hpp" in names
    for name in names:
        assert (folder / name).read_bytes() == (SOURCES / name).read_bytes()
    assert json.loads((folder / "manifest.json").read_text())["target"] == "cpp"
