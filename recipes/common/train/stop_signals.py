"""Lets the processes of a run stop at the same step, where one of them got a signal."""

from typing import Any

import torch

from recipes.common.runtime import signals


class StopSignals:
    """Asks the processes of a run for the stop signals that they have received."""

    def __init__(self, accelerator: Any, device: torch.device):
        self.accelerator, self.device = accelerator, device
        self.alone = accelerator.num_processes == 1

    def received(self) -> int:
        """Returns the signal that any process has received, or 0.

        One process answers without an exchange, which would wait until a GPU has finished all its
        work.
        """
        if self.alone:
            return signals.received()
        own = torch.tensor([signals.received()], device=self.device)
        return int(self.accelerator.gather(own).max())

    def received_and_summed(self, number: torch.Tensor) -> tuple[int, torch.Tensor]:
        """Returns the signal that any process has received, and the sum of a number.

        Both take one exchange between the processes.
        """
        number = number.to(self.device)
        if self.alone:
            return signals.received(), number
        own = torch.stack([number, torch.as_tensor(signals.received(), device=self.device)])
        numbers, received = self.accelerator.gather(own).reshape(-1, 2).unbind(1)
        return int(received.max()), numbers.sum()
