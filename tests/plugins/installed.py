"""Packages, as an installer leaves them."""

import os
import shutil
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "plugin_package"


def install(target, monkeypatch, name, version, entry_points, source=None):
    """Put a package on sys.path, here and in children: its modules and their metadata.

    `entry_points` are group -> name -> object.
    """
    target.mkdir(exist_ok=True)
    if source is not None:
        shutil.copytree(source, target, dirs_exist_ok=True)
    metadata = target / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = []
    for group, points in entry_points.items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in points.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(target)
    path = os.pathsep.join(filter(None, [str(target), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
