"""What a user says wins; what a config.yaml says is ignored, and a note says so, as it does of what has no effect."""

import inspect

import pytest
import yaml
from conftest import ROOT, SCRATCH, load_recipe

from recipes.common.config import flags, parsing
from recipes.common.runtime.errors import Refusal

EPOCHS = "eval_strategy: epoch\nsave_strategy: epoch\nload_best_model_at_end: true\n"
EPOCHS += "save_total_limit: 2\nlogging_steps: 0.01\n"
STEPS = "eval_strategy: steps\neval_steps: 0.1\nsave_strategy: steps\nsave_steps: 0.5\n"


@pytest.fixture
def parse(sentiment, in_tmp_path, capsys):
    """Parses for a recipe whose config.yaml holds `config`: the training arguments, and the notes."""

    def parse_with(*argv, config=EPOCHS, **files):
        (in_tmp_path / "mine").mkdir(exist_ok=True)
        (in_tmp_path / "mine/config.yaml").write_text("output_dir: out\n" + config)
        for name, content in files.items():
            (in_tmp_path / f"{name}.yaml").write_text(inspect.cleandoc(content))
        _, training_arguments = parsing.parse(sentiment.Arguments, "mine/run.py", list(argv))
        notes = [
            line for line in capsys.readouterr().err.splitlines() if line.startswith("note: --")
        ]
        return training_arguments, notes

    return parse_with


def strategies(found):
    """Evaluation, saving, whether the best model is kept."""
    return (
        str(found.eval_strategy.value),
        str(found.save_strategy.value),
        found.load_best_model_at_end,
    )


# What is said -> evaluation, saving, the best model kept, and the words of the note.
OVER_EPOCHS = {
    "--save_strategy no": (
        "epoch",
        "no",
        False,
        ["load_best_model_at_end true of mine/config.yaml is ignored"],
    ),
    "--eval_strategy no": (
        "no",
        "epoch",
        False,
        ["load_best_model_at_end true of mine/config.yaml is ignored"],
    ),
    "--save_strategy no --eval_strategy no": ("no", "no", False, ["load_best_model_at_end true"]),
    "--save_strategy steps": (
        "epoch",
        "steps",
        False,
        ["--save_strategy steps", "load_best_model_at_end true"],
    ),
    "--save_steps 2": (
        "epoch",
        "steps",
        False,
        ["--save_steps 2", "save_strategy epoch", "becomes steps"],
    ),
    "--save_strategy best": ("epoch", "best", True, []),
    "--eval_steps 2": (
        "steps",
        "steps",
        True,
        ["--eval_steps 2", "eval_strategy epoch", "save_strategy epoch"],
    ),
    "--eval_strategy steps": (
        "steps",
        "steps",
        True,
        ["evaluates every 10%", "save_strategy epoch"],
    ),
    "--eval_strategy steps --logging_steps 2": ("steps", "steps", True, ["save_strategy epoch"]),
    "--load_best_model_at_end true --save_steps 2": (
        "steps",
        "steps",
        True,
        ["eval_strategy epoch"],
    ),
    "--load_best_model_at_end true --save_strategy no": ("epoch", "no", None, []),
    "--load_best_model_at_end true --eval_strategy no": ("no", "epoch", None, []),
    "--load_best_model_at_end false --save_strategy no": ("epoch", "no", False, []),
    "--early_stopping_patience 2 --save_strategy no": (
        "epoch",
        "no",
        False,
        ["load_best_model_at_end"],
    ),
    "--eval_strategy steps --eval_steps 3 --save_strategy epoch": (
        "steps",
        "epoch",
        False,
        ["load_best_model"],
    ),
    "--learning_rate 1e-4": ("epoch", "epoch", True, []),
}


@pytest.mark.parametrize("words", OVER_EPOCHS)
def test_what_is_said_wins_over_a_config_that_keeps_the_best_model(words, parse):
    *wanted, said = OVER_EPOCHS[words]
    if wanted[2] is None:
        with pytest.raises(Refusal, match="the best model cannot be found"):
            parse(*words.split())
        return
    found, notes = parse(*words.split())
    assert strategies(found) == tuple(wanted)
    for word in said:
        assert word in "\n".join(notes)
    assert len(notes) == 0 if not said else 1 <= len(notes) <= 2


def test_no_evaluation_is_heard_although_the_config_evaluates(parse):
    """TrainingArguments would turn it on again."""
    found, notes = parse("--do_train", "--do_eval", "false")
    assert (found.do_eval, strategies(found)) == (False, ("no", "epoch", False))
    assert "eval_strategy epoch of mine/config.yaml becomes no" in notes[0]
    found, _ = parse("--do_eval", "false")
    assert (found.do_train, found.do_eval, strategies(found)) == (
        True,
        False,
        ("no", "epoch", False),
    )


