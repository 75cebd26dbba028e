"""Flags that contradict each other: what is said later wins, what gives way is said, and so is what has no effect.

The layers are the recipe's config.yaml, each --config FILE, and the command line.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import note
from recipes.common.runtime.secrets import HIDDEN, SECRETS

UNSAID = -1  # the layer of a library's own default
INTERVALS = {
    "eval": "no",
    "save": "steps",
    "logging": "steps",
}  # and the default of each --…_strategy
EVALUATIONS = 0.1  # of the steps between two evaluations, where only --eval_strategy steps is said
HEADLINE = "headline"  # --metric_for_best_model: the metric that the task is usually judged by
BEST = "load_best_model_at_end"
# Schedules that know no warm-up, those that take no settings, and those that look at evaluations.
NO_WARMUP = {"constant", "reduce_lr_on_plateau", "greedy"}
NO_SETTINGS = {"constant", "constant_with_warmup"}
BY_EVALUATION = {"reduce_lr_on_plateau", "greedy"}
NO_BETAS = {"adafactor", "sgd", "adagrad", "rmsprop", "lomo", "adalomo"}

# Without which flags a flag means nothing: it is refused, for the run would be another one than was meant.
NEEDS = dict.fromkeys(
    ("lora_alpha", "lora_dropout", "lora_target_modules", "load_in_4bit"), ("lora_rank",)
)
HUB = ("hub_model_id", "hub_strategy", "hub_private_repo", "hub_revision", "hub_always_push")
NEEDS |= dict.fromkeys(HUB, ("push_to_hub",))
AGAIN = ("gradient_checkpointing", "activation_checkpointing")
NEEDS |= {f"{name}_kwargs": AGAIN for name in AGAIN}
NEEDS["dataloader_persistent_workers"] = ("dataloader_num_workers",)
NEEDS |= {
    "fsdp_config": ("fsdp",),
    "liger_kernel_config": ("use_liger_kernel",),
    "prepare_only": ("prepared_dir",),
}
# What the recipes decide by themselves.
DECIDED = {
    "batch_eval_metrics",
    "eval_do_concat_batches",
    "remove_unused_columns",
    "label_names",
    "length_column_name",
}
DECIDED |= {
    "include_for_metrics",
    "sortish_sampler",
    "eval_use_gather_object",
    "parallelism_config",
}
DECIDED |= {"dataloader_multiprocessing_context", "ignore_data_skip", "local_rank"}


class Values(dict[str, Any]):
    """The flags that some layer says. `names` are the layers, and `layers` tells which of them said a flag."""

    def __init__(self, names: list[str]):
        super().__init__()
        self.names = names
        self.layers: dict[str, int] = {}
        self._gave_way: dict[str, list[str]] = {}

    def add(self, number: int, flags: dict[str, Any]) -> None:
        """Puts the flags of one layer above those of the layers below."""
        self.update(flags)
        self.layers |= dict.fromkeys(flags, number)

    def remove(self, flags: Iterable[str]) -> None:
        """Forgets these flags."""
        for flag in flags:
            self.pop(flag, None)

    def layer(self, *flags: str) -> int:
        """The number of the highest layer that says one of these flags."""
        return max(self.layers.get(flag, UNSAID) if flag in self else UNSAID for flag in flags)

    def give_way(self, flag: str, winner: str, instead: Any = None, silently: bool = False) -> None:
        """Lets a flag go, or gives it the value `instead`, because of what the flag `winner` says."""
        said = f"{flag} {_plain(self.get(flag))}" if flag in self else ""
        if said and not silently:
            number = self.layer(flag)
            place = f" of {self.names[number]}" if number < len(self.names) - 1 else ""
            becomes = "gives way" if instead is None else f"becomes {_plain(instead)}"
            self._gave_way.setdefault(winner, []).append(f"{said}{place} {becomes}")
        if instead is None:
            self.pop(flag, None)
        else:
            self[flag] = instead
            self.layers[flag] = self.layer(winner)

    def tell(self) -> None:
        """One line for each flag that others gave way to."""
        for winner, found in self._gave_way.items():
            note(f"--{winner} {_plain(self.get(winner))} is what counts: {'; '.join(found)}")
        self._gave_way = {}


@dataclass(frozen=True)
class Pointless:
    """Flags that have no effect where `is_so`, because of what the flag `beside` says, or because it is missing."""

    flags: tuple[str, ...]
    beside: str
    is_so: Callable[[Values], bool]
    told: bool = False  # that the flags of a lower layer give way


def settle(values: Values, standard: dict[str, Any]) -> None:
    """Makes the flags agree, and says what gave way or has no effect. `standard` are the defaults of all flags."""
    if values.get("do_train"):
        _settle_evaluation(values)
        for action in INTERVALS:
            _settle_interval(values, action, standard)
        _settle_best_model(values)
    for row in TABLE:
        _settle_pointless(values, row, standard)
    values.tell()


def refuse(values: Values, standard: dict[str, Any]) -> None:
    """Refuses what would be passed over in silence; a value that is the default anyway is none."""
    for flag in [flag for flag, value in values.items() if value not in (standard.get(flag), [])]:
        needed = NEEDS.get(flag)
        if needed and not any(values.get(name) for name in needed):
            what = f"--{flag} has no effect without --{needed[0]}"
            raise Refusal(what, f"--{flag}", "give both, or neither")
        if flag in DECIDED:
            fix = "leave it out; a task that needs it is a recipe of its own: python cli.py new NAME --from RECIPE"
            raise Refusal(f"the recipe itself decides about {flag}", f"--{flag}", fix)
    if values.get("lora_rank") and values.get("freeze_encoder"):
        fix = "leave one of the two out"
        raise Refusal(
            "adapters freeze the encoder anyway, but for themselves", "--freeze_encoder", fix
        )


def _settle_evaluation(values: Values) -> None:
    """--do_eval false asks for no evaluation at all; by any strategy TrainingArguments would turn it on again."""
    if values.get("do_eval") is not False or values.get("eval_strategy", "no") == "no":
        return
    if values.layer("eval_strategy") < values.layer("do_eval"):
        values.give_way("eval_strategy", "do_eval", "no")
    else:
        note(
            f"--eval_strategy {values['eval_strategy']} evaluates, although --do_eval is false: leave one of them out"
        )


def _settle_interval(values: Values, action: str, standard: dict[str, Any]) -> None:
    """--save_steps 2 asks for --save_strategy steps, unless somebody says another strategy beside it or later."""
    steps, strategy = f"{action}_steps", f"{action}_strategy"
    if values.get(strategy) == "steps" and action == "eval":
        _evaluate_less_often_than_log(values)
    if steps not in values or values.get(strategy, INTERVALS[action]) == "steps":
        return
    if values.layer(steps) > values.layer(strategy):
        values.give_way(strategy, steps, instead="steps")
    elif values.layer(steps) < values.layer(strategy):
        values.pop(steps)
    elif values[steps] != standard.get(steps):
        note(f"--{steps} {values[steps]:g} has no effect beside --{strategy} {values[strategy]}")


def _evaluate_less_often_than_log(values: Values) -> None:
    """--eval_strategy steps alone would evaluate whenever a loss is logged: in a config.yaml that is often."""
    if "eval_steps" not in values and UNSAID < values.layer("logging_steps") < values.layer(
        "eval_strategy"
    ):
        values["eval_steps"] = EVALUATIONS
        note(
            f"--eval_strategy steps: evaluates every {EVALUATIONS:.0%} of the steps; --eval_steps sets it"
        )


def _settle_best_model(values: Values) -> None:
    """The best model is found only where every checkpoint is evaluated: what was said last decides what follows."""
    if not values.get(BEST) or _finds_best(values):
        return
    evaluation = values.layer("eval_strategy", "eval_steps")
    saving = values.layer("save_strategy", "save_steps")
    evaluates, saves = (
        values.get(f"{action}_strategy", INTERVALS[action]) for action in ("eval", "save")
    )
    if saving < evaluation and evaluates != "no":
        _follow(values, "save", "eval")
    elif values.layer(BEST) > evaluation and saves in ("steps", "epoch") and saving > UNSAID:
        _follow(values, "eval", "save")
    elif values.layer(BEST) > max(evaluation, saving):
        values |= {"eval_strategy": "epoch", "save_strategy": "epoch"}
    elif values.layer(BEST) < max(
        evaluation, saving, 1
    ):  # where the recipe contradicts itself, too
        names = ("eval_steps", "eval_strategy", "save_steps", "save_strategy")
        values.give_way(BEST, max(names, key=values.layer))
    else:
        what = f"the best model cannot be found with --eval_strategy {evaluates} and --save_strategy {saves}"
        fix = "evaluate as often as you save: --eval_strategy epoch --save_strategy epoch; or leave it out"
        raise Refusal(what, f"--{BEST}", fix)


def _finds_best(values: Values) -> bool:
    """Whether every checkpoint is evaluated."""
    evaluates, saves = (
        values.get(f"{action}_strategy", INTERVALS[action]) for action in ("eval", "save")
    )
    if evaluates == "no" or saves == "best":
        return evaluates != "no"
    if evaluates != saves or evaluates != "steps":
        return evaluates == saves
    # As Trainer has it: --eval_steps is by default --logging_steps; a share is not compared with a number.
    default = values.get("logging_steps", 500)
    evaluated, saved = values.get("eval_steps") or default, values.get("save_steps", 500)
    return (evaluated < 1) == (saved < 1) and round(saved * 1e6) % round(evaluated * 1e6) == 0


def _follow(values: Values, follower: str, leader: str) -> None:
    """Saves as often as is evaluated, or the other way round."""
    winner = max((f"{leader}_steps", f"{leader}_strategy"), key=values.layer)
    if f"{follower}_steps" in values:
        values.give_way(f"{follower}_steps", winner, values.get(f"{leader}_steps"), silently=True)
    elif f"{leader}_steps" in values:
        values[f"{follower}_steps"] = values[f"{leader}_steps"]
    values.give_way(
        f"{follower}_strategy", winner, values.get(f"{leader}_strategy", INTERVALS[leader])
    )


def _settle_pointless(values: Values, row: Pointless, standard: dict[str, Any]) -> None:
    if not row.is_so(values):
        return
    for flag in row.flags:
        if flag not in values or values[flag] in (standard.get(flag), [], {}):
            continue
        if values.layer(flag) < values.layer(row.beside) or values.layer(flag) == UNSAID:
            values.give_way(flag, row.beside, silently=not row.told)
            continue
        said = values.get(row.beside) and values.layer(row.beside) > UNSAID
        beside = (
            f"beside --{row.beside} {_plain(values[row.beside])}"
            if said
            else f"without --{row.beside}"
        )
        shown = HIDDEN if flag in SECRETS else _plain(values[flag])
        note(f"--{flag} {shown} has no effect {beside}")


def _plain(value: Any) -> str:
    """A value as it is written on a command line."""
    value = getattr(value, "value", value)
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, list):
        return " ".join(map(_plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _is(flag: str, *found: Any) -> Callable[[Values], bool]:
    return lambda values: values.get(flag) in found


def _given(*flags: str) -> Callable[[Values], bool]:
    return lambda values: any(values.get(flag) for flag in flags)


def _without(*flags: str) -> Callable[[Values], bool]:
    return lambda values: not any(values.get(flag) for flag in flags)


def _judges(values: Values) -> bool:
    """Whether anything depends on which evaluation is the best, or better than the last."""
    by_schedule = values.get("lr_scheduler_type") in BY_EVALUATION
    early = values.get("early_stopping_patience")
    return bool(values.get(BEST) or early or by_schedule or values.get("save_strategy") == "best")


def _unheard_direction(values: Values) -> bool:
    """The headline metric has a direction of its own; Trainer writes true for every metric."""
    return (
        values.get("metric_for_best_model") == HEADLINE and values.get("greater_is_better") is False
    )


def _takes_whole_model(values: Values) -> bool:
    """Only the optimizers that project gradients choose modules."""
    return not str(values.get("optim")).startswith(("galore", "apollo"))


LOADING = ("dataloader_prefetch_factor", "dataloader_in_order")
TRAINED = ("tokenizer_algorithm", "do_lower_case", "vocab_size")
OF_A_DATA_SET = (
    "train_split_name",
    "validation_split_name",
    "test_split_name",
    "remove_splits",
    "overwrite_cache",
)
OF_A_DATA_SET += ("dataset_config_name", "dataset_revision")
WRITING = ("num_beams", "generation_num_beams", "generation_max_length", "generation_config")
WRITING += ("val_max_target_length", "interim_eval_samples")
DDP = ("ddp_backend", "ddp_timeout", "ddp_find_unused_parameters", "ddp_bucket_cap_mb")
DDP += ("ddp_broadcast_buffers", "ddp_static_graph")
JUDGING = ("metric_for_best_model", "greater_is_better")
TRACKIO = ("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id")
TABLE = [
    Pointless(
        ("warmup_steps",), "lr_scheduler_type", _is("lr_scheduler_type", *NO_WARMUP), told=True
    ),
    Pointless(
        ("lr_scheduler_kwargs",),
        "lr_scheduler_type",
        _is("lr_scheduler_type", *NO_SETTINGS),
        told=True,
    ),
    Pointless(("adam_beta1", "adam_beta2"), "optim", _is("optim", *NO_BETAS)),
    Pointless(("optim_target_modules",), "optim", _takes_whole_model),
    Pointless(("save_total_limit", "save_only_model"), "save_strategy", _is("save_strategy", "no")),
    Pointless(("eval_delay",), "eval_strategy", _is("eval_strategy", "no", None)),
    Pointless(JUDGING, BEST, lambda values: not _judges(values)),
    Pointless(("greater_is_better",), "metric_for_best_model", _unheard_direction),
    Pointless(("num_train_epochs",), "max_steps", lambda values: values.get("max_steps", -1) > 0),
    Pointless(("per_device_train_batch_size",), "tokens_per_batch", _given("tokens_per_batch")),
    Pointless(LOADING, "dataloader_num_workers", _without("dataloader_num_workers")),
    Pointless(OF_A_DATA_SET, "dataset_name", _without("dataset_name", "task_name")),
    Pointless(("validation_split_percentage",), "validation_file", _given("validation_file")),
    Pointless(("shuffle_seed",), "shuffle_train_dataset", _without("shuffle_train_dataset")),
    Pointless(("model_type",), "model_name_or_path", _given("model_name_or_path")),
    Pointless(
        ("ignore_mismatched_sizes", "dtype"), "model_name_or_path", _without("model_name_or_path")
    ),
    Pointless(
        ("model_revision",),
        "model_name_or_path",
        _without("model_name_or_path", "config_name", "tokenizer_name"),
    ),
    Pointless(TRAINED, "tokenizer_name", _given("tokenizer_name")),
    Pointless(TRAINED, "model_name_or_path", _given("model_name_or_path")),
    Pointless(("generation_num_beams",), "num_beams", _given("num_beams")),
    Pointless(("generation_max_length",), "val_max_target_length", _given("val_max_target_length")),
    Pointless(WRITING, "predict_with_generate", _without("predict_with_generate")),
    Pointless(("run_name", "project"), "report_to", _is("report_to", None, [], "none", ["none"])),
    Pointless(("hub_token",), "push_to_hub", _without("push_to_hub")),
    Pointless(DDP, "num_processes", lambda _: os.environ.get("WORLD_SIZE", "1") == "1"),
    Pointless(
        TRACKIO, "report_to", lambda values: "trackio" not in (values.get("report_to") or [])
    ),
]
