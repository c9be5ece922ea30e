"""The pi0 mass peak and what else hits show: Geant4 alone against a model at its gate.

    python benchmarks/pi0_peak.py MODEL -o peak --acceptance "2.6 deg"  # pi0 of 10 to 30 GeV, 5 m in front
    python benchmarks/pi0_peak.py MODEL -o zh --events ZH250_ISR.edm4hep.root --repeat 40

MODEL takes photons; those of pi0 come at up to 2.6 deg from the normal. Pi0 decay in Geant4; both photons are
found by a simple clustering of hits, and their mass is computed from energies and positions. With `--events`
energies of events and hits of layers are compared instead, means over `--repeat` simulations of each event.
Both simulations see the same particles. Writes full.root, fast.root, and a picture.
"""

import argparse
import json
from pathlib import Path

import awkward as ak
import numpy as np
import pyhepmc
import uproot
from matplotlib.figure import Figure

import caloforge
from caloforge.fastsim.events.reading import read_events

MASS = 0.1349768
ENERGIES = (10.0, 30.0)
DISTANCE = 5000.0
# the line of flight ends at most so far from the middle of the face, mm
SPREAD = 150.0
# hits that make the position of a cluster, least distance of two clusters, and half the window of a model, mm
CORE, APART, REACH = 12.0, 20.0, 60.0
# photons below this energy are not looked for, GeV
LEAST = 2.0
WINDOW = (0.06, 0.21)
FULL, FAST = "Geant4", "with the model"


def write_pions(path, count, seed):
    """Pi0 from the origin to the face at x = DISTANCE, one an event."""
    rng = np.random.default_rng(seed)
    with pyhepmc.open(path, "w") as file:
        for number in range(count):
            y, z = rng.uniform(-SPREAD, SPREAD, 2)
            energy, way = rng.uniform(*ENERGIES), np.array([DISTANCE, y, z])
            momentum = np.sqrt(energy**2 - MASS**2) * way / np.linalg.norm(way)
            event = pyhepmc.GenEvent(pyhepmc.Units.GEV, pyhepmc.Units.MM)
            event.event_number = number
            vertex = pyhepmc.GenVertex((0, 0, 0, 0))
            vertex.add_particle_in(pyhepmc.GenParticle((0, 0, energy, energy), 23, 2))
            vertex.add_particle_out(pyhepmc.GenParticle((*momentum, energy), 111, 1))
            event.add_vertex(vertex)
            file.write(event)


def photons(y, z, energy):
    """Energies and positions (at the face, mm) of two clusters of hits; None where there is one only."""
    cells, found = np.stack([y, z], axis=1), []
    for _ in range(2):
        far = np.ones(len(cells), bool)
        for place in found:
            far &= np.hypot(*(cells - place).T) > APART
        if not far.any():
            return None
        near = np.hypot(*(cells[:, None] - cells[far]).transpose(2, 0, 1)) < CORE
        place = cells[far][np.argmax(energy @ near)]
        for _ in range(3):
            inside = np.hypot(*(cells - place).T) < CORE
            place = energy[inside] @ cells[inside] / energy[inside].sum()
        found.append(place)
    away = np.array([np.abs(cells - place).max(axis=1) for place in found])
    mine = (np.argmin(away, axis=0) == np.arange(2)[:, None]) & (away < REACH)
    return mine @ energy, np.array(found)


def masses(events, response):
    """Mass of the two photons of each event that has two, GeV."""
    result = []
    for event in events:
        x, y, z, energy = (
            np.asarray(event[f"ECalHits.{name}"])
            for name in ("position.x", "position.y", "position.z", "energy")
        )
        # photons come from the origin: every hit is moved along its line to the face
        found = photons(y * DISTANCE / x, z * DISTANCE / x, energy / response) if len(x) else None
        if found is None or found[0].min() < LEAST:
            continue
        way = np.insert(found[1], 0, DISTANCE, axis=1)
        way /= np.linalg.norm(way, axis=1)[:, None]
        result.append(np.sqrt(2 * found[0].prod() * (1 - way[0] @ way[1])))
    return np.array(result)


def peak(values, rng):
    """Median and half of the central 68 % inside the window, GeV, each with its standard error."""
    inside = values[(values > WINDOW[0]) & (values < WINDOW[1])]
    picks = np.quantile(rng.choice(inside, (200, len(inside))), [0.16, 0.5, 0.84], axis=1)
    low, middle, high = np.quantile(inside, [0.16, 0.5, 0.84])
    spread = float(((picks[2] - picks[0]) / 2).std())
    return {"events": len(inside), "median": [float(middle), float(picks[1].std())],
            "width": [float((high - low) / 2), spread]}  # fmt: skip


def draw_masses(samples, path):
    figure = Figure(figsize=(5.5, 3.8), layout="constrained")
    axes = figure.subplots()
    bins = np.linspace(*WINDOW, 51) * 1e3
    for kind, (name, values) in zip(("stepfilled", "step"), samples.items(), strict=False):
        axes.hist(
            values * 1e3, bins, histtype=kind, label=name, color="0.75" if kind != "step" else "C0", lw=1.5
        )
    axes.axvline(MASS * 1e3, color="k", lw=0.8, ls=":")
    axes.set(xlabel="mass of two photons, MeV", ylabel="events")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=130)


