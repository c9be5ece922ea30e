"""Errors of several processes: the first failure is reported."""

from datetime import timedelta

import pytest
from torch.distributed import TCPStore

from caloforge.errors import TrainingError
from caloforge.training import heartbeat
from caloforge.training.heartbeat import HeartbeatMonitor
from caloforge.training.process_group import Communicator


@pytest.fixture
def monitors(monkeypatch):
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.05)
    store = TCPStore("127.0.0.1", 0, None, True, timedelta(seconds=10), wait_for_workers=False)
    found = [HeartbeatMonitor(store, rank, 3) for rank in range(3)]
    yield found
    for one in found:
        one.stop()


def member(monitor):
    """A process group around a monitor, without real peers."""
    process = Communicator.__new__(Communicator)
    process.rank, process.world_size, process.timeout, process._monitor = monitor._rank, 3, 60.0, monitor
    return process


def fail(process, error):
    with pytest.raises(TrainingError) as caught, process, process.collective():
        raise error
    return str(caught.value)


LOST = RuntimeError("[tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:36522.")


def test_a_fault_of_its_own_is_shown_at_once(monitors):
    words = fail(member(monitors[0]), RuntimeError("Invalid scalar type\nException raised from ..."))
    assert words == "process 0: a collective operation failed (Invalid scalar type)"


def test_the_first_failure_is_reported_and_not_its_consequences(monitors):
    fail(member(monitors[2]), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))
    second = fail(member(monitors[1]), LOST)
    assert "process 2 on" in second
    assert "CUDA out of memory" in second
    third = fail(member(monitors[0]), LOST)
    assert "CUDA out of memory" in third
    assert "process 1" not in third


def test_without_a_reason_the_error_itself_is_reported(monitors):
    for one in monitors:
        one.status.collectives = 1
    monitors[0].status.collectives = 0
    assert "other processes did not answer" in (words := fail(member(monitors[0]), LOST))
    assert "Connection closed by peer" in words
    monitors[1].status.collectives = 0
    # a process that only missed others is named if nothing else is known
    assert "process 0 on" in fail(member(monitors[1]), LOST)


def test_an_error_without_words(monitors):
    assert "(RuntimeError)" in fail(member(monitors[0]), RuntimeError())
