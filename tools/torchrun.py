"""Runs torchrun, but ends as its first failed process ended, without lines of torchrun's own.

    python tools/torchrun.py --standalone --nproc_per_node 2 recipes/sentiment/run.py

All options are torchrun's. The exit code is the failed process's. By itself torchrun ends with
exit code 1 and a page of its own stack, whatever a process said.
"""

import logging
import signal
import sys

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGUSR1"  # are passed on to the processes
PATIENCE = "270"  # seconds in which they may save; torchrun's 30 are too few for a large model
FIX = "the same command continues from the last whole checkpoint"


def main(words: list[str]) -> int:
    """Starts the processes, waits for them, and returns the exit code.

    It is the code of the first process that failed, or 1 if that process was killed.
    """
    logging.disable(logging.ERROR)
    options = ["--signals_to_handle", SIGNALS, "--shutdown_timeout", PATIENCE]
    try:
        run.run(run.parse_args([*options, *words]))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:
            return failure.exitcode
        name = signal.Signals(-failure.exitcode).name
        what = f"error: process {rank} was killed by {name}"
        print(f"{what}\n  where: rank {rank}\n  fix: {FIX}", file=sys.stderr)
        return 1
    except SignalException as error:
        if error.sigval == signal.SIGINT:
            return 130
        return 143
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
