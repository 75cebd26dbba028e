"""Reads a checkpoint when a training continues."""

from pathlib import Path
from typing import Any

import transformers
from accelerate.utils import broadcast_object_list, load_fsdp_optimizer
from peft import PeftModel
from transformers import TrainerState
from transformers.trainer import TRAINER_STATE_NAME, get_fsdp_ckpt_kwargs

from recipes.common.checkpoints import retention
from recipes.common.config import training_settings
from recipes.common.model import adapters, weights
from recipes.common.model.probes import vocabulary_size
from recipes.common.runtime.errors import Refusal
from recipes.common.tokens.positions import PositionedStream
from recipes.common.train import callbacks

FLAG = "resume_from_checkpoint"


def find(named: str | Path | bool | None, trainer: Any) -> Path | None:
    """Returns the folder to continue from, or None; True means the newest whole checkpoint.

    Refuses what is no checkpoint of this Trainer.
    """
    if not named:
        return None
    if named is True:
        return _newest(trainer)
    folder = Path(named)
    if not (folder / TRAINER_STATE_NAME).is_file():
        fix = "name a checkpoint-N folder, or say True: the newest whole one is found"
        raise Refusal(f"Can't find a valid checkpoint at {named}", FLAG, fix)
    if why := retention.no_states(folder):
        fix = "to go on from its weights, load the model from it and begin a new training"
        raise Refusal(f"{named} cannot be resumed: {why}", FLAG, fix)
    return folder


def _newest(trainer: Any) -> Path:
    """Returns the newest whole checkpoint, which the first process finds for all."""
    output_dir = trainer.args.output_dir
    found = retention.newest(Path(output_dir)) if trainer.is_world_process_zero() else None
    newest = broadcast_object_list([found])[0]
    if newest is None:
        what = f"No valid checkpoint found in output directory ({output_dir})"
        raise Refusal(what, FLAG, "leave it out to begin")
    return newest


def read_state(checkpoint: Path) -> TrainerState:
    """Returns the state of Trainer in a checkpoint, and checks the types of its values."""
    with retention.readable(checkpoint):
        state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        retention.check_state(checkpoint, state)
        was_stopped(state)
    return state


def was_stopped(state: TrainerState) -> bool:
    """Whether a callback, such as early stopping, had ended the training."""
    return state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"]


def continue_stream(trainer: Any, checkpoint: Path, rows: int) -> None:
    """Lets a stream continue after `rows` rows, without tokenising what came before."""
    stream = trainer.train_dataset
    if isinstance(stream, PositionedStream):
        with retention.readable(checkpoint):
            stream.load_position(checkpoint, rows, vocabulary_size(trainer.model))
        training_settings.skip_no_data(trainer.args)


def restore_intervals_and_callbacks(trainer: Any, checkpoint: Path) -> None:
    """Sets the intervals as the flags say them, and restores the states of callbacks.

    Trainer takes the intervals of the checkpoint, with a warning among others (transformers issue
    28867).
    """
    state = trainer.state
    with retention.readable(checkpoint):
        callbacks.restore(trainer.callback_handler.callbacks, state.stateful_callbacks)
    state.compute_steps(trainer.args, state.max_steps)


def load_weights(model: Any, checkpoint: Path) -> None:
    """Loads the weights of a checkpoint, whatever names they have there.

    One process holds the model whole.
    """
    with retention.readable(checkpoint):
        if isinstance(model, PeftModel):
            model.load_adapter(str(checkpoint), model.active_adapters[0], is_trainable=True)
            adapters.check_reloaded(model, checkpoint)
            return
        try:
            weights.load_files(model, checkpoint)
        except weights.LostWeight:
            if not isinstance(model, transformers.PreTrainedModel):
                raise
            weights.reload(model, checkpoint)


def load_fsdp_states(trainer: Any, checkpoint: Path) -> None:
    """Loads the parts of an optimizer that FSDP shards."""
    plugin, options = trainer.accelerator.state.fsdp_plugin, get_fsdp_ckpt_kwargs()
    load_fsdp_optimizer(
        plugin, trainer.accelerator, trainer.optimizer, trainer.model, str(checkpoint), **options
    )
