"""Every private name of another library that this project relies on, one function each.

A private name may change with any release. `tests/runtime/test_upstream.py` has a contract test for
each function here, and for each private method of Trainer that `train/trainer.py` overrides: an
upgrade says by name what moved.
"""

from typing import Any

# --- transformers.Trainer: the loss since the last log, and when that was ---


def loss_since_log(trainer: Any) -> Any:
    """The summed loss of the steps since the last log: a tensor on the training's device."""
    return trainer._tr_loss


def progress_of_loss(trainer: Any) -> dict[str, float]:
    """What Trainer needs to go on with its logged losses, in the names of a checkpoint."""
    return {
        "loss": trainer._tr_loss.item(),
        "total_loss": trainer._total_loss_scalar,
        "logged_step": trainer._globalstep_last_logged,
    }


def continue_losses(trainer: Any, progress: dict[str, float]) -> None:
    """Sets what `progress_of_loss` gave."""
    trainer._tr_loss += progress["loss"]
    trainer._total_loss_scalar = progress["total_loss"]
    trainer._globalstep_last_logged = progress["logged_step"]


def count_all_steps(trainer: Any) -> None:
    """Lets Trainer's final report count the steps before a resume, too."""
    trainer._initial_global_step = 0


def log_save_evaluate(trainer: Any, start_time: float, trial: Any) -> None:
    """Logs, evaluates and saves now, as far as `trainer.control` asks for it."""
    trainer._maybe_log_save_evaluate(
        trainer._tr_loss, None, trainer.model_wrapped, trial, trainer.state.epoch, None, start_time
    )


# --- transformers.Trainer: batches, columns and folders ---


def batch_size(trainer: Any) -> int:
    """Rows of a training batch on one process; `auto_find_batch_size` may have made it smaller."""
    return trainer._train_batch_size


def keep_columns(trainer: Any, names: list[str]) -> None:
    """Lets these columns of a data set through to the collator, beside the model's own inputs."""
    trainer._set_signature_columns_if_needed()
    trainer._signature_columns += [name for name in names if name not in trainer._signature_columns]


def run_folder(trainer: Any, trial: Any) -> str:
    """The folder of a training's checkpoints: each trial of a search has its own."""
    return trainer._get_output_dir(trial)


def labels_in_batches(trainer: Any, batches: list, device: Any) -> Any:
    """The number of labels in these batches, as Trainer counts them."""
    return trainer._get_num_items_in_batch(batches, device)


def save_shared_out_states(trainer: Any, folder: str) -> None:
    """Writes the optimizer of DeepSpeed or FSDP, whose parts lie on several processes."""
    trainer._save_optimizer_and_scheduler(folder)


def push_checkpoint(trainer: Any, folder: str) -> None:
    """Begins to push a checkpoint to the Hub, where `--hub_strategy` asks for it."""
    trainer._push_from_checkpoint(folder)
