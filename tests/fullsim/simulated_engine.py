"""A worker process whose showers take a known time: `python -m simulated_engine`.

Shower i has one hit of energy i + 1 in voxel i modulo 100. A file named in the job makes the worker that
removes it end by SIGKILL.
"""

import os
import signal
import time
from pathlib import Path

import numpy as np

from caloforge.campaign.worker import main
from caloforge.fullsim.blocks import Block


class Engine:
    version = "0.0.0"

    def __init__(self, job):
        self.seconds, self.deadly = job["seconds"], job.get("deadly")

    def simulate(self, seed, start, stop):
        if self.deadly and start >= 20:
            try:
                Path(self.deadly).unlink()
            except FileNotFoundError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.seconds * (stop - start))
        numbers = np.arange(start, stop)
        return Block(
            start,
            np.ones(len(numbers), np.uint32),
            (numbers % 100).astype(np.uint32),
            (numbers + 1.0).astype(np.float32),
            np.full(len(numbers), self.seconds, np.float32),
        )


if __name__ == "__main__":
    main(Engine)
