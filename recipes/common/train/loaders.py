"""Builds data loaders.

Training reads in an order that the seed decides. Evaluation reads rows of similar length
together.
"""

import sys
from typing import Any
from weakref import WeakKeyDictionary

import datasets
import torch
from transformers.trainer_pt_utils import BatchRebalanceSampler

from recipes.common.runtime import signals, upstream
from recipes.common.train.samplers import for_evaluation, for_training


class Loaders:
    """Chooses the sampler of each data set, and finishes the loaders that Trainer builds.

    Trainer drops the length column before it asks for a sampler, and its own sampler for
    group_by_length would draw a random order.
    """

    def __init__(self, trainer: Any):
        self.trainer = trainer
        # Chooses the rows of each batch of the training; None: they come as they are.
        self.sampler: Any = None
        # The data set, the batch and the seed that it was made for.
        self._made_for: tuple[Any, ...] | None = None
        # Data sets and their loaders, whose workers persist.
        self._kept: dict[str, tuple[Any, Any]] = {}
        # The loaders that were finished here, and their samplers.
        self._samplers: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    def set_sampler(self, dataset: Any) -> None:
        """Makes the training's sampler, where data set, batch or seed are new."""
        trainer, arguments = self.trainer, self.trainer.args
        rows = upstream.batch_size(trainer)
        made_for = (
            id(dataset),
            rows,
            arguments.gradient_accumulation_steps,
            arguments.seed,
            arguments.data_seed,
        )
        if self._made_for != made_for:
            self.sampler = for_training(dataset, arguments, trainer.tokens_per_batch, rows)
            self._made_for = made_for

    def is_ours(self) -> bool:
        """Whether the training's batches come from a loader that was finished here.

        A subclass may build another one.
        """
        loader = self.trainer.callback_handler.train_dataloader
        return loader is None or loader in self._samplers

    def is_sampled(self, loader: Any) -> bool:
        """Whether a loader was finished here and has a sampler of its own."""
        return loader is not None and self._samplers.get(loader) is not None

    def sampler_of(self, dataset: Any, is_training: bool) -> Any:
        """Returns the sampler of a data set; None where rows come as they are."""
        if not is_training:
            return for_evaluation(dataset, self.trainer.args, self.trainer.generation)
        self.set_sampler(dataset)
        return self.sampler

    def without_texts(self, dataset: Any) -> Any:
        """Returns the data set without its columns of texts or words: no model reads them."""
        if not isinstance(dataset, datasets.Dataset) or not self.trainer.args.remove_unused_columns:
            return dataset
        return dataset.remove_columns(
            [name for name, kind in dataset.features.items() if _holds_text(kind)]
        )

    def kept(self, key: str | None, dataset: Any) -> Any:
        """Returns the loader that was kept for this data set with its workers, or None."""
        known, loader = self._kept.get(key, (None, None))
        return loader if known is dataset else None

    def finish(self, loader: Any, sampler: Any, key: str | None, dataset: Any) -> Any:
        """Gives the loader its own generator, and workers that end with their parent."""
        arguments = self.trainer.args
        if isinstance(sampler, BatchRebalanceSampler) and arguments.world_size > 1:
            # accelerate's sampler must not divide batches of different sizes.
            loader.batch_sampler.batch_size, loader.batch_sampler.even_batches = None, False
        inner = getattr(loader, "base_dataloader", loader)
        # Without a generator of its own each pass would use up random numbers of the model.
        inner.generator = torch.Generator()
        chosen = arguments.dataloader_multiprocessing_context
        if inner.num_workers and not chosen and sys.platform == "linux":
            inner.multiprocessing_context = signals.workers()
        self._samplers[loader] = sampler
        if key is not None and arguments.dataloader_persistent_workers:
            self._kept[key] = (dataset, loader)
        return loader


def _holds_text(kind: Any) -> bool:
    """Whether a column of this kind holds texts, or lists of them."""
    inner = getattr(kind, "feature", kind)
    return str(getattr(inner, "dtype", "")).endswith("string")