def test_an_evaluation_that_is_asked_for_and_refused_at_once_is_said(parse):
    found, notes = parse("--do_eval", "false", "--eval_strategy", "epoch")
    assert found.do_eval and "leave one of them out" in notes[0]


def test_saving_follows_an_evaluation_that_was_moved(parse):
    found, _ = parse("--eval_steps", "7")
    assert (found.eval_steps, found.save_steps) == (7, 7)
    found, _ = parse("--eval_steps", "7", config=STEPS + "load_best_model_at_end: true\n")
    assert (found.eval_steps, found.save_steps, found.load_best_model_at_end) == (7, 7, True)
    found, notes = parse("--save_steps", "7", config=STEPS + "load_best_model_at_end: true\n")
    assert (found.eval_steps, found.save_steps, found.load_best_model_at_end) == (0.1, 7, False)
    assert "load_best_model_at_end true" in notes[0]


def test_a_configuration_that_is_named_wins_over_the_recipe_s_and_gives_way_to_the_command_line(
    parse,
):
    found, notes = parse("--config", "quick.yaml", quick="save_strategy: 'no'")
    assert strategies(found) == ("epoch", "no", False)
    found, notes = parse(
        "--config", "quick.yaml", "--save_strategy", "no", config="seed: 1\n", quick=EPOCHS
    )
    assert strategies(found) == ("epoch", "no", False)
    assert "load_best_model_at_end true of quick.yaml is ignored" in notes[0]


def test_the_best_model_is_kept_where_nobody_says_when_to_evaluate(parse):
    found, _ = parse("--load_best_model_at_end", config="")
    assert strategies(found) == ("epoch", "epoch", True)


WITHOUT_EFFECT = {
    "--save_steps 2 --save_strategy epoch": "--save_steps 2 has no effect beside --save_strategy epoch",
    "--eval_steps 2 --eval_strategy epoch": "--eval_steps 2 has no effect beside --eval_strategy epoch",
    "--logging_steps 2 --logging_strategy no": "--logging_steps 2 has no effect beside --logging_strategy no",
    "--logging_steps 2 --logging_strategy epoch": "--logging_steps 2 has no effect beside --logging_strategy epoch",
    "--save_total_limit 3 --save_strategy no": "--save_total_limit 3 has no effect beside --save_strategy no",
    "--eval_delay 3 --eval_strategy no": "--eval_delay 3 has no effect beside --eval_strategy no",
    "--warmup_steps 3 --lr_scheduler_type constant": "--warmup_steps 3 has no effect beside --lr_scheduler_type",
    "--num_train_epochs 2 --max_steps 9": "--num_train_epochs 2 has no effect beside --max_steps 9",
    "--optim sgd --adam_beta1 0.8": "--adam_beta1 0.8 has no effect beside --optim sgd",
    "--optim_target_modules all-linear": "--optim_target_modules all-linear has no effect without --optim",
    "--optim_target_modules attn --optim sgd": "--optim_target_modules attn has no effect beside --optim sgd",
    "--dataloader_in_order false": "has no effect without --dataloader_num_workers",
    "--hub_token hf_x": "--hub_token <secret> has no effect without --push_to_hub",
    "--ddp_find_unused_parameters false": "has no effect without --num_processes",
    "--run_name mine": "--run_name mine has no effect without --report_to",
    "--metric_for_best_model f1 --save_strategy no": "--metric_for_best_model f1 has no effect without --load_best",
    "--greater_is_better false": "--greater_is_better false has no effect without --metric_for_best_model",
    "--train_split_name a --train_file x.csv": "--train_split_name a has no effect without --dataset_name",
    "--vocab_size 300 --model_name_or_path x": "--vocab_size 300 has no effect beside --model_name_or_path x",
    "--model_type bert --model_name_or_path x": "--model_type bert has no effect beside --model_name_or_path x",
    "--dtype bfloat16": "--dtype bfloat16 has no effect without --model_name_or_path",
    "--tokens_per_batch 99 --per_device_train_batch_size 4": "--per_device_train_batch_size 4 has no effect beside",
    "--shuffle_seed 7": "--shuffle_seed 7 has no effect without --shuffle_train_dataset",
    "--validation_file a.csv --validation_split_percentage 20": "--validation_split_percentage 20 has no effect",
}


@pytest.mark.parametrize("words", WITHOUT_EFFECT)
def test_what_has_no_effect_beside_another_flag_is_said(words, parse):
    _, notes = parse(*words.split())
    assert WITHOUT_EFFECT[words] in "\n".join(notes)


