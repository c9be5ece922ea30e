"""Commands of caloforge in forked processes, killed where they are told to: `python forked.py`.

Reads jobs as lines of JSON and answers each with one. The modules are imported once, so that a job takes a
fraction of a second. A job counts what it is about to do to the watched folder (files opened, renamed or
removed, folders made) and training steps. It kills itself before event number `kill`.
"""

import json
import os
import signal
import sys
import tempfile

# imported by the first optimiser, and half of the time of a job
import torch._dynamo  # noqa: F401

import caloforge.cli
import caloforge.commands.train
import caloforge.models.frozen.model
import caloforge.models.gan3d.model
import caloforge.models.layered.model
from caloforge.training import loop

EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree")


class Events:
    """Counts what is done, and ends the process in front of one event."""

    def __init__(self, folder, kill):
        self.folder, self.kill, self.count = folder, kill, 0

    def note(self):
        self.count += 1
        if self.count == self.kill:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(self, event, arguments):
        if event in EVENTS and str(arguments[0]).startswith(self.folder):
            self.note()


def work(job, events):
    sys.addaudithook(events.hook)
    step = loop.Trainer._step

    def counted(*arguments):
        events.note()
        return step(*arguments)

    loop.Trainer._step = counted
    try:
        return int(caloforge.cli.main(job["arguments"]) or 0)
    except SystemExit as end:
        return int(end.code or 0)


def fork(job):
    """Exit code or minus the signal, events, and output of a job."""
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            events = Events(job["folder"], job["kill"])
            code = 70
            try:
                code = work(job, events)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os.write(writing, str(events.count).encode())
                os._exit(code)
        os.close(writing)
        _, status = os.waitpid(child, 0)
        count = os.read(reading, 100)
        os.close(reading)
        output.seek(0)
        text = output.read().decode()
    return {"code": os.waitstatus_to_exitcode(status), "events": int(count or 0), "output": text}


def main():
    # the descriptor that answers go to; jobs write elsewhere
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        answers.write(json.dumps(fork(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
