"""Holds every private name of another library that this project uses, one function each.

A private name may change with any release. `tests/runtime/test_upstream.py` has a contract test for
each function here, and for each private method of Trainer that `train/trainer.py` overrides: after
an upgrade, the failing test names what changed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# --- transformers.Trainer: the loss since the last log, and when that was ---


def loss_since_log(trainer: Any) -> Any:
    """Returns the summed loss of the steps since the last log, on the training's device."""
    return trainer._tr_loss


def progress_of_loss(trainer: Any) -> dict[str, float]:
    """Returns what Trainer needs to continue its logged losses, by their names in a checkpoint."""
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
    """Returns a process's rows per training batch; `auto_find_batch_size` may have lowered them."""
    return trainer._train_batch_size


def keep_columns(trainer: Any, names: list[str]) -> None:
    """Lets these columns of a data set through to the collator, beside the model's own inputs."""
    trainer._set_signature_columns_if_needed()
    trainer._signature_columns += [name for name in names if name not in trainer._signature_columns]


def run_folder(trainer: Any, trial: Any) -> str:
    """Returns the folder of a training's checkpoints: each trial of a search has its own."""
    return trainer._get_output_dir(trial)


def labels_in_batches(trainer: Any, batches: list, device: Any) -> Any:
    """Returns the number of labels in these batches, as Trainer counts them."""
    return trainer._get_num_items_in_batch(batches, device)


def save_model(trainer: Any, folder: str | None = None) -> None:
    """Saves model and tokenizer, and pushes nothing: by default Trainer would push them, too."""
    trainer.save_model(folder, _internal_call=True)


def save_sharded_states(trainer: Any, folder: str) -> None:
    """Writes the optimizer of DeepSpeed or FSDP, whose parts lie on several processes."""
    trainer._save_optimizer_and_scheduler(folder)


def push_checkpoint(trainer: Any, folder: str) -> None:
    """Begins to push a checkpoint to the Hub, where `--hub_strategy` asks for it."""
    trainer._push_from_checkpoint(folder)


def use_one_gpu(training_arguments: Any) -> None:
    """Lets a process train on its first GPU alone."""
    training_arguments._n_gpu = 1


# --- transformers: models and their settings ---


def architectures(auto_class: Any) -> Mapping[type, type]:
    """Returns the configurations that an Auto class knows, with their models."""
    return auto_class._model_mapping


def keep_weight_names(model: Any) -> None:
    """Lets transformers save the weights under the names that the model has."""
    model._weight_conversions = []


def attention_of(config: Any) -> str:
    """Returns the attention that a configuration asks for; a name with `/` is code of the Hub."""
    return str(getattr(config, "_attn_implementation", ""))


def names_not_saved(model: Any) -> set[str]:
    """Returns the weights that transformers leaves out when it saves the model."""
    return {*(getattr(model, "_keys_to_ignore_on_save", None) or ())}


def keep_generation_settings(generation_config: Any) -> None:
    """Lets from_pretrained take these settings as they are, instead of making others."""
    generation_config._from_model_config = False


@contextmanager
def without_deepspeed() -> Iterator[None]:
    """Lets transformers build models as if there was no configuration of DeepSpeed."""
    from transformers.integrations import deepspeed

    known = deepspeed._hf_deepspeed_config_weak_ref
    deepspeed._hf_deepspeed_config_weak_ref = None
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = known


# --- torch ---

# What wrappers put in front of a weight's name: DistributedDataParallel, torch.compile, FSDP.
WRAPPERS = ("module.", "_orig_mod.", "_fsdp_wrapped_module.")


def lock_extensions_by(kind: type) -> None:
    """Lets torch lock the extensions that it compiles by this class instead of its FileBaton."""
    from torch.utils import cpp_extension

    vars(cpp_extension)["FileBaton"] = kind


def submodules(module: "torch.nn.Module") -> dict[str, Any]:
    """Returns the parts of a module by name; a change of this dictionary changes the module."""
    return module._modules


def give_own_parameters(module: "torch.nn.Module") -> None:
    """Gives a copied module a table of parameters of its own, with the same weights in it."""
    module._parameters = dict(module._parameters)


def set_group_timeout(seconds: int) -> None:
    """Sets how long the processes of the group that is open wait for each other."""
    from torch import distributed

    distributed.distributed_c10d._set_pg_timeout(timedelta(seconds=seconds))


def last_rates(scheduler: Any) -> list[float] | None:
    """Returns the learning rates that a schedule gave last; None for one without steps."""
    return getattr(scheduler, "_last_lr", None)


def set_last_rates(scheduler: Any, rates: Sequence[float]) -> None:
    """Sets the learning rates that a schedule gave last."""
    scheduler._last_lr = rates


def cpu_multiplies_bf16() -> bool:
    """Whether this CPU has instructions for bf16."""
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


# --- accelerate, datasets, sacrebleu, tqdm ---


def forward_as_built(model: Any) -> Callable[..., Any] | None:
    """Returns the forward pass that accelerate has wrapped; None where it has wrapped none."""
    return vars(model).get("_original_forward")


def set_distributed_type(kind: Any) -> None:
    """Sets the kind of distribution for all of accelerate's states."""
    from accelerate.state import PartialState

    PartialState._shared_state["distributed_type"] = kind


def fingerprint_of(dataset: Any) -> str:
    """Returns what identifies a data set in the datasets library's cache."""
    return dataset._fingerprint


def saved_files(state: Mapping[str, Any]) -> list[str]:
    """Returns the files of a data set, from the state.json that save_to_disk has written.

    Raises an error for any other content, and for rows that are chosen by indices.
    """
    if state.get("_indices_data_files"):
        raise ValueError("the rows are chosen by indices")
    return [entry["filename"] for entry in state["_data_files"]]


def counts_of_rows(
    bleu: Any, hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> list[list[int]]:
    """Returns for each row the counts from which sacreBLEU computes its score."""
    return bleu._extract_corpus_statistics(hypotheses, references)


def score_of_counts(bleu: Any) -> Callable[[list[int]], float]:
    """Returns the function from summed counts to the score."""
    return lambda counts: bleu._compute_score_from_stats(counts).score


def bars(tqdm: Any) -> list[Any]:
    """Returns the progress bars that are shown."""
    return list(tqdm._instances)
