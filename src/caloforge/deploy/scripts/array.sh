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
