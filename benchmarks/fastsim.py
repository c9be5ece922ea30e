"""Events per second of Geant4 alone and with a model at its gate, measured in one run.

    python benchmarks/fastsim.py             # a few minutes on an idle core
    python benchmarks/fastsim.py -n 10       # quick and rough

Single electrons of 100 GeV in the CLIC calorimeter. Both simulations run block by block in turn, each in a
process of its own, and CPU times are compared: everything from the gun to the finished block of showers.
"""

import argparse
import json
import subprocess
import sys
import time

from caloforge.beam import BeamConfig
from caloforge.config import build
from caloforge.fastsim.config import FastSimConfig
from caloforge.fastsim.ledger import summary
from caloforge.fastsim.model import FastModel
from caloforge.fullsim.config import FullSimConfig
from caloforge.geometry import load_detector
from caloforge.models.store import read_model

DETECTOR = load_detector("clic-ecal-25")
BEAM = build(BeamConfig, {"energy": {"kind": "fixed", "value": "100 GeV"}}, "beam")
# fast showers for each full one, so that both take a measurable time
RATIO = 200


def child(kind):
    """Answer each number on standard input with the CPU seconds of a block of that many showers."""
    if kind == "full":
        from caloforge.fullsim.application import Application

        application = Application(DETECTOR, BEAM, FullSimConfig())
    else:
        from caloforge.fastsim.application import GatedApplication

        model = FastModel(read_model("clic-electron"), DETECTOR, FastSimConfig())
        application = GatedApplication(DETECTOR, BEAM, FullSimConfig(), model)
    first = 0
    # Geant4 builds its tables at the first shower
    application.simulate(1, 10**6, 10**6 + 2)
    for line in sys.stdin:
        begin = time.process_time()
        block = application.simulate(1, first, first + int(line))
        seconds = time.process_time() - begin
        first += int(line)
        parts = {} if block.ledger is None else summary(block.ledger)["seconds"]
        print(json.dumps({"seconds": seconds, "parts": parts}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-n", type=int, default=100, help="full showers")
    parser.add_argument("--child", choices=("full", "fast"))
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child)
        return
    processes = {
        kind: subprocess.Popen(
            [sys.executable, __file__, "--child", kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for kind in ("full", "fast")
    }
    total, parts, step = {"full": 0.0, "fast": 0.0}, {}, 5
    for _ in range(0, arguments.n, step):
        for kind, process in processes.items():
            process.stdin.write(f"{step if kind == 'full' else RATIO * step}\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            total[kind] += answer["seconds"]
            for name, value in answer["parts"].items():
                parts[name] = parts.get(name, 0.0) + value
    for process in processes.values():
        process.stdin.close()
        process.kill()
    count = {"full": -(-arguments.n // step) * step}
    count["fast"] = RATIO * count["full"]
    per_event = {kind: total[kind] / count[kind] for kind in total}
    for kind, seconds in per_event.items():
        print(f"{kind}: {count[kind]} electrons of 100 GeV, {1 / seconds:.4g} events/s of one core")
    print(f"fast is {per_event['full'] / per_event['fast']:.0f} times as fast")
    whole = sum(parts.values())
    print("of its time:", ", ".join(f"{name} {100 * value / whole:.0f} %" for name, value in parts.items()))


if __name__ == "__main__":
    main()