@pytest.mark.parametrize(
    ("words", "config"),
    [
        ("--max_steps 9", EPOCHS + "num_train_epochs: 5\n"),
        ("--eval_strategy epoch", STEPS),
        ("--tokens_per_batch 99", EPOCHS + "per_device_train_batch_size: 4\n"),
        ("--model_name_or_path x", EPOCHS + "model_type: bert\nvocab_size: 300\n"),
        ("--tokenizer_name x", EPOCHS + "vocab_size: 300\n"),
        ("--optim_target_modules all-linear --optim galore_adamw", EPOCHS),
    ],
)
def test_what_follows_from_a_flag_by_itself_is_no_news(words, config, parse):
    assert parse(*words.split(), config=config)[1] == []


def test_a_warm_up_of_the_recipe_gives_way_to_a_schedule_without_one(parse):
    found, notes = parse("--lr_scheduler_type", "constant", config=EPOCHS + "warmup_steps: 0.1\n")
    assert found.warmup_steps == 0
    assert notes == [
        "note: --lr_scheduler_type constant wins: warmup_steps 0.1 of mine/config.yaml is ignored"
    ]


@pytest.mark.parametrize(
    "words",
    ["--save_strategy no", "--eval_steps 3", "--max_steps 2", "--lr_scheduler_type constant"],
)
def test_a_run_is_repeated_without_a_word(words, parse, in_tmp_path, sentiment, capsys):
    config = EPOCHS + "num_train_epochs: 5\nwarmup_steps: 0.1\n"
    parse(config=config)
    found = parsing.parse(sentiment.Arguments, "mine/run.py", words.split())
    (in_tmp_path / "run.yaml").write_text(yaml.safe_dump(flags.to_dict(*found, "mine/run.py")))
    capsys.readouterr()
    again, notes = parse("--config", "run.yaml", config=config)
    assert again.to_dict() == found[1].to_dict()
    assert notes == []


def test_a_run_that_only_evaluates_says_nothing_about_training(parse):
    found, notes = parse("--do_eval", "--save_steps", "2", "--eval_steps", "3")
    assert (found.do_train, found.eval_strategy.value, notes) == (False, "no", [])


RECIPES = sorted(path.parent.name for path in ROOT.glob("recipes/*/run.py"))


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    "words", ["--save_strategy no", "--eval_strategy no", "--save_strategy steps", "--save_steps 2"]
)
def test_every_recipe_understands_when_to_save_and_evaluate(recipe, words, capsys):
    run = ROOT / "recipes" / recipe / "run.py"
    given = ["--train_file", "x.jsonl", "--output_dir", "out"]
    _, found = parsing.parse(load_recipe(recipe).Arguments, str(run), [*given, *words.split()])
    name, value = words[2:].split()
    assert str(getattr(getattr(found, name), "value", getattr(found, name))) == value
    if "steps" in words:
        assert found.save_strategy.value == "steps"


REVIEWS = "--train_file train.csv --validation_file test.csv --output_dir out --bf16 false".split()
REVIEWS += ["--num_train_epochs", "2", "--per_device_train_batch_size", "20", *SCRATCH]


def test_without_checkpoints_a_run_ends_with_its_last_weights(sentiment, reviews, capsys):
    sentiment.main([*REVIEWS, "--save_strategy", "no"])
    assert not list((reviews / "out").glob("checkpoint-*"))
    assert (reviews / "out/model.safetensors").exists()
    assert "load_best_model_at_end true" in capsys.readouterr().err


def test_checkpoints_are_written_where_they_were_asked_for(sentiment, reviews):
    sentiment.main([*REVIEWS, "--save_steps", "1", "--save_total_limit", "9"])
    assert sorted(path.name for path in (reviews / "out").glob("checkpoint-*")) == [
        f"checkpoint-{step}" for step in (1, 2, 3, 4)
    ]


# Each is a whole training: one in every run of the tests, the others in the long one.
KNOWN = ["f1", "eval_accuracy", "precision", "eval_loss", "f1_positive", "roc_auc"]


@pytest.mark.parametrize(
    "name", ["eval_f1", *(pytest.param(name, marks=pytest.mark.slow) for name in KNOWN)]
)
def test_the_best_model_may_be_judged_by_any_metric_that_is_known(name, sentiment, reviews):
    scores = sentiment.main([*REVIEWS, "--metric_for_best_model", name])
    assert f"eval_{name.removeprefix('eval_')}" in scores


def test_a_metric_that_nobody_knows_is_refused_before_the_training(sentiment, reviews, capsys):
    with pytest.raises(Refusal, match="no metric 'acuracy'") as caught:
        sentiment.main([*REVIEWS, "--metric_for_best_model", "acuracy"])
    assert (caught.value.where, caught.value.fix) == (
        "--metric_for_best_model",
        "did you mean accuracy?",
    )
    assert not list((reviews / "out").glob("checkpoint-*"))
