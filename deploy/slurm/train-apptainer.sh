#!/bin/bash
#SBATCH --job-name=train-first
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=4
#SBATCH --mem=16384M
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=train-first-%j.log
# runs: caloforge train run.yaml --data /data/train.h5 -o /data/runs/first --resume
export OMP_NUM_THREADS=4
launcher=(apptainer exec --bind=/scratch/showers:/data caloforge.sif)
command=(caloforge train run.yaml --data /data/train.h5 -o /data/runs/first --resume)
set -euo pipefail
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK SLURM_EXPORT_ENV=ALL

# rendezvous address: the first node, and a port that differs from job to job
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
export MASTER_ADDR=${nodes[0]} MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))

# SLURM sends USR1 before the time limit: the processes save and exit, then the job is requeued
stopping=no
trap 'stopping=yes; scancel --signal=TERM "$SLURM_JOB_ID"' USR1

# if a process dies, all are restarted from the last checkpoint, three attempts at most
for attempt in 1 2 3; do
    srun --kill-on-bad-exit=1 "${launcher[@]}" "${command[@]}" &
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
    # 0: done; 2: an error of the command line, which a restart does not mend
    if ((status == 0 || status == 2)); then
        break
    fi
    echo "attempt $attempt ended with status $status"
done
exit "$status"
