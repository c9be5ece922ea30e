"""Draw the pictures of the README and the documentation into docs/images.

    python scripts/draw_images.py                            # the detectors
    python scripts/draw_images.py TRUTH.h5 GENERATED.h5      # a Geant4 shower beside a generated one, too

The generated file is made with `caloforge generate --like TRUTH.h5`: shower i of both has the same energy.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from caloforge import ShowerFile, load_detector
from caloforge.geometry.pictures import cross_section
from caloforge.showers.pictures import side_by_side

FOLDER = Path(__file__).parents[1] / "docs/images"
DETECTORS = ("clic-ecal-25", "par04-siw")
# energy of the shower in the README, MeV
ENERGY = 2e5


def main(arguments: list[str]) -> None:
    for name in DETECTORS:
        save(cross_section(load_detector(name)), name)
    if arguments:
        truth, generated = arguments
        with ShowerFile(truth) as left, ShowerFile(generated) as right:
            count = min(len(left), len(right))
            index = int(np.abs(left.column("incident_energy")[:count] - ENERGY).argmin())
            pair = [file.read(index, index + 1) for file in (left, right)]
            save(side_by_side(pair[0], pair[1], left.detector, ("Geant4", "caloforge")), "shower")


def save(figure: Figure, name: str) -> None:
    # no version of matplotlib in the file: the same picture is the same bytes
    figure.savefig(FOLDER / f"{name}.png", dpi=130, metadata={"Software": None})


if __name__ == "__main__":
    main(sys.argv[1:])
