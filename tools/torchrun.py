"""torchrun that ends as the first of its processes ended: with its exit code, and without lines of its own.

    python tools/torchrun.py --standalone --nproc_per_node 2 recipes/sentiment/run.py

Every option is torchrun's. By itself torchrun ends with 1 and a page of its own stack, whatever a process said.
"""

import logging
import signal
import sys

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGUSR1"  # are passed on to the processes
PATIENCE = "270"  # seconds in which they may save; torchrun's 30 are too few for a large model
FIX = "the same command goes on from the last whole checkpoint"


def main(words: list[str]) -> int:
    """Starts the processes and waits for them; the exit code of the first that failed, 1 where it was killed."""
    logging.disable(logging.ERROR)
    try:
        run.run(
            run.parse_args(["--signals_to_handle", SIGNALS, "--shutdown_timeout", PATIENCE, *words])
        )
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:
            return failure.exitcode
        name = signal.Signals(-failure.exitcode).name
        print(
            f"error: process {rank} was killed by {name}\n  where: rank {rank}\n  fix: {FIX}",
            file=sys.stderr,
        )
        return 1
    except SignalException as error:
        return 130 if error.sigval == signal.SIGINT else 143
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
