"""A stream that a training can leave and come back to: its position is saved with every checkpoint."""

from abc import abstractmethod
from fractions import Fraction
from pathlib import Path

import torch


class PositionedStream(torch.utils.data.IterableDataset):
    """Rows without an end, epoch after epoch, that begin anywhere."""

    @abstractmethod
    def steps(self, rows: int, accumulated: int) -> Fraction | None:
        """Optimizer steps of an epoch, with `rows` per batch of all processes; None where nobody has counted them."""

    def save_position(self, folder: Path, rows: int) -> None:
        """Writes into a checkpoint what is needed to continue after so many rows."""

    @abstractmethod
    def load_position(self, folder: Path, rows: int, vocabulary: int) -> None:
        """Continues after so many rows; raises where the checkpoint holds no position, or an id beyond `vocabulary`."""

    def collect(self) -> None:
        """Takes over what workers of a data loader have reported since the last call."""
