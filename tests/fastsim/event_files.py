"""Writing of small HepMC files."""

import math

import pyhepmc

# GeV
MASSES = {
    11: 0.000511,
    -11: 0.000511,
    22: 0.0,
    111: 0.1349768,
    211: 0.13957,
    13: 0.10566,
    12: 0.0,
    2112: 0.93957,
}


def particle(pdg_id, px, py=0.0, pz=0.0, *, at=(0.0, 0.0, 0.0), status=1):
    """A final particle with its momentum in GeV and its vertex in mm."""
    return pdg_id, (px, py, pz), at, status


def write_hepmc(path, events, *, units="GEV", **options):
    """Write events, lists of `particle`; a decayed Z is the mother of each."""
    scale = 1e3 if units == "MEV" else 1.0
    with pyhepmc.open(path, "w", **options) as file:
        for number, particles in enumerate(events):
            event = pyhepmc.GenEvent(getattr(pyhepmc.Units, units), pyhepmc.Units.MM)
            event.event_number = number + 100
            for pdg_id, (px, py, pz), (x, y, z), status in particles:
                mass = MASSES.get(pdg_id, 0.0)
                total = px * px + py * py + pz * pz + mass * mass
                energy = math.sqrt(total) if math.isfinite(total) else 0.0
                vertex = pyhepmc.GenVertex((x, y, z, 0.0))
                mother = pyhepmc.GenParticle((0, 0, 0, 91.2 * scale), 23, 2)
                child = pyhepmc.GenParticle(
                    (px * scale, py * scale, pz * scale, energy * scale), pdg_id, status
                )
                child.generated_mass = mass * scale
                vertex.add_particle_in(mother)
                vertex.add_particle_out(child)
                event.add_vertex(vertex)
            file.write(event)
    return path
