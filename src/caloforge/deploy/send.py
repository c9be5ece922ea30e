"""Submission of a rendered job with sbatch, kubectl or ray."""

from __future__ import annotations

import shutil
import subprocess

from caloforge.errors import MissingDependencyError, SubmissionError

# seconds to wait for the answer of a scheduler
TIMEOUT = 120
# characters of the error output that are quoted
MAX_ERROR_TEXT = 600
WHERE = {
    "sbatch": "run this on a login node of the cluster",
    "kubectl": "install kubectl and give it access to a cluster",
    "ray": "pip install 'caloforge[tune]'",
}


def send(command: list[str], text: str = "") -> str:
    """Run a program with a job on its standard input; returns its output.

    Raises:
        MissingDependencyError: The program is not installed.
        SubmissionError: It rejects the job, or does not answer.
    """
    program = shutil.which(command[0])
    if program is None:
        raise MissingDependencyError(
            f"{command[0]} is not here; {WHERE[command[0]]}, or give --print to see what would be submitted"
        )
    try:
        done = subprocess.run(  # noqa: S603 - without a shell
            [program, *command[1:]], input=text, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SubmissionError(f"{command[0]} gave no answer within {TIMEOUT} s; try again later") from error
    if done.returncode:
        words = (done.stderr or done.stdout).strip()[-MAX_ERROR_TEXT:]
        raise SubmissionError(f"{command[0]} refused the job (status {done.returncode}): {words}")
    return done.stdout.strip()
