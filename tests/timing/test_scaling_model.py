"""The cost of messages, the projection, and the model against what is published."""

import numpy as np
import pytest

from caloforge.errors import ConfigError
from caloforge.timing.scaling.allreduce import Link, Network, fastest, fit, ring, tree
from caloforge.timing.scaling.projection import Workload, epoch, expected_maximum, project, speedup
from caloforge.timing.scaling.published import network_link, networks, predict, published_tables

FAST = Link(1e-6, 10e9)
# what the model is off by, in percent, where it predicts; see docs/how-to/scaling.md
ERRORS = {
    "v100": [-0.7, -2.1, -2.1, -2.2, -2.9, -13.5],
    "v100-plain": [-0.9, -1.6, -1.5, -11.7, -6.3],
    "v100-batch": [0.1, 0.4, 1.0, -2.4],
    "v100-validation": [-0.2, -27.2, -57.9, -48.9, -25.6, -58.0],
    "p100": [0.4],
    "stampede2": [],
}


# ---- messages


@pytest.mark.parametrize("processes", [2, 3, 8, 12, 512])
def test_without_latency_no_byte_is_sent_in_vain(processes):
    """Patarasuk and Yuan, J. Parallel Distrib. Comput. 69 (2009) 117: the least bytes a process can send."""
    link = Link(0.0, 1e9)
    least = 2 * (processes - 1) / processes * 1e8 / 1e9
    assert ring(1e8, processes, link) == pytest.approx(least)
    if processes & (processes - 1) == 0:
        assert tree(1e8, processes, link) == pytest.approx(least)
    else:
        assert tree(1e8, processes, link) > least


def test_small_messages_go_along_a_tree_and_large_ones_around_a_ring():
    assert fastest(8, 512, FAST) == tree(8, 512, FAST) == pytest.approx(2 * 9 * 1e-6, rel=0.01)
    assert ring(8, 512, FAST) == pytest.approx(2 * 511 * 1e-6, rel=0.01)
    assert fastest(1e9, 12, FAST) == ring(1e9, 12, FAST) < tree(1e9, 12, FAST)
    assert ring(1e9, 1, FAST) == tree(1e9, 1, FAST) == 0


def test_nodes_share_their_connection():
    slow = Link(50e-6, 1e9)
    network = Network(slow, FAST, per_node=4)
    assert network.allreduce(1e8, 4) == fastest(1e8, 4, FAST)
    assert network.allreduce(1e8, 32) == fastest(1e8, 4, FAST) + fastest(1e8, 8, slow)
    assert network.step([1e8, 1e6], 8) == network.allreduce(1e8, 8) + network.allreduce(1e6, 8)


def test_a_link_is_found_from_its_all_reduces():
    sizes = [1e3, 1e5, 1e6, 1e7]
    found = fit(sizes, [ring(size, 2, FAST) for size in sizes], 2)
    assert (found.latency, found.bandwidth) == (pytest.approx(FAST.latency), pytest.approx(FAST.bandwidth))
    noisy = fit([1e6, 1e7], [0.9e-3, 11e-3], 2)
    assert noisy.latency == 0


# ---- projection


WORK = Workload(10_000, 50, per_step=0.01, per_shower=0.001, messages=(4e6,))


def test_an_epoch_in_numbers():
    found = epoch(WORK, Network(Link(0.0, 1e9)), 3)
    assert found.steps == 67
    assert found.compute == pytest.approx(67 * 0.06)
    assert found.communication == pytest.approx(67 * 2 * 2 / 3 * 4e6 / 1e9)
    assert found.seconds == found.compute + found.communication


def test_strong_scaling_deals_the_batch_out():
    weak = project(WORK, Network(FAST), [1, 5, 50, 100])
    strong = project(WORK, Network(FAST), [1, 5, 50, 100], "strong")
    assert [found.steps for found in weak] == [200, 40, 4, 2]
    # more processes than showers in a batch have nothing to do
    assert [found.steps for found in strong] == [200, 200, 200]
    assert strong[2].compute == pytest.approx(200 * 0.011)
    assert speedup(strong)[2] < 6 < 30 < speedup(weak)[2]


