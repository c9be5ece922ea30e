"""Which error is shown where several processes fail: the first one."""

from datetime import timedelta

import pytest
from torch.distributed import TCPStore

from caloforge.errors import TrainingError
from caloforge.training import heartbeat
from caloforge.training.heartbeat import Watch
from caloforge.training.process_group import Processes


@pytest.fixture
def watches(monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT", 0.05)
    store = TCPStore("127.0.0.1", 0, None, True, timedelta(seconds=10), wait_for_workers=False)
    found = [Watch(store, rank, 3) for rank in range(3)]
    yield found
    for one in found:
        one.stop()


def member(watched):
    """The process of a watch, without others to talk to."""
    process = Processes.__new__(Processes)
    process.rank, process.ranks, process.timeout, process._watch = watched._rank, 3, 60.0, watched
    return process


def fail(process, error):
    with pytest.raises(TrainingError) as caught, process, process.talk():
        raise error
    return str(caught.value)


LOST = RuntimeError("[tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:36522.")


def test_a_fault_of_its_own_is_shown_at_once(watches):
    words = fail(member(watches[0]), RuntimeError("Invalid scalar type\nException raised from ..."))
    assert words == "process 0: an exchange with the others failed (Invalid scalar type)"


def test_what_came_first_is_told_and_not_what_it_led_to(watches):
    fail(member(watches[2]), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))
    second = fail(member(watches[1]), LOST)
    assert "process 2 on" in second
    assert "CUDA out of memory" in second
    third = fail(member(watches[0]), LOST)
    assert "CUDA out of memory" in third
    assert "process 1" not in third


def test_without_a_reason_the_error_itself_is_told(watches):
    for one in watches:
        one.sign.talks = 1
    watches[0].sign.talks = 0
    assert "in vain" in (words := fail(member(watches[0]), LOST))
    assert "Connection closed by peer" in words
    watches[1].sign.talks = 0
    # one that only waited is told where nothing else is known
    assert "process 0 on" in fail(member(watches[1]), LOST)


def test_an_error_without_words(watches):
    assert "(RuntimeError)" in fail(member(watches[0]), RuntimeError())
