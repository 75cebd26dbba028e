#!/bin/bash
#SBATCH --job-name=@NAME@
#SBATCH --nodes=@MACHINES@
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=@PROCESSES@
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log

# Five minutes before the time limit the job stops its processes and goes back into the queue; the same command then
# continues from the newest whole checkpoint. --output_dir must be a folder that all machines see.
back_into_the_queue() {
    echo "time is up: back into the queue"
    kill -USR1 "$training" # of SIGTERM srun makes SIGKILL
    wait "$training"
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
}
trap back_into_the_queue USR1

cd @FOLDER@ || exit 1
if [ -f @ROOT@/.venv/bin/activate ]; then source @ROOT@/.venv/bin/activate; fi
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
export MASTER_ADDR MASTER_PORT OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / @PROCESSES@))

# One task a machine; each starts the machine's processes.
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1 bash -c @COMMAND@ &
training=$!
wait "$training"
