"""How processes find each other: also the second time, in a store that remembers the first."""

import os
import socket
import threading
import time
from datetime import timedelta

import pytest
from torch.distributed import HashStore

from caloforge.errors import TrainingError
from caloforge.training.launcher import LaunchInfo
from caloforge.training.rendezvous import _open_store, _wait_for_processes, join_rendezvous
from listening import beyond_loopback, listening


class Joiner(threading.Thread):
    """A process that joins the rendezvous."""

    def __init__(self, store, rank, timeout=20.0):
        super().__init__()
        self.store, self.launch, self.timeout = store, LaunchInfo("test", rank, 2, rank, 2), timeout
        self.result = self.error = None
        self.start()

    def run(self):
        try:
            self.result = _wait_for_processes(self.store, self.launch, self.timeout)
        except TrainingError as error:
            self.error = str(error)


def join(*joiners):
    for joiner in joiners:
        joiner.join(30)
    assert [joiner.error for joiner in joiners] == [None] * len(joiners)
    return [joiner.result for joiner in joiners]


def test_a_restart_ignores_keys_of_the_first_start():
    store = HashStore()
    first = join(Joiner(store, 0), Joiner(store, 1))
    assert [rendezvous.restarted for rendezvous in first] == [False, False]
    first[0].store.set("address", "of the first")
    assert first[1].store.get("address") == b"of the first"
    # the new process 0 finds the name that the old process 1 has left
    early = Joiner(store, 0)
    time.sleep(0.3)
    assert early.is_alive()
    second = join(early, Joiner(store, 1))
    assert [rendezvous.restarted for rendezvous in second] == [True, True]
    assert not second[0].store.check(["address"])
    # and the new process 1 the proposal of the old process 0
    early = Joiner(store, 1)
    time.sleep(0.3)
    assert early.is_alive()
    join(early, Joiner(store, 0))


@pytest.mark.parametrize(("rank", "missing"), [(0, "process 1"), (1, "process 0")])
def test_who_does_not_come_is_named(rank, missing):
    alone = Joiner(HashStore(), rank, timeout=0.3)
    alone.join(10)
    assert f"{missing} did not come within 0.3 s" in alone.error


def test_a_port_that_is_taken_is_named():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        launch = LaunchInfo("test", 0, 2, 0, 2, "127.0.0.1", port)
        with pytest.raises(TrainingError, match=f"127.0.0.1:{port}.*is the port free"):
            join_rendezvous(launch, 1.0)


def test_a_store_on_loopback_is_closed_to_other_machines():
    pids = [os.getpid()]
    before, beyond = listening(pids), beyond_loopback(pids)
    wait = timedelta(seconds=5)
    for host in ("127.0.0.1", "localhost", "::1"):
        kept = _open_store(host, 0, True, wait)
        assert {port for _, port in listening(pids) - before} == {kept.port}
        assert beyond_loopback(pids) == beyond
        reader = _open_store(host, kept.port, False, wait)
        kept.set("key", host)
        assert reader.get("key") == host.encode()
        del reader, kept
    # a host that others know is for others to come to
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        own = probe.getsockname()[0]
    kept = _open_store(own, 0, True, wait)
    assert any(name.endswith(f":{kept.port}") for name in beyond_loopback(pids))
