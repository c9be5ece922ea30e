"""Cost of the full simulation: Python's share, scaling, memory, start; all measured in one run.

    python benchmarks/simulate.py            # a few minutes on two idle cores
    python benchmarks/simulate.py -n 10      # quick and rough

The same showers (same seeds, so the same physics step by step) are simulated in the CLIC calorimeter
  full      as caloforge does: scored by replicas, hits read into numpy, one block
  scored    the same volumes and scorers, but nothing read by Python
  bare      the same volumes without scorers and without any action after the gun
each in a process of its own, in turn, and CPU times are compared shower by shower.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from caloforge.beam import BeamConfig
from caloforge.config import build
from caloforge.fullsim.config import FullSimConfig
from caloforge.geometry import load_detector

DETECTOR = load_detector("clic-ecal-25")
FULLSIM = FullSimConfig()
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8")
ROUNDS = 3


def beam(energy):
    return build(BeamConfig, {"energy": {"kind": "fixed", "value": energy}}, "beam")


def cpu_child(variant, n):
    """CPU seconds of a block of 100 GeV electrons in one of the variants."""
    from caloforge.fullsim import application

    if variant != "full":
        application._Actions.Build = lambda self: self.SetUserAction(self._actions[0])
    if variant == "bare":
        application.Construction.ConstructSDandField = lambda _: None
    app = application.Application(DETECTOR, beam("100 GeV"), FULLSIM)

    def block(start, stop):
        if variant == "full":
            app.simulate(0, start, stop)
            return
        app._gun.aim(0, start, stop)
        app._geant4.run(stop - start)

    # tables are built at the first shower
    block(10**6, 10**6 + 2)
    start = time.process_time()
    block(0, n)
    return time.process_time() - start


def memory_child(few, many):
    """Resident memory in MB after a few and after many showers of 1 GeV, in blocks."""
    from caloforge.fullsim.application import Application

    app = Application(DETECTOR, beam("1 GeV"), FULLSIM)
    found, done = [], 0
    for goal in (few, many):
        while done < goal:
            app.simulate(0, done, min(done + 500, goal))
            done = min(done + 500, goal)
        status = Path("/proc/self/status").read_text()
        found.append(int(status.split("VmRSS:")[1].split()[0]) / 1024)
    return found


def campaign(n, workers, energy="100 GeV"):
    """Wall seconds of a campaign and of its first shower, and the share that its workers simulate."""
    from caloforge.fullsim.campaign import run_campaign
    from caloforge.showers import ShowerFile

    first = []

    def progress(done, _total):
        if done and not first:
            first.append(time.perf_counter() - start)

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        path = run_campaign(
            DETECTOR, beam(energy), FULLSIM, n, Path(folder) / "t.h5", workers=workers, progress=progress
        )
        wall = time.perf_counter() - start
        with ShowerFile(path) as file:
            busy = float(file.column("seconds").sum()) / (wall * workers)
    return wall, first[0], busy


def child(*arguments):
    done = subprocess.run(
        [sys.executable, __file__, "--child", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def run_child(name, *numbers):
    if name == "memory":
        return memory_child(*map(int, numbers))
    return cpu_child(name, int(numbers[0]))


def machine():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    flags = [flag for flag in FLAGS if flag in facts.get("flags", "").split()]
    return (
        f"{facts.get('model name', 'unknown')}, {len(os.sched_getaffinity(0))} cores, {' '.join(flags)}, "
        f"load {os.getloadavg()[0]:.1f} at the start"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("-n", type=int, default=40, help="showers of 100 GeV in each measurement")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(run_child(*options.child)))
        return
    n = options.n
    print(machine())
    print(f"electrons of 100 GeV in {DETECTOR.name}, {n} showers a measurement")
    variants = ("full", "scored", "bare")
    # in turn, and the least of each: other work on the machine only ever adds
    times = {variant: min(column) / n for variant, column in zip(
        variants, zip(*[[child(v, n) for v in variants] for _ in range(ROUNDS)], strict=True), strict=True
    )}  # fmt: skip
    for variant in variants:
        ratio = times["full"] / times[variant]
        print(f"  CPU per shower, {variant:<7} {times[variant]:8.4f} s    full / {variant}: {ratio:.3f}")
    # long enough that the start of the workers, a second each, does not count
    (one, _, busy_one), (two, _, busy_two) = (campaign(3 * n, workers) for workers in (1, 2))
    print(f"  campaign, 1 worker  {one:8.2f} s for {3 * n} showers, simulating {busy_one:.1%} of it")
    print(f"  campaign, 2 workers {two:8.2f} s    {one / two:.2f} times as fast, simulating {busy_two:.1%}")
    few, many = 100, 100 * n
    before, after = child("memory", few, many)
    print(f"  memory of a worker  {before:8.1f} MB after {few} showers, {after:.1f} MB after {many} (1 GeV)")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        cold = campaign(1, 1)[1]
        warm = campaign(1, 1)[1]
    print(f"  first shower        {warm:8.2f} s, {cold:.2f} s where the tables are not written yet")


if __name__ == "__main__":
    main()
