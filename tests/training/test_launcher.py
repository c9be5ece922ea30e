"""Ranks and rendezvous addresses from the environments of all launchers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from caloforge.errors import ConfigError
from caloforge.training.launcher import LaunchInfo, first_host, read_launch_info

TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "node1",
    "MASTER_PORT": "29500",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
}
MPICH = {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}
SRUN = {
    "SLURM_PROCID": "6",
    "SLURM_NTASKS": "8",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_LOCALID": "2",
    "SLURM_STEP_ID": "1",
    "SLURM_JOB_ID": "4242",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1",
}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, LaunchInfo()),
        (TORCHRUN, LaunchInfo("torch", 5, 8, 1, 4, "node1", 29500)),
        (
            TORCHRUN | {"TORCHELASTIC_RESTART_COUNT": "2", "TORCHELASTIC_USE_AGENT_STORE": "True"},
            LaunchInfo("torch", 5, 8, 1, 4, "node1", 29500, 2, True),
        ),
        # an operator of Kubernetes: one process a pod
        (
            {k: v for k, v in TORCHRUN.items() if not k.startswith("LOCAL")},
            LaunchInfo("torch", 5, 8, 0, None, "node1", 29500),
        ),
        (OPEN_MPI, LaunchInfo("Open MPI", 3, 4, 1, 2)),
        (
            OPEN_MPI | {"MASTER_ADDR": "n1", "MASTER_PORT": "999"},
            LaunchInfo("Open MPI", 3, 4, 1, 2, "n1", 999),
        ),
        (OPEN_MPI | {"MASTER_ADDR": "n1"}, LaunchInfo("Open MPI", 3, 4, 1, 2, "n1", 29500)),
        (MPICH, LaunchInfo("MPICH", 1, 2, 1, 2)),
        # srun --mpi=pmi2
        (
            SRUN | {"PMI_RANK": "6", "PMI_SIZE": "8", "MASTER_ADDR": "gpu07"},
            LaunchInfo("MPICH", 6, 8, 2, None, "gpu07", 29500),
        ),
        (SRUN, LaunchInfo("SLURM", 6, 8, 2, None, "gpu07", 20000 + (7 * 4242 + 1) % 12000)),
        # torchrun in a step, and mpirun in an allocation
        (SRUN | TORCHRUN, LaunchInfo("torch", 5, 8, 1, 4, "node1", 29500)),
        (SRUN | OPEN_MPI, LaunchInfo("Open MPI", 3, 4, 1, 2)),
        # a batch script that calls caloforge itself: one process, whatever it asked for
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_LOCALID": "0"}, LaunchInfo()),
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, LaunchInfo("SLURM", port=20000)),
    ],
)
def test_who_this_is(environ, expected):
    assert read_launch_info(environ) == expected


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2 is set without RANK.*unset WORLD_SIZE"),
        ({"RANK": "1"}, "RANK=1 is set without WORLD_SIZE"),
        ({"RANK": "1", "WORLD_SIZE": "2"}, "without MASTER_ADDR and MASTER_PORT"),
        (TORCHRUN | {"RANK": "8"}, "contradicts itself: process 8 of 8"),
        (TORCHRUN | {"LOCAL_RANK": "4"}, "on this machine 4 of 4"),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "9"}, "contradicts itself"),
        (TORCHRUN | {"MASTER_PORT": "http"}, "MASTER_PORT=http: expected a whole number"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "set no OMPI_COMM_WORLD_RANK"),
        ({"PMI_RANK": "0", "PMI_SIZE": "2"}, "set no MPI_LOCALRANKID"),
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, "export MASTER_ADDR"),
    ],
)
def test_half_an_environment_is_refused(environ, words):
    with pytest.raises(ConfigError, match=words):
        read_launch_info(environ)


def test_several_machines_need_an_address():
    from caloforge.training.rendezvous import join_rendezvous

    with pytest.raises(ConfigError, match=r"several machines.*-x MASTER_ADDR=HOST"):
        join_rendezvous(read_launch_info(OPEN_MPI), 1.0)


@pytest.mark.parametrize(("visible", "expected"), [(1, 0), (2, 1), (4, 1)])
def test_each_process_has_a_gpu_of_its_own(visible, expected):
    from caloforge.training.process_group import _gpu_index

    # SLURM with --gpus-per-task=1 shows each process one
    assert _gpu_index(read_launch_info(TORCHRUN), visible) == expected


def test_more_processes_than_gpus_are_refused():
    from caloforge.training.process_group import _gpu_index

    with pytest.raises(ConfigError, match="Start 2 processes a machine"):
        _gpu_index(read_launch_info(TORCHRUN | {"LOCAL_RANK": "2"}), 2)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("n1", "n1"),
        ("n1,n2", "n1"),
        ("gpu[07-08]", "gpu07"),
        ("gpu[007,9-12],login", "gpu007"),
        ("r[3-4]c[1-2]-ib", "r3c1-ib"),
        ("a-b[2].x.org,c", "a-b2.x.org"),
    ],
)
def test_the_first_host_of_a_list(nodes, first):
    assert first_host(nodes) == first


def test_processes_of_one_mpirun_have_a_name_in_common_behind_any_wrapper():
    mpirun = Path(sys.executable).with_name("mpirun")
    if not mpirun.exists():
        pytest.skip("no mpirun here (it comes with the package mpich)")
    # the ends of two lines may come together
    ask = "from caloforge.training.launcher import mpi_job_name as job; print(job() + chr(32))"
    python = f'{sys.executable} -c "{ask}"'
    # two jobs, each with one process behind a shell that stays its parent
    script = f"if [ $PMI_RANK = 1 ]; then {python}; true; else exec {python}; fi"
    names = [
        subprocess.run(
            [str(mpirun), "-n", "2", "sh", "-c", script],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        ).stdout.split()
        for _ in range(2)
    ]
    assert [len(set(job)) for job in names] == [1, 1]
    assert len(names[0]) == 2
    assert names[0] != names[1]