def test_the_serial_evaluation_of_the_power8_run():
    """20 h 16 min to 2 h 14 min on 12 GPUs at 98.9 % of the training alone: serial evaluation."""
    alone, twelve = 20 * 60 + 16, 2 * 60 + 14
    training = (alone - twelve) / (1 - 1 / (12 * 0.989))
    work = Workload(12, 1, per_shower=training / 12, validation_showers=1200,
                    validation_per_shower=(alone - training) / 1200, sharded=False)  # fmt: skip
    one, many = project(work, Network(Link(0, 1e12)), [1, 12])
    assert one.seconds == pytest.approx(alone)
    assert many.validation == pytest.approx(34.4, abs=0.1)
    # the published 9.07, but for what communication costs of the 98.9 %
    assert one.seconds / many.seconds == pytest.approx(9.07, abs=0.1)
    shared = epoch(Workload(**{**vars(work), "sharded": True}), Network(Link(0, 1e12)), 12)
    assert one.seconds / shared.seconds == pytest.approx(12)


def test_a_shared_disk_is_a_floor():
    work = Workload(1000, 10, per_shower=0.01, storage=500.0)
    one, eight, many = project(work, Network(FAST), [1, 4, 50])
    assert one.input == 0
    assert (eight.seconds, eight.input) == (pytest.approx(2.5), 0)
    assert (many.seconds, many.input) == (pytest.approx(2.0), pytest.approx(1.8))


@pytest.mark.parametrize("processes", [2, 16, 128])
def test_the_slowest_of_many(processes):
    draws = np.random.default_rng(1).standard_normal((20_000, processes)).max(axis=1)
    assert expected_maximum(processes) == pytest.approx(draws.mean(), abs=0.04)
    slow = epoch(Workload(100, 1, per_step=1.0, jitter=0.1), Network(FAST), processes)
    assert slow.compute == pytest.approx(slow.steps * (1 + 0.1 * draws.mean()), rel=0.005)
    assert expected_maximum(1) == 0


# ---- what is published


@pytest.mark.parametrize("table", published_tables(), ids=lambda table: table.name)
def test_the_errors_are_those_that_are_documented(table):
    errors = [100 * row.error for row in predict(table) if row.error is not None]
    np.testing.assert_allclose(errors, ERRORS[table.name], atol=0.06)


def test_up_to_64_gpus_an_epoch_is_predicted_to_three_percent():
    tables = {table.name: predict(table) for table in published_tables()}
    for found in tables["v100"] + tables["v100-batch"]:
        if found.row.processes <= 64 and not found.given:
            assert abs(found.error) < 0.03
    [bound] = tables["stampede2"]
    assert bound.row.value < bound.predicted < 1


def test_what_is_taken_from_a_table_is_reproduced():
    taken = [found for table in published_tables() for found in predict(table) if found.given]
    assert len(taken) == 6
    for found in taken:
        assert found.predicted == pytest.approx(found.row.value)


def test_messages_are_the_published_networks():
    """Trainable numbers of the published networks, four bytes each, each network twice a step."""
    by_name = {table.name: table for table in published_tables()}
    angle, orthogonal = 1_364_983 + 87_354, 872_808 + 73_402
    assert sum(by_name["v100"].workload["messages"]) == 2 * 4 * angle
    assert sum(by_name["stampede2"].workload["messages"]) == 2 * 4 * orthogonal
    assert by_name["stampede2"].workload["messages"] == by_name["p100"].workload["messages"]


def test_every_table_says_where_it_comes_from():
    for table in published_tables():
        assert len(table.source) > 10
        assert len(table.inputs) > 20
    assert all(link.source for link in networks().values())


def test_an_unknown_network():
    with pytest.raises(ConfigError, match="Did you mean 'omni-path'"):
        network_link("omnipath")
