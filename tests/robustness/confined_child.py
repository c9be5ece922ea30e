"""The child of `confined.py`: command lines from stdin, a line of JSON for each on stdout."""

import contextlib
import io
import json
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path

STOPPED = 124


class TooLong(BaseException):
    """The time limit, which no handler of errors may take for one of its own."""


def main():
    # what Geant4 or a runtime writes must not come between the results
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    job = json.loads(sys.stdin.read())
    resource.setrlimit(resource.RLIMIT_AS, (job["limits"]["memory"],) * 2)
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, stop)
    from caloforge.cli import main as caloforge

    for arguments in job["cases"]:
        result = run(caloforge, arguments, job["limits"])
        results.write(json.dumps(result) + "\n")
        results.flush()
        if result["code"] == STOPPED:
            # what was stopped in the middle of an import fails for ever
            break


def stop(_number, _frame):
    raise TooLong


def run(caloforge, arguments, limits):
    out, err = io.StringIO(), io.StringIO()
    base = reset_peak()
    start = time.process_time()
    code = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        signal.setitimer(signal.ITIMER_PROF, limits["time"])
        signal.setitimer(signal.ITIMER_REAL, limits["waiting"])
        try:
            code = caloforge(arguments)
        except SystemExit as end:
            code = end.code
        except TooLong:
            err.write("Traceback: stopped by the time limit")
            code = STOPPED
        except BaseException:
            traceback.print_exc(file=err)
            code = 70
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
    return {
        "code": code,
        "stdout": out.getvalue()[-4000:],
        "stderr": err.getvalue()[-4000:],
        "seconds": time.process_time() - start,
        "peak": max(0, peak() - base),
    }


def reset_peak():
    """Begin a new peak of resident memory; returns what is resident now, in bytes."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main()
