"""CPU times of a shower: released models in machine code on one core, and Geant4 in the same conditions.

    python benchmarks/released_times.py clic-em par04-siw-electron ...

Energies and angles are flat over the range that a model is made for. Each is timed in a process of its own,
pinned to one core, by its CPU time, which other work on the machine hardly changes. Geant4 simulates showers
for `--seconds`; its time is per incident energy, times the mean energy of the range.
"""

import argparse
import json
import os
import subprocess
import sys
import time

import numpy as np

from caloforge.timing.machine import quietest_core

BATCHES = (1, 128)
REPEATS = 5
SEED = 91
PARTICLES = {11: "e-", 22: "gamma", 111: "pi0"}


def cpu_time_of(work):
    start = time.process_time()
    work()
    return time.process_time() - start


def generator(name, seconds):
    """Seconds a shower for each batch size: the median of some repeats."""
    from caloforge.timing.generators import open_engine

    engine = open_engine(
        {"source": {"model": name}, "backend": "numba", "precision": "fp32", "threads": 1, "seed": SEED}
    )
    found = {}
    for batch in BATCHES:
        engine.prepare(batch)
        engine.make(batch, batch)
        once = cpu_time_of(lambda batch=batch: engine.make(batch, batch))
        count = batch * max(1, round(seconds / REPEATS / once))
        times = [
            cpu_time_of(lambda batch=batch, count=count: engine.make(count, batch)) / count
            for _ in range(REPEATS)
        ]
        found[batch] = [float(np.median(times)), float(np.std(times))]
    return found


def full_simulation(name, seconds):
    """Seconds a shower of Geant4 and their standard error."""
    from caloforge.beam import BeamConfig
    from caloforge.config import build
    from caloforge.fullsim.application import Application
    from caloforge.fullsim.config import FullSimConfig
    from caloforge.models.store import load_model

    model = load_model(name)
    ranges = model.claim
    energy = {"kind": "flat", "min": f"{ranges.energy[0]} MeV", "max": f"{ranges.energy[1]} MeV"}
    beam = {"particle": PARTICLES[ranges.pdg_ids[0]], "energy": energy}
    for angle, (low, high) in (("theta", ranges.theta), ("phi", ranges.phi)):
        beam[angle] = {"kind": "flat", "min": f"{low} rad", "max": f"{high} rad"}
        if high - low < 1e-6:
            beam[angle] = {"kind": "fixed", "value": f"{low} rad"}
    if ranges.impact_x[1] > ranges.impact_x[0]:
        beam["impact"] = "cell"
    application = Application(model.detector, build(BeamConfig, beam, "beam"), FullSimConfig())
    application.simulate(SEED, 0, 1)
    times, energies, began = [], [], time.process_time()
    while time.process_time() - began < seconds:
        number = len(times) + 1
        times.append(cpu_time_of(lambda number=number: application.simulate(SEED, number, number + 1)))
        energies.append(application._gun.energies[0])
    rate, mean = sum(times) / sum(energies), sum(ranges.energy) / 2
    left = np.array(times) - rate * np.array(energies)
    return [rate * mean, float(left.std() / np.mean(energies) * mean / np.sqrt(len(times)))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--seconds", type=float, default=30.0, help="CPU time of each measurement")
    parser.add_argument("--measure", choices=("generator", "full_simulation"), help="in this process")
    arguments = parser.parse_args()
    if arguments.measure is not None:
        os.sched_setaffinity(0, {quietest_core()})
        measure = {"generator": generator, "full_simulation": full_simulation}[arguments.measure]
        print(json.dumps(measure(arguments.models[0], arguments.seconds)), flush=True)
        # Geant4's destructors crash when Python runs them
        os._exit(0)
    print("| model | ms, batch 1 | ms, batch 128 | Geant4, ms | ratio |\n|---|---|---|---|---|")
    for name in arguments.models:
        found = []
        for measure in ("generator", "full_simulation"):
            command = [
                sys.executable,
                __file__,
                name,
                "--seconds",
                str(arguments.seconds),
                "--measure",
                measure,
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
        made, (full, error) = found
        (single, _), (many, spread) = made["1"], made["128"]
        print(
            f"| {name} | {1e3 * single:.3f} | {1e3 * many:.3f} ± {1e3 * spread:.3f} "
            f"| {1e3 * full:.0f} ± {1e3 * error:.0f} | {full / many:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
