"""Decides between flags that contradict each other: the flag of the highest layer wins.

The layers are the recipe's config.yaml, each --config FILE, and the command line. Notes name the
flags that are ignored, and the flags that have no effect.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from recipes.common.config import step_sizes
from recipes.common.config.facts import Facts
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import note
from recipes.common.runtime.secrets import HIDDEN, SECRETS

UNSAID = -1  # the layer of a library's own default
# Each --…_strategy and its default.
INTERVALS = {"eval": "no", "save": "steps", "logging": "steps"}
EVALUATIONS = 0.1  # --eval_steps where only --eval_strategy steps is given: a share of all steps
HEADLINE = "headline"  # --metric_for_best_model: the metric that the task is usually judged by
BEST = "load_best_model_at_end"
# Schedules without a warm-up, schedules without settings, and schedules that need evaluations.
NO_WARMUP = {"constant", "reduce_lr_on_plateau", "greedy"}
NO_SETTINGS = {"constant", "constant_with_warmup"}
BY_EVALUATION = {"reduce_lr_on_plateau", "greedy"}
NO_BETAS = {"adafactor", "sgd", "adagrad", "rmsprop", "lomo", "adalomo"}


class Values(dict[str, Any]):
    """Holds the flags that the layers set, the layers' `names`, and the layer of each flag.

    `data_sets` are the flags that name a data set of the Hub.
    """

    def __init__(self, names: list[str], data_sets: Iterable[str] = ("dataset_name",)):
        super().__init__()
        self.names, self.data_sets = names, [*data_sets]
        self.layers: dict[str, int] = {}
        self._gave_way: dict[str, list[str]] = {}

    def add(self, number: int, flags: dict[str, Any]) -> None:
        """Adds the flags of one layer. They replace those of the layers below."""
        for flag, value in flags.items():
            self[flag] = value
            self.layers[flag] = number

    def remove(self, flags: Iterable[str]) -> None:
        """Forgets these flags."""
        for flag in flags:
            self.pop(flag, None)

    def layer(self, *flags: str) -> int:
        """Returns the number of the highest layer that sets one of these flags."""
        return max(map(self._layer_of, flags))

    def _layer_of(self, flag: str) -> int:
        if flag not in self:
            return UNSAID
        return self.layers.get(flag, UNSAID)

    def give_way(
        self, flag: str, winner: str, instead: object = None, silently: bool = False
    ) -> None:
        """Removes a flag that contradicts the flag `winner`, or sets it to the value `instead`."""
        if flag in self and not silently:
            self._remember(flag, winner, instead)
        if instead is None:
            self.pop(flag, None)
        else:
            self[flag] = instead
            self.layers[flag] = self.layer(winner)

    def _remember(self, flag: str, winner: str, instead: object) -> None:
        words = f"{flag} {_plain(self[flag])}"
        number = self.layer(flag)
        if number < len(self.names) - 1:  # below the command line
            words += f" of {self.names[number]}"
        if instead is None:
            words += " is ignored"
        else:
            words += f" becomes {_plain(instead)}"
        self._gave_way.setdefault(winner, []).append(words)

    def tell(self) -> None:
        """Prints one line for each flag that won over others."""
        for winner, found in self._gave_way.items():
            note(f"--{winner} {_plain(self.get(winner))} wins: {'; '.join(found)}")
        self._gave_way = {}


Condition = Callable[[Values], bool]


@dataclass(frozen=True)
class Pointless:
    """Names flags that have no effect under a condition: the flag `beside` is given, or missing."""

    flags: tuple[str, ...]
    beside: str
    condition: Condition
    told: bool = False  # whether a note says that flags of a lower layer are ignored


def settle(values: Values, standard: dict[str, Any]) -> None:
    """Makes the flags agree. Prints which flags are ignored or have no effect.

    `standard` are the defaults of all flags.
    """
    if values.get("do_train"):
        _settle_evaluation(values)
        for action in INTERVALS:
            _settle_interval(values, action, standard)
        _settle_best_model(values)
    for row in TABLE:
        _settle_pointless(values, row, standard)
    values.tell()


def refuse(values: Values, standard: dict[str, Any], known: Mapping[str, Facts]) -> None:
    """Refuses flags that would be ignored silently. Flags with their default value are allowed."""
    for flag, value in values.items():
        if value in (standard.get(flag), []):
            continue
        needed = known[flag].needs
        if needed and not any(map(values.get, needed)):
            what = f"--{flag} has no effect without --{needed[0]}"
            raise Refusal(what, f"--{flag}", "give both, or neither")
        if known[flag].is_decided:
            fix = (
                "leave it out; for a task that needs it, make a recipe: "
                "python cli.py new NAME --from RECIPE"
            )
            raise Refusal(f"the recipe itself decides about {flag}", f"--{flag}", fix)
    if values.get("lora_rank") and values.get("freeze_encoder"):
        what = "adapters freeze the encoder anyway, except for their own weights"
        raise Refusal(what, "--freeze_encoder", "leave one of the two out")


def _settle_evaluation(values: Values) -> None:
    """Lets --do_eval false turn off the evaluation.

    With any other --eval_strategy than "no", TrainingArguments would turn it on again.
    """
    strategy = _strategy(values, "eval")
    if values.get("do_eval") is not False or strategy == "no":
        return
    if values.layer("eval_strategy") < values.layer("do_eval"):
        values.give_way("eval_strategy", "do_eval", "no")
    else:
        note(
            f"--eval_strategy {strategy} evaluates, although --do_eval is false: "
            "leave one of them out"
        )


def _strategy(values: Values, action: str) -> str:
    return values.get(f"{action}_strategy", INTERVALS[action])


def _settle_interval(values: Values, action: str, standard: dict[str, Any]) -> None:
    """Lets --save_steps 2 choose --save_strategy steps.

    Another strategy wins if it stands in the same layer or in a higher one.
    """
    steps = f"{action}_steps"
    strategy = f"{action}_strategy"
    if values.get(strategy) == "steps" and action == "eval":
        _evaluate_less_often_than_log(values)
    if steps not in values or _strategy(values, action) == "steps":
        return
    if values.layer(steps) > values.layer(strategy):
        values.give_way(strategy, steps, instead="steps")
    elif values.layer(steps) < values.layer(strategy):
        values.pop(steps)
    elif values[steps] != standard.get(steps):
        note(f"--{steps} {values[steps]:g} has no effect beside --{strategy} {values[strategy]}")


def _evaluate_less_often_than_log(values: Values) -> None:
    """Sets --eval_steps where only --eval_strategy steps is given.

    Trainer would evaluate whenever it logs a loss, and a config.yaml may log often.
    """
    if "eval_steps" in values:
        return
    if UNSAID < values.layer("logging_steps") < values.layer("eval_strategy"):
        values["eval_steps"] = EVALUATIONS
        note(
            f"--eval_strategy steps: evaluates every {EVALUATIONS:.0%} of the steps; "
            "--eval_steps sets it"
        )


def _settle_best_model(values: Values) -> None:
    """Makes saving and evaluation agree: the best model is found if every checkpoint is evaluated.

    The flag of the highest layer decides; the others follow it.
    """
    if not values.get(BEST) or _finds_best(values):
        return
    best = values.layer(BEST)
    evaluation = values.layer("eval_strategy", "eval_steps")
    saving = values.layer("save_strategy", "save_steps")
    evaluates = _strategy(values, "eval")
    saves = _strategy(values, "save")
    if saving < evaluation and evaluates != "no":
        _follow(values, "save", "eval")
    elif best > evaluation and saves in ("steps", "epoch") and saving > UNSAID:
        _follow(values, "eval", "save")
    elif best > max(evaluation, saving):
        values |= {"eval_strategy": "epoch", "save_strategy": "epoch"}
    elif best < max(evaluation, saving, 1):
        # The recipe's own flag (layer 0) is ignored even where the recipe contradicts itself.
        names = ("eval_steps", "eval_strategy", "save_steps", "save_strategy")
        values.give_way(BEST, max(names, key=values.layer))
    else:
        what = (
            f"the best model cannot be found with --eval_strategy {evaluates} "
            f"and --save_strategy {saves}"
        )
        fix = (
            "evaluate as often as you save: --eval_strategy epoch --save_strategy epoch; "
            "or leave it out"
        )
        raise Refusal(what, f"--{BEST}", fix)


def _finds_best(values: Values) -> bool:
    """Whether every checkpoint is evaluated."""
    evaluates = _strategy(values, "eval")
    saves = _strategy(values, "save")
    if evaluates == "no":
        return False
    if saves == "best":
        return True
    if evaluates != "steps" or saves != "steps":
        return evaluates == saves
    # Trainer's default for --eval_steps is --logging_steps.
    evaluated = values.get("eval_steps") or values.get("logging_steps", 500)
    saved = values.get("save_steps", 500)
    if (evaluated < 1) != (saved < 1):  # a share of all steps and a number of steps
        return False
    return round(saved * 1e6) % round(evaluated * 1e6) == 0


def _follow(values: Values, follower: str, leader: str) -> None:
    """Makes a run save as often as it evaluates, or evaluate as often as it saves."""
    winner = max((f"{leader}_steps", f"{leader}_strategy"), key=values.layer)
    if f"{follower}_steps" in values:
        values.give_way(f"{follower}_steps", winner, values.get(f"{leader}_steps"), silently=True)
    elif f"{leader}_steps" in values:
        values[f"{follower}_steps"] = values[f"{leader}_steps"]
    values.give_way(f"{follower}_strategy", winner, _strategy(values, leader))


def _settle_pointless(values: Values, row: Pointless, standard: dict[str, Any]) -> None:
    if not row.condition(values):
        return
    for flag in row.flags:
        if flag not in values or values[flag] in (standard.get(flag), [], {}):
            continue
        layer = values.layer(flag)
        if layer < values.layer(row.beside) or layer == UNSAID:
            values.give_way(flag, row.beside, silently=not row.told)
        else:
            _note_without_effect(values, flag, row.beside)


def _note_without_effect(values: Values, flag: str, beside: str) -> None:
    shown = _plain(values[flag])
    if flag in SECRETS:
        shown = HIDDEN
    why = f"without --{beside}"
    if values.get(beside) and values.layer(beside) > UNSAID:
        why = f"beside --{beside} {_plain(values[beside])}"
    note(f"--{flag} {shown} has no effect {why}")


def _plain(value: object) -> str:
    """Returns a value as it is written on a command line."""
    value = getattr(value, "value", value)
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, list):
        return " ".join(map(_plain, value))
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def _is(flag: str, *found: object) -> Condition:
    return lambda values: values.get(flag) in found


def _given(*flags: str) -> Condition:
    return lambda values: any(map(values.get, flags))


def _without(*flags: str) -> Condition:
    return lambda values: not any(map(values.get, flags))


def _without_data_set(values: Values) -> bool:
    return not any(map(values.get, values.data_sets))


def _judges_nothing(values: Values) -> bool:
    """Whether no flag compares one evaluation with another."""
    by_schedule = values.get("lr_scheduler_type") in BY_EVALUATION
    by_saving = values.get("save_strategy") == "best"
    by_stopping = values.get("early_stopping_patience")
    return not (values.get(BEST) or by_stopping or by_schedule or by_saving)


def _ignores_direction(values: Values) -> bool:
    """Whether --greater_is_better is false for the headline metric, which has its own direction.

    True is no sign of a user's wish: Trainer itself writes it for every metric.
    """
    is_headline = values.get("metric_for_best_model") == HEADLINE
    return is_headline and values.get("greater_is_better") is False


def _takes_whole_model(values: Values) -> bool:
    """Whether the optimizer ignores --optim_target_modules: only GaLore and APOLLO read it."""
    return not str(values.get("optim")).startswith(("galore", "apollo"))


def _counts_steps(values: Values) -> bool:
    return values.get("max_steps", -1) > 0


def _is_one_process(values: Values) -> bool:
    return step_sizes.number_of_processes() == 1


def _without_trackio(values: Values) -> bool:
    return "trackio" not in (values.get("report_to") or [])


LOADING = ("dataloader_prefetch_factor", "dataloader_in_order")
TRAINED = ("tokenizer_algorithm", "do_lower_case", "vocab_size")
OF_A_DATA_SET = (
    "train_split_name",
    "validation_split_name",
    "test_split_name",
    "remove_splits",
    "overwrite_cache",
    "dataset_config_name",
    "dataset_revision",
)
WRITING = (
    "num_beams",
    "generation_num_beams",
    "generation_max_length",
    "generation_config",
    "val_max_target_length",
    "interim_eval_samples",
)
DDP = (
    "ddp_backend",
    "ddp_timeout",
    "ddp_find_unused_parameters",
    "ddp_bucket_cap_mb",
    "ddp_broadcast_buffers",
    "ddp_static_graph",
)
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
    Pointless(JUDGING, BEST, _judges_nothing),
    Pointless(("greater_is_better",), "metric_for_best_model", _ignores_direction),
    Pointless(("num_train_epochs",), "max_steps", _counts_steps),
    Pointless(("per_device_train_batch_size",), "tokens_per_batch", _given("tokens_per_batch")),
    Pointless(LOADING, "dataloader_num_workers", _without("dataloader_num_workers")),
    Pointless(OF_A_DATA_SET, "dataset_name", _without_data_set),
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
    Pointless(DDP, "num_processes", _is_one_process),
    Pointless(TRACKIO, "report_to", _without_trackio),
]
