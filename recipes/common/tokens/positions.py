"""Declares a stream that a training can leave, and continue later.

Its position is saved with every checkpoint.
"""

from abc import abstractmethod
from fractions import Fraction
from pathlib import Path

import torch


class PositionedStream(torch.utils.data.IterableDataset):
    """Streams rows without an end, epoch after epoch, from any position."""

    @abstractmethod
    def steps(self, rows: int, accumulated: int) -> Fraction | None:
        """Returns the optimizer steps of an epoch; None where they have not been counted.

        `rows` is the number of rows per batch of all processes together.
        """

    def save_position(self, folder: Path, rows: int) -> None:
        """Writes into a checkpoint what is needed to continue after `rows` rows."""

    @abstractmethod
    def load_position(self, folder: Path, rows: int, vocabulary: int) -> None:
        """Continues after `rows` rows.

        Raises an error where the checkpoint holds no position, or an id beyond `vocabulary`.
        """

    def collect(self) -> None:
        """Takes over what the workers of a data loader have reported since the last call."""
