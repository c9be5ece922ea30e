#!/bin/bash
#SBATCH --job-name=simulate-train-h5
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=8192M
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=simulate-train-h5-%A-%a.log
#SBATCH --array=1-50
#SBATCH --partition=cpu
# runs: caloforge simulate run.yaml -n 1000000 -o train.h5 --workers 16 --resume
launcher=()
command=(caloforge simulate run.yaml -n 1000000 -o train.h5 --workers 16 --resume)
parts=50
join=(caloforge join 'train-*-of-50.h5' -o train.h5 --when-complete)
set -euo pipefail

# SLURM sends USR1 before the time limit: finished showers are on disk, and the task is requeued
stopping=no
step=
trap 'stopping=yes; kill -TERM "$step" 2>/dev/null || true' USR1

"${launcher[@]}" "${command[@]}" --part "$SLURM_ARRAY_TASK_ID/$parts" &
step=$!
# a signal interrupts `wait`, not the step
while true; do
    status=0
    wait "$step" || status=$?
    kill -0 "$step" 2>/dev/null || break
done
if [[ $stopping == yes ]]; then
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
if ((status == 0)); then
    # the task that ends last finds all parts
    "${launcher[@]}" "${join[@]}"
fi
exit "$status"
