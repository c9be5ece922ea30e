"""`python -m caloforge.tuning.supervised_process VERB ...`: runs a verb that ends when its parent dies."""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Request SIGTERM on the death of the parent, then run the command line."""
    parent = os.environ.get("CALOFORGE_PARENT", "")
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    # the parent may have died before the request
    if parent and os.getppid() != int(parent):
        sys.exit(1)
    sys.argv[0] = "caloforge"
    runpy.run_module("caloforge", run_name="__main__")


if __name__ == "__main__":
    main()