def repeat_events(path, copy, repeats):
    """The final particles of every event of a file, the whole file so many times; returns its events."""
    originals = list(read_events(Path(path)))
    with pyhepmc.open(copy, "w") as file:
        for number in range(repeats * len(originals)):
            columns = originals[number % len(originals)].columns
            event = pyhepmc.GenEvent(pyhepmc.Units.GEV, pyhepmc.Units.MM)
            event.event_number = number
            for row in np.flatnonzero(columns["generatorStatus"] == 1):
                momentum = [float(columns[f"momentum.{axis}"][row]) for axis in "xyz"]
                energy = float(np.hypot(columns["mass"][row], np.linalg.norm(momentum)))
                place = [float(columns[f"vertex.{axis}"][row]) for axis in "xyz"]
                # HepMC has lengths of c t
                vertex = pyhepmc.GenVertex((*place, 299.792458 * float(columns["time"][row])))
                vertex.add_particle_in(pyhepmc.GenParticle((0, 0, energy, energy), 23, 2))
                pdg = int(columns["PDG"][row])
                vertex.add_particle_out(pyhepmc.GenParticle((*momentum, energy), pdg, 1))
                event.add_vertex(vertex)
            file.write(event)
    return len(originals)


def measured(events):
    """Visible energy (MeV), hits, and hits of each layer, of each event."""
    energy = ak.to_numpy(ak.sum(events["ECalHits.energy"], axis=1)) * 1e3
    layers = [np.bincount(np.asarray(cells & 0xFFFF), minlength=64) for cells in events["ECalHits.cellID"]]
    return energy, ak.to_numpy(ak.num(events["ECalHits.cellID"])), np.array(layers)


def mean(values):
    """Mean over the repeats (first axis) and its standard error."""
    error = values.std(axis=0, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0 * values[0]
    return values.mean(axis=0), error


def compare_events(samples, count):
    """Means over the repeats, with standard errors: of each event, of all, and of all hits of each layer."""
    found = {}
    for name, events in samples.items():
        energy, hits, layers = (part.reshape(-1, count, *part.shape[1:]) for part in measured(events))
        found[name] = {
            "energy": mean(energy), "hits": mean(hits), "layers": mean(layers.mean(axis=1)),
            "all energy": mean(energy.sum(axis=1)), "all hits": mean(hits.sum(axis=1)),
        }  # fmt: skip
    return found


def draw_events(found, path):
    """Energy of each event, and mean hits of each layer, with standard errors."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (name, means), mark, color in zip(found.items(), ("o", "x"), ("0.6", "C0"), strict=False):
        energy, error = means["energy"]
        left.errorbar(
            np.arange(len(energy)), energy, error, fmt=mark, color=color, ms=8, mew=2, capsize=4, label=name
        )
        layers, error = means["layers"]
        last = np.flatnonzero(layers)[-1] + 1
        right.step(np.arange(last), layers[:last], where="mid", color=color, lw=1.5, label=name)
        right.errorbar(np.arange(last), layers[:last], error[:last], fmt="none", color=color, lw=1)
    left.set(xlabel="event", ylabel="visible energy, MeV", xticks=np.arange(len(energy)))
    right.set(xlabel="layer", ylabel="hits per event")
    left.set_xlim(-0.5, len(energy) - 0.5)
    for axes in (left, right):
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
    figure.get_layout_engine().set(wspace=0.05)
    figure.savefig(path, dpi=130)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", nargs="?", help="a photon model; without it Geant4 alone")
    parser.add_argument("-d", "--detector", default="clic-ecal-25")
    parser.add_argument("-n", type=int, default=300, help="pi0")
    parser.add_argument("--events", help="events of your own, in place of pi0")
    parser.add_argument("--acceptance", help="directions that MODEL takes beyond those it was trained on")
    parser.add_argument("--repeat", type=int, default=1, help="simulations of each event, with --events")
    parser.add_argument("--distance", default="30 cm", help="of the face, with --events")
    parser.add_argument("--facing", default="x", help="side of the face, with --events")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--out", required=True)
    arguments = parser.parse_args()
    out = Path(arguments.out)
    out.mkdir(parents=True)
    settings = {"distance": arguments.distance, "facing": arguments.facing}
    if arguments.events is None:
        events, settings = out / "pi0.hepmc", {"distance": f"{DISTANCE:g} mm"}
        write_pions(events, arguments.n, arguments.seed)
    else:
        events = out / "events.hepmc"
        count = repeat_events(arguments.events, events, arguments.repeat)
    samples = {}
    for name, file, fast in ((FULL, "full.root", None), (FAST, "fast.root", arguments.model)):
        if name == FAST and fast is None:
            continue
        outcome = caloforge.simulate_events(
            events, detector=arguments.detector, out=out / file, fast=fast, seed=arguments.seed,
            acceptance=arguments.acceptance if fast else None, contributions="none", progress=False,
            **settings,
        )  # fmt: skip
        print(outcome.text)
        samples[name] = uproot.open(out / file)["events"].arrays()
    if arguments.events is not None:
        found = compare_events(samples, count)
        draw_events(found, out / "events.png")
        for name, means in found.items():
            for key in ("energy", "hits", "all energy", "all hits"):
                print(name, key, *(np.round(value, 2).tolist() for value in means[key]))
        return
    # one calibration, of Geant4, for both
    energy = ak.sum(samples[FULL]["ECalHits.energy"])
    response = energy / ak.sum(np.hypot(MASS, momenta(samples[FULL])))
    found = {name: masses(events, response) for name, events in samples.items()}
    draw_masses(found, out / "pi0.png")
    rng = np.random.default_rng(arguments.seed)
    print(json.dumps({name: peak(values, rng) for name, values in found.items()}, indent=1))


def momenta(events):
    """Momenta of the pi0, GeV."""
    pions = events["MCParticles.PDG"] == 111
    parts = [events[f"MCParticles.momentum.{axis}"][pions] for axis in "xyz"]
    return np.sqrt(sum(part**2 for part in parts))


if __name__ == "__main__":
    main()
