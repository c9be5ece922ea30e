"""Run command lines in a child process with limits on memory and time, and check the rule of errors.

The rule: exit code 1 or 2, one line on stderr that begins with "error:", no traceback, no hang, memory below
a gigabyte, nothing under the name that was asked for.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

# of CPU time, s: a busy machine makes nothing hang; and of time that passes, for what waits
TIME_LIMIT, WAITING = 10, 30
MEMORY_LIMIT = 10**9
# for the start of the child: imports, and the compiler's own
START = 60
LONGEST_ERROR = 1200
# exit code of a case that took too long, after which the child is no longer in order
STOPPED = 124


@dataclass(frozen=True)
class Case:
    """One command line.

    Attributes:
        label: What is wrong with it.
        arguments: Of `caloforge`.
        output: What must not be there afterwards.
        names: Text that the message must hold, such as the name of the file.
        may_pass: Whether success is right as well, as for a random change that happens to be valid.
    """

    label: str
    arguments: list[str]
    output: Path | None = None
    names: str = ""
    may_pass: bool = False


@dataclass
class Result:
    """What became of a case; `code` is None where the child died or was stopped; `seconds` of CPU time."""

    code: int | None = None
    stdout: str = ""
    stderr: str = ""
    seconds: float = 0.0
    peak: int = 0
    faults: list[str] = field(default_factory=list)


def run_cases(cases, folder):
    """Results of cases, in order; a child that dies or hangs costs its case, not the others."""
    results, left = [], list(cases)
    while left:
        found = _run_child(left, folder)
        results += found[: len(left)]
        left = left[len(found) :]
    for case, result in zip(cases, results, strict=True):
        result.faults = faults_of(case, result)
    return results


def _run_child(cases, folder):
    """Results of the first cases, as far as one child comes; at least one."""
    limits = {"time": TIME_LIMIT, "waiting": WAITING, "memory": 8 * MEMORY_LIMIT}
    job = json.dumps({"limits": limits, "cases": [case.arguments for case in cases]})
    child = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("confined_child.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "NO_COLOR": "1"},
    )
    try:
        out, err = child.communicate(job.encode(), timeout=START + WAITING * len(cases))
    except subprocess.TimeoutExpired:
        child.kill()
        out, err = child.communicate()
    lines = out.decode(errors="replace").splitlines()
    found = [Result(**json.loads(line)) for line in lines if line.startswith("{")]
    if len(found) < len(cases) and not (found and found[-1].code == STOPPED):
        text = err.decode(errors="replace")[-2000:]
        found.append(Result(code=None, stderr=f"the process ended with {child.returncode}: {text}"))
    return found


def faults_of(case, result):
    """What breaks the rule."""
    text = result.stdout + result.stderr
    faults = []
    if result.code is None:
        return [f"died or hung: {result.stderr[-300:]}"]
    if "Traceback" in text:
        return [f"traceback after {result.seconds:.0f} s: {text[-300:]}"]
    if result.seconds > TIME_LIMIT:
        faults.append(f"took {result.seconds:.0f} s")
    if result.peak > MEMORY_LIMIT:
        faults.append(f"took {result.peak / 1e6:.0f} MB")
    if "Warning" in text:
        faults.append(f"a warning: {text[:300]}")
    if case.may_pass and result.code == 0:
        return faults
    if result.code not in (1, 2):
        faults.append(f"exit code {result.code}: {text[:300]}")
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    if len(errors) != 1:
        faults.append(f"{len(errors)} lines begin with error: {text[:300]!r}")
    if len(result.stderr) > LONGEST_ERROR:
        faults.append(f"an error of {len(result.stderr)} characters: {result.stderr[:200]}...")
    if case.names and case.names not in result.stderr:
        faults.append(f"{case.names!r} is not named: {result.stderr[:300]}")
    if case.output is not None and (case.output.exists() or case.output.is_symlink()):
        faults.append(f"{case.output.name} was made")
    return faults


def assert_rule(cases, folder):
    """Fail with every case that breaks the rule."""
    results = run_cases(cases, folder)
    broken = [
        f"{case.label}: caloforge {' '.join(case.arguments)[:300]}\n    " + "\n    ".join(result.faults)
        for case, result in zip(cases, results, strict=True)
        if result.faults
    ]
    cpu, peak = max(result.seconds for result in results), max(result.peak for result in results)
    print(f"{len(cases)} inputs, {len(broken)} broken; at most {cpu:.1f} s and {peak / 1e6:.0f} MB")
    assert not broken, f"{len(broken)} of {len(cases)} inputs:\n" + "\n".join(broken[:20])
    return results
