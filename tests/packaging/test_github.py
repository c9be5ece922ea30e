"""What only GitHub and its neighbours run is looked at here: valid, safe, and about this project."""

import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TOOLS = Path(sysconfig.get_path("scripts"))
SCHEMAS = {
    "vendor.github-workflows": ".github/workflows/*.yml",
    "vendor.github-issue-forms": ".github/ISSUE_TEMPLATE/[!c]*.yml",
    "vendor.github-issue-config": ".github/ISSUE_TEMPLATE/config.yml",
    "vendor.dependabot": ".github/dependabot.yml",
    "vendor.readthedocs": ".readthedocs.yaml",
    "vendor.citation-file-format": "CITATION.cff",
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_files_follow_their_schemas(schema):
    files = [str(path) for path in ROOT.glob(SCHEMAS[schema])]
    assert files
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *files]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_workflows_are_safe():
    command = [TOOLS / "zizmor", "--offline", "--no-progress", ROOT / ".github"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def workflow(name):
    return yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())


def test_every_python_that_is_promised_is_tested():
    last = [line.rpartition(" :: ")[2] for line in PROJECT["classifiers"]]
    promised = {word for word in last if word.startswith("3.")}
    tested = workflow("tests")["jobs"]["tests"]["strategy"]["matrix"]["python"]
    assert set(tested) == promised and f">={min(promised, key=minor)}" == PROJECT["requires-python"]


def minor(version):
    return int(version.partition(".")[2])


def test_the_shell_of_workflows_passes_shellcheck():
    for name in ("tests", "release"):
        for job in workflow(name)["jobs"].values():
            for step in job["steps"]:
                if "run" not in step:
                    continue
                # expressions are refused in scripts by the test above
                command = [TOOLS / "shellcheck", "--shell=bash", "-"]
                done = subprocess.run(command, input=step["run"], capture_output=True, text=True)
                assert done.returncode == 0, step["run"] + done.stdout


def test_only_a_tag_of_the_version_is_published():
    build = next(
        step["run"] for step in workflow("release")["jobs"]["build"]["steps"] if "tag" in step.get("name", "")
    )
    from caloforge import __version__

    for tag, status in ((f"v{__version__}", 0), ("v99.0.0", 1)):
        environment = {"GITHUB_REF_NAME": tag, "PATH": "/usr/bin:/bin"}
        done = subprocess.run(["bash", "-e", "-c", build], cwd=ROOT, env=environment)
        assert done.returncode == status


def test_hooks_name_tools_of_the_project():
    [repository] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        folder, _, tool = hook["entry"].partition(" ")[0].rpartition("/")
        assert folder == ".venv/bin" and (TOOLS / tool).exists(), tool


def test_addresses_are_those_of_the_metadata():
    source = PROJECT["urls"]["Source"]
    for name in ("SECURITY.md", "CONTRIBUTING.md", ".github/ISSUE_TEMPLATE/config.yml"):
        assert source in (ROOT / name).read_text(), name
