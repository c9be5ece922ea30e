#!/bin/bash
#SBATCH --job-name=tune-first
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --mem=65536M
#SBATCH --time=1-00:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=tune-first-%j.log
# runs: caloforge tune study.yaml -o studies/first --address auto
launcher=()
command=(caloforge tune study.yaml -o studies/first --address auto)
set -euo pipefail
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK SLURM_EXPORT_ENV=ALL

# Ray accepts connections with this token only; it is generated for this job and not written to a file
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN

# Ray runs on every node, the driver on the first one
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
address=${nodes[0]}:$((20000 + SLURM_JOB_ID % 20000))
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300

# SLURM sends USR1 before the time limit: what is finished is on disk, and the job is requeued
stopping=no
trap 'stopping=yes; scancel --signal=TERM "$SLURM_JOB_ID"' USR1

srun --kill-on-bad-exit=1 "${launcher[@]}" ray symmetric-run \
    --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" --num-cpus "$SLURM_CPUS_PER_TASK" \
    -- "${command[@]}" &
step=$!
while true; do
    status=0
    wait "$step" || status=$?
    kill -0 "$step" 2>/dev/null || break
done
if [[ $stopping == yes ]]; then
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit "$status"
