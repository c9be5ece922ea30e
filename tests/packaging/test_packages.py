"""The packages hold what they must, and the wheel works where nothing else of ours is."""

import os
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from caloforge import __version__

ROOT = Path(__file__).parents[2]
# written by Python and the tools, in whatever folder they run
PASSING = {"__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"}


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Both, the wheel built from the source distribution, as a release is."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    [wheel], [source] = out.glob("*.whl"), out.glob("*.tar.gz")
    assert wheel.name == f"caloforge-{__version__}-py3-none-any.whl"
    assert source.name == f"caloforge-{__version__}.tar.gz"
    return wheel, source


def of_the_project(folder):
    paths = (path for path in (ROOT / folder).rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in paths if not PASSING & set(path.parts)}


def test_nothing_of_the_package_is_missing(packages):
    wheel, source = packages
    code = of_the_project("src/caloforge")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name for name in names if ".dist-info/" not in name} == {n.removeprefix("src/") for n in code}
    with tarfile.open(source) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert code | of_the_project("tests") <= inside
    assert {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml", "Makefile"} <= inside


@pytest.fixture(scope="module")
def clean(packages, tmp_path_factory):
    """A virtual environment with the wheel; what it needs is borrowed from this one."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv/bin/python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index"]
    done = subprocess.run([*install, str(packages[0])], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [site] = (folder / "venv/lib").glob("python*/site-packages")
    # lines of a .pth file in them, which would lead back to the source, are not read
    borrowed = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site / "borrowed.pth").write_text("\n".join(borrowed))

    def run(*command):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        done = subprocess.run(
            [str(folder / "venv/bin" / command[0]), *command[1:]],
            capture_output=True,
            text=True,
            cwd=folder,
            env=environment | {"OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    run.folder, run.site = folder, site
    return run


@pytest.mark.slow
def test_the_wheel_works_by_itself(clean):
    assert clean("python", "-c", "import caloforge; print(caloforge.__file__)").startswith(str(clean.site))
    assert __version__ in clean("caloforge", "--version")
    listed = clean("caloforge", "list")
    for path in (ROOT / "src/caloforge/recipes").glob("*.yaml"):
        assert path.stem in listed
    clean("caloforge", "init", "clic-electron", "-o", "run.yaml")
    command = ["generate", "clic-electron", "-n", "5", "--energy", "20 GeV", "-o", "showers.h5"]
    clean("caloforge", *command, "--backend", "torch", "--no-progress")
    assert (clean.folder / "showers.h5").is_file()


def test_the_metadata_are_those_of_the_project(clean):
    [info] = clean.site.glob("caloforge-*.dist-info")
    metadata = Distribution.at(info).metadata
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert metadata["Version"] == __version__ and metadata["License-Expression"] == project["license"]
    urls = dict(line.split(", ", 1) for line in metadata.get_all("Project-URL"))
    assert urls == project["urls"] and {"Source", "Issues", "Documentation"} <= urls.keys()
    assert set(metadata.get_all("Provides-Extra")) == set(project["optional-dependencies"])
    # readers of an index see it; its links must not lead nowhere there
    assert metadata["Description-Content-Type"] == "text/markdown"
