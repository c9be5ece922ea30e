"""Store studies of resources: the curves of `caloforge check`, and tables and pictures of the guide.

    python scripts/write_resources.py STUDY [STUDY ...]

STUDY is a folder that `caloforge benchmark resources` wrote; data and truth were named without folders.
"""

import json
import shutil
import sys
from pathlib import Path

from caloforge.timing.resources.curves import DATA
from caloforge.timing.resources.tables import markdown_tables

DOCS = Path(__file__).parents[1] / "docs"


def main(folders):
    for folder in map(Path, folders):
        document = json.loads((folder / "resources.json").read_text(encoding="utf-8"))
        identity = document["identity"]
        name = f"{identity['detector']}-{identity['family']}"
        DATA.mkdir(exist_ok=True)
        (DATA / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        page = DOCS / "how-to" / f"resources-{name}.inc"
        page.write_text(markdown_tables(document), encoding="utf-8")
        shutil.copyfile(folder / "resources.png", DOCS / "images" / f"resources-{name}.png")
        print(f"{name}: {len(document['points'])} trainings")


if __name__ == "__main__":
    main(sys.argv[1:])
