"""What `caloforge submit` writes is valid where it goes and does what it says; what cannot run is refused."""

import contextlib
import functools
import gzip
import json
import os
import shlex
import signal
import subprocess
import sysconfig
import time
from pathlib import Path

import jsonschema
import pytest
import yaml

import caloforge
from caloforge.cli import build_app, main
from caloforge.commands import submit as module
from caloforge.config import build
from caloforge.deploy import Job, slug
from caloforge.errors import ConfigError, MissingDependencyError, SubmissionError
from caloforge.run import load_run
from caloforge.showers import ShowerWriter
from caloforge.training.preflight import synthetic_showers

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT.parent / "shared/k8s-crds"
TOOLS = Path(sysconfig.get_path("scripts"))
TRAIN = ("train", "clic-electron", "--data", "train.h5", "-o", "runs/first")
STUDY = ("tune", "study.yaml", "-o", "studies/first")
SIMULATE = ("simulate", "clic-electron", "-n", "1000", "-o", "train.h5")
GENERATE = ("generate", "clic-electron", "-n", "1000", "-o", "showers.h5")
EVENTS = ("simulate-events", "events.hepmc", "-d", "clic-ecal-25", "-o", "hits.root")
POLICY = "deploy/kubernetes/network-policy.yaml"
ON_K8S = {"image": "registry.example.org/caloforge:cuda", "volume": ["showers:/data"]}
EXAMPLES = {
    line.rpartition(" > ")[2]: shlex.split(line.rpartition(" > ")[0])[1:]
    for line in (ROOT / "deploy/README.md").read_text().splitlines()
    if line.startswith("caloforge submit")
}


def shown(where, *command, **options):
    return caloforge.submit(where, *command, print_=True, **options)["manifest"]


# ---- the files of deploy/


def test_a_library_of_showers_is_a_name_and_no_path():
    assert "foundation" in module._shipped("from_")
    assert "foundation" not in module._shipped("start")


@pytest.mark.parametrize("path", EXAMPLES)
def test_the_examples_are_what_the_command_writes(path, capsys):
    assert main(EXAMPLES[path]) == 0
    assert capsys.readouterr().out == (ROOT / path).read_text()


def test_every_example_is_tested():
    found = {str(p.relative_to(ROOT)) for p in (ROOT / "deploy").rglob("*") if p.suffix in (".sh", ".yaml")}
    assert found - {POLICY} == set(EXAMPLES)


def test_the_network_policy_is_about_the_pods_that_are_rendered():
    policy = yaml.safe_load((ROOT / POLICY).read_text())
    assert (policy["apiVersion"], policy["kind"]) == ("networking.k8s.io/v1", "NetworkPolicy")
    wanted = policy["spec"]["podSelector"]["matchLabels"].items()
    among, others = policy["spec"]["ingress"]
    # every port for themselves, one for anybody else
    assert among == {"from": [{"podSelector": {"matchLabels": dict(wanted)}}]}
    assert others["ports"] == [{"protocol": "TCP", "port": 8265}]
    runtime, _ = yaml.safe_load_all(shown("k8s", *TRAIN, **ON_K8S))
    cluster = yaml.safe_load(shown("ray", *STUDY, **ON_K8S))["spec"]["rayClusterSpec"]
    [job] = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for template in (job["template"]["spec"]["template"], *(group["template"] for group in groups)):
        assert template["metadata"]["labels"].items() >= wanted


