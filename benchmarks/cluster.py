"""A campaign on a Ray cluster of two nodes in processes of this machine, against `--workers 2`; projected.

    python benchmarks/cluster.py

The showers are stand-ins that take 50 ms without using a core: what is measured is the assignment, transfer
and writing of blocks. Pairs are interleaved, since the machine may have other work.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ENGINE = Path(__file__).parents[1] / "tests/fullsim"
# before Ray is imported: the engine, a folder of its own, and patience with a busy machine
os.environ |= {
    "PYTHONPATH": str(ENGINE),
    "RAY_TMPDIR": tempfile.mkdtemp(prefix="ray-"),
    "RAY_raylet_start_wait_time_s": "180",
}

from ray.cluster_utils import Cluster  # noqa: E402

from caloforge.campaign.pool import Pool  # noqa: E402
from caloforge.campaign.ray_pool import RayPool  # noqa: E402

SHOWERS, SECONDS, PAIRS = 700, 0.05, 3
STORE = 80 * 2**20
# of an electron of 10 to 500 GeV in clic-ecal-25: simulation, and the compression of its part of the file
PER_SHOWER, PER_SHOWER_MERGED, MERGE_THREADS = 1.28, 0.15e-3, 8
CAMPAIGN = 1_000_000


def rate(make):
    """Seconds until the first block is there, and showers a second from then on."""
    with tempfile.TemporaryDirectory() as folder, make(Path(folder)) as pool:
        begin = time.perf_counter()
        done = [
            (time.perf_counter(), interval[1] - interval[0])
            for interval, _ in pool.run([(0, SHOWERS)])
            if interval is not None
        ]
    times, sizes = zip(*done, strict=True)
    return times[0] - begin, sum(sizes[1:]) / (times[-1] - times[0])


def main():
    """Measure, and print the table of the projection."""
    job = {"seconds": SECONDS, "seed": 1}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": STORE})
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=STORE)
    ratios, starts = [], []
    for _ in range(PAIRS):
        _, here = rate(lambda folder: Pool(job, folder, 2, "simulated_engine"))
        start, there = rate(lambda folder: RayPool(job, folder, 2, "simulated_engine", cluster.address))
        ratios.append(there / here)
        starts.append(start)
        print(f"--workers 2: {here:.2f} showers/s, two nodes: {there:.2f} showers/s, ratio {ratios[-1]:.3f}")
    cluster.shutdown()
    ratio = min(1.0, median(ratios))
    merge = CAMPAIGN * PER_SHOWER_MERGED / MERGE_THREADS
    print(f"\nprojected: {CAMPAIGN} showers of {PER_SHOWER} s, at the ratio {ratio:.3f}\n")
    for nodes in (1, 10, 100):
        workers = 64 * nodes
        seconds = median(starts) + CAMPAIGN * PER_SHOWER / (workers * ratio) + merge
        ideal = CAMPAIGN * PER_SHOWER / workers
        print(f"{nodes:4d} nodes of 64 cores: {seconds / 60:7.1f} min, efficiency {ideal / seconds:.2f}")


if __name__ == "__main__":
    sys.exit(main())
