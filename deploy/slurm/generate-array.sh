#!/bin/bash
#SBATCH --job-name=generate-showers-h5
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=16384M
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=generate-showers-h5-%A-%a.log
#SBATCH --array=1-20
# runs: caloforge generate runs/first -n 10000000 -o showers.h5 --threads 8 --resume
launcher=()
command=(caloforge generate runs/first -n 10000000 -o showers.h5 --threads 8 --resume)
parts=20
join=(caloforge join 'showers-*-of-20.h5' -o showers.h5 --when-complete)
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