def lint(tool, *arguments):
    done = subprocess.run([TOOLS / tool, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_scripts_pass_shellcheck():
    lint("shellcheck", *(ROOT / "deploy/slurm").glob("*.sh"))


def test_the_dockerfile_passes_its_linter():
    lint("hadolint", "--failure-threshold=style", ROOT / "deploy/Dockerfile")


def test_the_images_hold_what_is_needed_and_nothing_else():
    dockerfile = (ROOT / "deploy/Dockerfile").read_text()
    definition = (ROOT / "deploy/caloforge.def").read_text()
    copied = [
        line.split()[1:-1]
        for line in dockerfile.splitlines()
        if line.startswith("COPY ") and "--" not in line
    ]
    needed = {"pyproject.toml", "README.md", "LICENSE", "src"}
    found = {name for names in copied for name in names if not name.startswith("--")}
    assert found - {"/opt/caloforge"} == needed
    ignored = (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines()
    assert {line[1:] for line in ignored if line.startswith("!")} == needed
    assert all(f"\n    {name} /source/{name}\n" in definition for name in needed)
    # the last stage does not run as root
    assert dockerfile.rindex("\nUSER 1000\n") > dockerfile.rindex("\nFROM ")


# ---- Kubernetes


def strict(schema):
    """The schema, which refuses fields that it does not name: the server would drop them in silence."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    properties = schema.get("properties")
    if isinstance(properties, dict) and properties and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed


SCHEMA_FILES = {
    "TrainJob": "trainer.kubeflow.org_trainjob_v1alpha1",
    "TrainingRuntime": "trainer.kubeflow.org_trainingruntime_v1alpha1",
    "RayJob": "ray.io_rayjob_v1",
}


def check_schema(document):
    path = SCHEMAS / f"{SCHEMA_FILES[document['kind']]}.schema.json.gz"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    group, _, version = document["apiVersion"].partition("/")
    assert path.name.startswith(f"{group}_")
    assert f"_{version}." in path.name
    validator(path).validate(document)


@functools.cache
def validator(path):
    return jsonschema.Draft202012Validator(strict(json.loads(gzip.decompress(path.read_bytes()))))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"nodes": 8, "gpus": 4, "namespace": "physics", "secret": "tracker", "env": ["A=b c", "N=1"]},
        {"processes": 3, "cpus": 2, "time": "1-00:00:00", "volume": ["showers:/data", "out.v2:/out"]},
    ],
)
def test_trainings_are_valid_on_kubernetes(options):
    runtime, job = yaml.safe_load_all(shown("k8s", *TRAIN, **(ON_K8S | options)))
    for document in (runtime, job):
        check_schema(document)
    spec = job["spec"]
    assert spec["runtimeRef"]["name"] == runtime["metadata"]["name"]
    assert spec["trainer"]["numNodes"] == runtime["spec"]["mlPolicy"]["numNodes"] == options.get("nodes", 1)
    assert spec["trainer"]["numProcPerNode"] == options.get("processes", options.get("gpus", 1))
    assert ["caloforge", *spec["trainer"]["args"]] == ["caloforge", *TRAIN, "--resume"]
    assert spec["activeDeadlineSeconds"] == {"1-00:00:00": 86_400}.get(options.get("time"), 14_400)
    asked = spec["trainer"]["resourcesPerNode"]["requests"]
    assert asked["cpu"] == str(options.get("processes", options.get("gpus", 1)) * options.get("cpus", 4))
    assert asked.get("nvidia.com/gpu") == ("4" if "gpus" in options else None)
    [jobs] = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    pod = jobs["template"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    [container] = pod["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    assert ("envFrom" in container) == ("secret" in options)
    # torchrun lets its processes save before the pod is killed
    patience = int(spec["trainer"]["command"][1].rpartition("=")[2])
    assert 30 < patience < pod["terminationGracePeriodSeconds"]


def test_the_schemas_notice_a_wrong_manifest():
    runtime, _ = yaml.safe_load_all(shown("k8s", *TRAIN, **ON_K8S))
    runtime["spec"]["mlPolicy"]["torch"]["numProcPerNode"] = 4
    with pytest.raises(jsonschema.ValidationError, match="numProcPerNode"):
        check_schema(runtime)


@pytest.mark.parametrize(
    "options", [{}, {"nodes": 8, "gpus": 2, "namespace": "physics", "secret": "tracker"}]
)
def test_studies_are_valid_on_kubernetes(options):
    [job] = yaml.safe_load_all(shown("ray", *STUDY, **(ON_K8S | options)))
    check_schema(job)
    spec = job["spec"]
    wanted = f"env --chdir=/data caloforge {' '.join(STUDY)} --address auto"
    assert spec["entrypoint"] == wanted
    cluster = spec["rayClusterSpec"]
    [group] = cluster["workerGroupSpecs"]
    assert group["replicas"] == group["minReplicas"] == group["maxReplicas"] == options.get("nodes", 1)
    [head], [worker] = (part["template"]["spec"]["containers"] for part in (cluster["headGroupSpec"], group))
    assert worker["resources"]["limits"].get("nvidia.com/gpu") == ("2" if "gpus" in options else None)
    # who has not the token of the cluster cannot talk to it
    assert cluster["authOptions"] == {"mode": "token"}
    # the head works for no trial
    assert "nvidia.com/gpu" not in head["resources"]["limits"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert head["volumeMounts"] == worker["volumeMounts"]


@pytest.mark.parametrize("words", [SIMULATE, GENERATE, EVENTS], ids=lambda words: words[0])
def test_campaigns_are_valid_on_ray(words):
    [job] = yaml.safe_load_all(shown("ray", *words, nodes=3, **ON_K8S))
    check_schema(job)
    command = f"caloforge {' '.join(words)} --cluster auto --resume"
    assert job["spec"]["entrypoint"] == f"env --chdir=/data {command}"


@pytest.mark.parametrize(
    ("command", "cores"), [(("simulate", "clic-electron"), "--workers 6"), (("generate", "m"), "--threads 6")]
)
def test_parts_on_kubernetes_are_made_and_joined_by_its_pods(command, cores, tmp_path):
    """Fields of batch/v1 Job as its documentation names them; the command of each pod is run here."""
    words = (*command, "-n", "100", "-o", "/data/o.h5")
    [job] = yaml.safe_load_all(shown("k8s", *words, array=3, nodes=2, processes=2, cpus=3, **ON_K8S))
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    spec = job["spec"]
    assert {key: spec[key] for key in ("completionMode", "completions", "parallelism")} == {
        "completionMode": "Indexed", "completions": 3, "parallelism": 2
    }  # fmt: skip
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never" and pod["securityContext"]["runAsNonRoot"]
    [container] = pod["containers"]
    assert container["resources"]["requests"]["cpu"] == "6"
    stand_in = tmp_path / "caloforge"
    stand_in.write_text(f'#!/bin/bash\necho "$*" >> {tmp_path}/calls\n')
    stand_in.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "JOB_COMPLETION_INDEX": "2"}
    subprocess.run(container["command"], env=environment, check=True)
    assert (tmp_path / "calls").read_text().splitlines() == [
        f"{' '.join(words)} {cores} --resume --part 3/3",
        "join /data/o-*-of-3.h5 -o /data/o.h5 --when-complete",
    ]


def test_a_study_on_a_ray_cluster_that_runs_already(cluster):
    cluster("ray", 'echo "job raysubmit_1 submitted"')
    outcome = caloforge.submit("ray", *STUDY, dashboard="http://head:8265")
    assert outcome.text == "job raysubmit_1 submitted"
    assert shlex.split(outcome["manifest"])[-7:] == ["caloforge", *STUDY, "--address", "auto"]
    assert cluster.calls()[-1] + "\n" == outcome["manifest"]
    address = shown("ray", *STUDY, "--address", "head:6379", dashboard="http://head:8265")
    assert address.endswith("--address head:6379\n")


# ---- SLURM


def test_the_options_of_a_batch_script():
    script = shown("slurm", *TRAIN, nodes=4, gpus=2, cpus=8, memory="2Gi", time="00:04:00", sbatch=["qos=x"])
    header = dict(
        line.removeprefix("#SBATCH --").partition("=")[::2]
        for line in script.splitlines()
        if line.startswith("#SBATCH")
    )
    wanted = {"nodes": "4", "ntasks-per-node": "2", "gpus-per-node": "2", "cpus-per-task": "8"}
    assert header.items() >= (wanted | {"mem": "2048M", "qos": "x", "requeue": ""}).items()
    # half of a short time is kept for saving
    assert header["signal"] == "B:USR1@120"


def test_what_the_user_writes_stays_one_word_in_the_script(tmp_path):
    odd = "a b\"c$(touch gone)'`d`"
    script = shown("slurm", "train", "clic-electron", "--data", odd, "-o", "r", env=[f"ODD={odd}"])
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
    head = script.partition("set -euo pipefail")[0] + 'printf "%s\\n" "$ODD" "${command[4]}"\n'
    done = subprocess.run(["bash"], input=head, text=True, capture_output=True, cwd=tmp_path)
    assert done.stdout == f"{odd}\n{odd}\n"
    assert not list(tmp_path.iterdir())


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Stand-ins for the programs of SLURM; what is called is noted in calls.txt."""

    def program(name, body):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/bash\necho "{name} $*" >> "$CALLS"\n{body}\n')
        path.chmod(0o755)

    calls = tmp_path / "calls.txt"
    calls.touch()
    program("scontrol", 'if [ "$1" = show ]; then printf "n1\\nn2\\n"; fi')
    program("scancel", 'kill -TERM "$(cat step)"')
    monkeypatch.setenv("CALLS", str(calls))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{TOOLS}:{os.environ['PATH']}")
    told = {"JOB_ID": "7", "JOB_NODELIST": "n[1-2]", "JOB_NUM_NODES": "2", "CPUS_PER_TASK": "4"}
    for name, value in told.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.chdir(tmp_path)
    program.calls = lambda: calls.read_text().splitlines()
    return program


@pytest.fixture
def run_script():
    started = []

    def start(*command, **options):
        script = ["bash", "-c", shown("slurm", *command, **options)]
        started.append(subprocess.Popen(script, stdout=subprocess.PIPE, text=True, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize(("code", "joined"), [(0, True), (1, False)])
def test_a_task_of_an_array_makes_its_part_and_joins(cluster, run_script, monkeypatch, code, joined):
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    cluster("caloforge", f"if [[ $1 == simulate ]]; then exit {code}; fi")
    process = run_script(*SIMULATE, array=8, cpus=4)
    process.communicate(timeout=20)
    assert process.returncode == code
    made, *rest = cluster.calls()
    assert made == f"caloforge {' '.join(SIMULATE)} --workers 4 --resume --part 2/8"
    assert rest == ["caloforge join train-*-of-8.h5 -o train.h5 --when-complete"] * joined


def test_a_task_of_an_array_goes_back_into_the_queue(cluster, run_script, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    cluster("caloforge", "trap 'kill $!; exit 0' TERM; touch started; sleep 30 & wait $!")
    process = run_script(*SIMULATE, array=8)
    while not Path("started").exists():
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGUSR1)
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert cluster.calls()[-1] == "scontrol requeue 7"


@pytest.mark.parametrize("words", [SIMULATE, GENERATE, EVENTS], ids=lambda words: words[0])
def test_a_campaign_runs_on_ray_over_all_nodes(cluster, run_script, words):
    cluster("srun", "exit 0")
    run_script(*words, nodes=2, cpus=4).communicate(timeout=20)
    (call,) = [call for call in cluster.calls() if call.startswith("srun")]
    assert call.endswith(f"-- caloforge {' '.join(words)} --cluster auto --resume")


@pytest.mark.parametrize(("codes", "runs"), [("0", 1), ("2", 1), ("1 1 0", 3), ("1 1 1 1", 3)])
def test_a_training_that_dies_starts_again(cluster, run_script, codes, runs):
    Path("codes").write_text(codes.replace(" ", "\n") + "\n")
    cluster(
        "srun", 'code=$(head -n 1 codes); sed -i 1d codes; echo "$MASTER_ADDR:$MASTER_PORT"; exit "$code"'
    )
    process = run_script(*TRAIN)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == int(codes.split()[min(runs, len(codes.split())) - 1])
    started = [call for call in cluster.calls() if call.startswith("srun")]
    assert started == [f"srun --kill-on-bad-exit=1 caloforge {' '.join(TRAIN)} --resume"] * runs
    assert out.count("n1:20007") == runs


def test_before_its_time_is_up_a_job_saves_and_goes_back_into_the_queue(cluster, run_script):
    # the training saves in a moment and ends well
    cluster(
        "srun", 'trap "sleep 0.3; echo saved; exit 0" TERM; echo $$ > step; while true; do sleep 0.05; done'
    )
    process = run_script(*TRAIN)
    while not Path("step").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGUSR1)
    out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "saved\n")
    assert cluster.calls()[-2:] == ["scancel --signal=TERM 7", "scontrol requeue 7"]
    assert sum(call.startswith("srun") for call in cluster.calls()) == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_train_are_stopped_and_continue(cluster, run_script, tmp_path):
    """The script with the real program, srun as it tells the processes who they are."""
    mesh = ["--set", "detector.mesh.nx=8", "--set", "detector.mesh.ny=8"]
    run = load_run("demo", mesh[1::2])
    with ShowerWriter(tmp_path / "train.h5", run.detector, {}) as writer:
        writer.append(synthetic_showers(run.detector, run.beam, 80))
    fast = ["training.batch_size=8", "training.precision=fp32", "training.threads=1"]
    fast += ["training.evaluation.showers=20", "training.evaluation.every_epochs=1000"]
    command = ["train", "demo", *TRAIN[2:], *mesh, *(part for setting in fast for part in ("--set", setting))]
    cluster(
        "srun",
        "shift; rm -f pids; for rank in 0 1; do\n"
        "SLURM_PROCID=$rank SLURM_LOCALID=$rank SLURM_STEP_NUM_TASKS=2 SLURM_STEP_ID=0 "
        'SLURM_STEP_NODELIST=n1 MASTER_ADDR=127.0.0.1 "$@" & echo $! >> pids; done\n'
        "code=0; for pid in $(cat pids); do wait $pid || code=$?; done; exit $code",
    )
    cluster("scancel", "kill -TERM $(cat pids)")
    checkpoints = tmp_path / "runs/first/checkpoints"

    process = run_script(*command, "--set", "training.max_steps=100000", "--set", "training.epochs=10000")
    limit = time.monotonic() + 240
    while not list(checkpoints.glob("step-*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit, "no checkpoint came"
        time.sleep(0.1)
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=240)
    assert process.returncode == 0
    assert cluster.calls()[-1] == "scontrol requeue 7"
    done = max(int(path.name.removeprefix("step-")) for path in checkpoints.glob("step-*"))

    # the same job, when its turn comes again
    process = run_script(
        *command, "--set", f"training.max_steps={done + 3}", "--set", "training.epochs=10000"
    )
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0
    assert f"trained {done + 3} steps" in out


def test_a_study_runs_on_ray_over_all_nodes(cluster, run_script):
    cluster("srun", "exit 5")
    process = run_script(*STUDY, nodes=2, processes=4)
    process.communicate(timeout=20)
    assert process.returncode == 5
    ray = "ray symmetric-run --address n1:20007 --min-nodes 2 --num-cpus 4"
    command = f"caloforge {' '.join(STUDY)} --address auto"
    assert cluster.calls()[-1] == f"srun --kill-on-bad-exit=1 {ray} -- {command}"
    # one Ray for each node, with the cores of all its processes
    script = shown("slurm", *STUDY, nodes=2, processes=4, cpus=3)
    assert "#SBATCH --ntasks-per-node=1\n#SBATCH --cpus-per-task=12\n" in script


def test_ray_on_slurm_asks_for_a_token_of_the_job(cluster, run_script):
    cluster("srun", 'echo "$RAY_AUTH_MODE $RAY_AUTH_TOKEN $SLURM_EXPORT_ENV"')
    words = [run_script(*STUDY).communicate(timeout=20)[0].split() for _ in range(2)]
    assert [(mode, export) for mode, _, export in words] == [("token", "ALL")] * 2
    (_, first, _), (_, second, _) = words
    assert first != second and len(bytes.fromhex(first)) == len(bytes.fromhex(second)) == 32


@pytest.mark.parametrize("command", [TRAIN, STUDY])
def test_the_environment_is_set_up_before_the_command(cluster, run_script, command, tmp_path):
    (tmp_path / "activate").write_text('export PATH="$UNSET/venv/bin:$PATH" VENV="a b"\n')
    cluster("srun", 'echo "${PATH%%:*} $VENV"')
    process = run_script(*command, setup="module() { echo load $2; }; module load gcc\nsource ./activate")
    out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "load gcc\n/venv/bin a b\n")


def test_nothing_runs_where_the_environment_cannot_be_set_up(cluster, run_script):
    cluster("srun", "exit 0")
    process = run_script(*TRAIN, setup="source venv/bin/activate; module load gcc")
    process.communicate(timeout=20)
    assert process.returncode != 0
    assert not cluster.calls()


# ---- submitting


def test_sbatch_gets_the_script(cluster, monkeypatch):
    cluster("sbatch", 'cat > got.sh; echo "Submitted batch job 7"')
    outcome = caloforge.submit("slurm", *TRAIN)
    assert (outcome.text, outcome["submitted"]) == ("Submitted batch job 7", True)
    assert Path("got.sh").read_text() == shown("slurm", *TRAIN)
    cluster("sbatch", "echo invalid partition >&2; exit 1")
    with pytest.raises(SubmissionError, match=r"sbatch refused the job \(status 1\): invalid partition"):
        caloforge.submit("slurm", *TRAIN)
    cluster("kubectl", "cat > got.yaml; echo created")
    assert caloforge.submit("k8s", *TRAIN, **ON_K8S).text == "created"
    assert Path("got.yaml").read_text() == shown("k8s", *TRAIN, **ON_K8S)
    assert cluster.calls()[-1] == "kubectl apply -f -"


@pytest.mark.parametrize(
    ("where", "program", "options"), [("slurm", "sbatch", {}), ("k8s", "kubectl", ON_K8S)]
)
def test_programs_that_are_not_here(monkeypatch, where, program, options):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingDependencyError, match=f"{program} is not here.*--print"):
        caloforge.submit(where, *TRAIN, **options)


# ---- bad input


@pytest.mark.parametrize(
    ("command", "options", "messages"),
    [
        ((), {}, ["caloforge submit WHERE train"]),
        (("trian", "r.yaml"), {}, ["'trian'", "Did you mean 'train'?"]),
        (("train", "clic-electron"), {}, ["caloforge train: ", "--data"]),
        ((*TRAIN, "--nodse", "4"), {}, ["--nodse", "Did you mean '--nodes'?"]),
        ((*TRAIN, "--force"), {}, ["--force", "begin anew"]),
        (("train", "clic-electron", "--data", "a\nrm b", "-o", "r"), {}, ["arguments", "more than one line"]),
        ((*TRAIN, "--set", "training.batchsize=3"), {}, ["training.batchsize", "'batch_size'"]),
        (TRAIN, {"memory": "16GB"}, ["memory", "'16GB'", "such as 16Gi"]),
        (TRAIN, {"memory": "0Gi"}, ["memory"]),
        (TRAIN, {"time": "4h", "nodes": 0}, ["time", "'4h'", "04:00:00", "nodes", "(got 0)"]),
        (TRAIN, {"time": "00:00:00"}, ["time"]),
        (TRAIN, {"name": "First_Run"}, ["name", "'First_Run'", "'first-run'"]),
        (TRAIN, {"image": "bad image"}, ["image", "'bad image'", ".sif"]),
        (TRAIN, {"gpus": 2, "processes": 3}, ["3 processes for 2 GPUs"]),
        (TRAIN, {"env": ["MLFLOW_TRACKING_PASSWORD=x"]}, ["MLFLOW_TRACKING_PASSWORD", "--secret"]),
        (TRAIN, {"env": ["A"]}, ["--env A", "NAME=VALUE"]),
        (TRAIN, {"env": ["A=1", "A=2"]}, ["twice"]),
        (TRAIN, {"env": ["A-B=1"]}, ["'A-B'"]),
        (TRAIN, {"sbatch": ["nodes=4"]}, ["--sbatch nodes=4", "decided"]),
        (TRAIN, {"sbatch": ["comment=a\n#SBATCH --uid=0"]}, ["--sbatch comment", "NAME=VALUE"]),
        (TRAIN, {"volume": ["/scratch:/data"]}, ["without --image"]),
        (TRAIN, {"volume": ["data"], "image": "a.sif"}, ["volumes", "expected an absolute folder"]),
        (TRAIN, {"volume": ["x:/data", "y:/data"], "image": "a.sif"}, ["same path"]),
        (TRAIN, {"volume": ["x:/data"], "image": "a.sif"}, ["--volume x", "/scratch/me:/data"]),
        (TRAIN, {"namespace": "physics"}, ["--namespace", "k8s"]),
        (TRAIN, {"dashboard": "http://head:8265"}, ["--dashboard", "ray"]),
        (TRAIN, {"secret": "tracker"}, ["--secret", "k8s"]),
        (TRAIN, {"setup": "module load 'gcc"}, ["setup", "module load 'gcc", "bash cannot read"]),
        (TRAIN, {"setup": "export API_KEY=x"}, ["setup", "API_KEY looks like a secret"]),
        (("tune", "study.yaml"), {}, ["caloforge tune: ", "-o"]),
        (EVENTS, {"array": 3}, ["--array is for simulate and generate"]),
        (TRAIN, {"array": 3}, ["--array is for simulate and generate"]),
        ((*SIMULATE, "--part", "1/3"), {"array": 3}, ["--part and --cluster"]),
        (SIMULATE, {"array": 3, "gpus": 1}, ["leave --gpus out"]),
        (SIMULATE, {"array": 3, "sbatch": ["array=1-9"]}, ["--sbatch array=1-9", "decided"]),
    ],
)
def test_what_cannot_run_on_slurm_is_refused(command, options, messages):
    with pytest.raises(ConfigError) as caught:
        shown("slurm", *command, **options)
    for message in messages:
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("command", "options", "messages"),
    [
        (TRAIN, {"image": None, "volume": None}, ["--image", "deploy/Dockerfile", "--volume"]),
        (TRAIN, {"image": "caloforge.sif"}, ["--image"]),
        (TRAIN, {"volume": ["/scratch/me:/data"]}, ["'/scratch/me'", "claim"]),
        (TRAIN, {"namespace": "Physics"}, ["--namespace Physics"]),
        (TRAIN, {"sbatch": ["qos=x"]}, ["--sbatch", "slurm"]),
        (TRAIN, {"setup": "module load gcc"}, ["--setup", "slurm"]),
        (("train", "clic-electron", "--data", "/eos/t.h5", "-o", "r"), {}, ["--data /eos/t.h5", "/data"]),
        (("train", "clic-electron", "--data", "t.h5", "-o", "../r"), {}, ["-o ../r", "/data"]),
        (("train", "clic-electron", "--data", "/eos/t-*.h5", "-o", "r"), {}, ["--data /eos/t-*.h5"]),
        ((*TRAIN, "--from", "/eos/m"), {}, ["--from /eos/m", "/data"]),
        (SIMULATE, {}, ["divided into tasks", "--array"]),
        (GENERATE, {}, ["divided into tasks", "--array"]),
        (EVENTS, {}, ["caloforge simulate-events does not run on k8s", "slurm or ray"]),
        (("generate", "/eos/m", "-n", "9", "-o", "o.h5"), {"array": 2}, ["the model /eos/m", "/data"]),
    ],
)
def test_what_cannot_run_on_kubernetes_is_refused(command, options, messages):
    with pytest.raises(ConfigError) as caught:
        shown("k8s", *command, **(ON_K8S | options))
    for message in messages:
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("where", "command", "options", "messages"),
    [
        ("k8s", STUDY, {}, ["caloforge tune does not run on k8s", "slurm or ray"]),
        ("ray", TRAIN, {}, ["caloforge train does not run on ray", "slurm or k8s"]),
        ("ray", SIMULATE, {"array": 3}, ["--array is for simulate and generate on slurm and k8s"]),
        ("ray", ("generate", "/eos/m", "-n", "9", "-o", "o.h5"), {}, ["the model /eos/m", "/data"]),
        ("ray", STUDY, {"volume": None}, ["--volume is needed"]),
        ("ray", ("tune", "/eos/study.yaml", "-o", "r"), {}, ["the study /eos/study.yaml", "/data"]),
        ("ray", STUDY, {"dashboard": "head:8265"}, ["--dashboard head:8265", "http://head:8265"]),
        ("ray", STUDY, {"dashboard": "http://h", "secret": "s"}, ["--dashboard", "--secret"]),
        ("ray", (*EVENTS, "--fast", "/eos/m"), {}, ["--fast /eos/m", "/data"]),
        ("ray", ("simulate-events", "e.hepmc", "-d", "/d.yaml", "-o", "h.h5"), {}, ["--detector /d.yaml"]),
    ],
)
def test_what_cannot_run_there_is_refused(where, command, options, messages):
    with pytest.raises(ConfigError) as caught:
        shown(where, *command, **(ON_K8S | options))
    for message in messages:
        assert message in str(caught.value)


