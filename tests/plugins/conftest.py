import sys
import tomllib

import pytest
from installed import PACKAGE, install


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The example package, installed into a folder on sys.path."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    install(
        tmp_path / "site",
        monkeypatch,
        project["name"],
        project["version"],
        project["entry-points"],
        PACKAGE / "src",
    )
    yield project["entry-points"]
    for module in [name for name in sys.modules if name.partition(".")[0] == "caloforge_example"]:
        del sys.modules[module]
