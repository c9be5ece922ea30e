r"""Makes a library of showers, such as `foundation`, to start trainings from.

    for i in $(seq 0 59); do
        caloforge simulate par04-siw-electron --set "detector={random: $i}" -n 20 --seed $((9000 + i)) \
            --set "beam.energy={kind: log-flat, min: 0.8 GeV, max: 300 GeV}" -o boxes/$i.h5
    done
    python benchmarks/foundation.py boxes/*.h5 -o foundation

Showers of one detector, orthogonal at the centre of a cartesian mesh, may be in several files.
"""

import argparse
from pathlib import Path

import numpy as np

from caloforge.models.layered.shower_library.hits import DetectorHits
from caloforge.models.layered.shower_library.store import describe, write_library
from caloforge.showers import ShowerFile

KEPT = ("engine", "physics", "production_cut", "beam", "seed", "n")


def main():
    """Read, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("showers", type=Path, nargs="+")
    parser.add_argument("--name", default="foundation")
    parser.add_argument("--limit", type=float, default=300e3, help="largest energy, MeV")
    parser.add_argument("-o", "--out", type=Path, required=True)
    asked = parser.parse_args()
    found, facts, particles, meanings = {}, {}, set(), set()
    for path in asked.showers:
        with ShowerFile(path) as file:
            batch, detector = file.read(), file.detector
            made = {key: file.provenance[key] for key in KEPT if key in file.provenance}
            meanings.add(file.energy_meaning)
        batch = batch[np.flatnonzero(batch.incident_energy <= asked.limit)]
        particles |= set(map(int, batch.pdg_id))
        hits = DetectorHits.of(detector, batch.incident_energy, batch.showers)
        found.setdefault(detector.geometry_digest, []).append(hits)
        facts.setdefault(detector.geometry_digest, []).append({"detector": detector.name, **made})
    [particle], [meaning] = particles, meanings
    groups = [DetectorHits.joined(parts) for parts in found.values()]
    data = [record for records in facts.values() for record in records]
    library = write_library(asked.out, asked.name, groups, pdg_id=particle, energy_meaning=meaning, data=data)
    print(describe(library.card), f"{library.card.weights_bytes / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