def test_a_wrong_study_is_refused_before_the_queue(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text("trails: 3\n")
    with pytest.raises(ConfigError, match="trails"):
        shown("slurm", *STUDY)


def test_a_run_that_is_not_here_is_refused_before_the_queue(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="absent"):
        caloforge.submit("slurm", "train", "absent.yaml", "--data", "t.h5", "-o", "r")
    # on a volume it may well be there
    assert "absent.yaml" in shown("k8s", "train", "absent.yaml", "--data", "t.h5", "-o", "r", **ON_K8S)


def test_options_of_the_job_and_of_what_runs_do_not_mix():
    def names(verb):
        arguments = build_app()[verb].assemble_argument_collection()
        return {name for argument in arguments for name in argument.names if argument.index is None}

    for verb in module.VERBS:
        assert not names("submit") & names(verb)


@pytest.mark.parametrize("text", ["First_Run", "a" * 99, "-x-", "", "Ünder"])
def test_every_text_has_a_name(text):
    build(Job, {"name": slug(text), "verb": "train", "arguments": ()}, "test")


def test_json(capsys):
    assert (
        main(["submit", "k8s", *TRAIN, "--image", "a/b:1", "--volume", "c:/data", "--print", "--json"]) == 0
    )
    facts = json.loads(capsys.readouterr().out)
    assert (facts["where"], facts["name"], facts["submitted"]) == ("k8s", "train-first", False)
    assert [d["kind"] for d in yaml.safe_load_all(facts["manifest"])] == ["TrainingRuntime", "TrainJob"]
