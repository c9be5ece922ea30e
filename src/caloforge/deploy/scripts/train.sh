set -euo pipefail
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK SLURM_EXPORT_ENV=ALL

# where the processes meet: the first node, at a port that differs from job to job
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
export MASTER_ADDR=${nodes[0]} MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))

# SLURM says so before the time is up: the processes save and end, then the job goes back into the queue
stopping=no
trap 'stopping=yes; scancel --signal=TERM "$SLURM_JOB_ID"' USR1

# a process that dies ends the others; they continue from the last checkpoint, three times at most
for attempt in 1 2 3; do
    srun --kill-on-bad-exit=1 "${launcher[@]}" "${command[@]}" &
    step=$!
    # a signal ends `wait`, not the step
    while true; do
        status=0
        wait "$step" || status=$?
        kill -0 "$step" 2>/dev/null || break
    done
    if [[ $stopping == yes ]]; then
        scontrol requeue "$SLURM_JOB_ID"
        exit 0
    fi
    # 0 is done, and what is wrong with the command itself (2) will be wrong again
    if ((status == 0 || status == 2)); then
        break
    fi
    echo "attempt $attempt ended with status $status"
done
exit "$status"
