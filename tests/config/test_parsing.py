"""What may be set, and which layer wins: dataclass default < config.yaml < --config FILE < command line."""

import dataclasses
import inspect
import json
import math
import shlex

import pytest
import yaml
from conftest import ROOT, load_recipe

from recipes.common.config import flags, parsing
from recipes.common.runtime.errors import Refusal


@pytest.fixture
def parse(sentiment, in_tmp_path):
    """Parses for a recipe whose config.yaml holds `config`; the two argument objects."""

    def parse_with(*argv, config="", **files):
        (in_tmp_path / "mine").mkdir(exist_ok=True)
        (in_tmp_path / "mine/config.yaml").write_text(
            "output_dir: out\n" + inspect.cleandoc(config)
        )
        for name, content in files.items():
            (in_tmp_path / f"{name}.yaml").write_text(inspect.cleandoc(content))
        return parsing.parse(sentiment.Arguments, "mine/run.py", list(argv))

    return parse_with


@pytest.mark.parametrize(("old", "new"), parsing.OLD_NAMES.items())
def test_a_flag_s_old_name_is_refused_with_the_new_one(parse, old, new):
    with pytest.raises(Refusal, match=f"unknown argument --{old}(.*\n)*.*did you mean --{new}"):
        parse(f"--{old}=1")
    with pytest.raises(Refusal, match=f"unknown key {old}(.*\n)*.*did you mean {new}"):
        parse("--config", "old.yaml", old=f"{old}: 1")


def test_each_layer_wins_over_the_one_below(parse):
    layers = {"config": "seed: 1", "first": "seed: 2", "second": "seed: 3"}
    assert parse()[1].seed == 42
    assert parse(**layers)[1].seed == 1
    assert parse("--config", "first.yaml", **layers)[1].seed == 2
    assert parse("--config", "first.yaml", "--config", "second.yaml", **layers)[1].seed == 3
    assert parse("--config", "second.yaml", "--config=first.yaml", **layers)[1].seed == 2
    assert (
        parse("--config", "first.yaml", "--seed", "4", "--config", "second.yaml", **layers)[1].seed
        == 4
    )


def test_a_layer_leaves_what_it_does_not_name(parse):
    arguments, training_arguments = parse(
        *("--config", "first.yaml", "--max_seq_length", "7"),
        config="seed: 1\nshuffle_seed: 1\nmax_seq_length: 1\ndata_seed: 1",
        first="shuffle_seed: 2\nmax_seq_length: 2",
    )
    assert (arguments.max_seq_length, arguments.shuffle_seed) == (7, 2)
    assert (training_arguments.seed, training_arguments.data_seed) == (1, 1)


NESTED = {"min_lr": 1e5, "b": "1e-5", "c": -500.0}


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("learning_rate: 2e-5", "learning_rate", 2e-5),
        ("learning_rate: 1", "learning_rate", 1.0),
        ('learning_rate: "0.5"', "learning_rate", 0.5),
        ("warmup_steps: 0.1", "warmup_steps", 0.1),
        ("num_train_epochs: 3", "num_train_epochs", 3.0),
        ('bf16: "false"', "bf16", False),
        ("bf16: no", "bf16", False),
        ('bf16: "true"', "bf16", True),
        ("bf16: 1", "bf16", True),
        ("do_regression: false", "do_regression", False),
        ("do_regression: true", "do_regression", True),
        ("max_seq_length: 7", "max_seq_length", 7),
        ("max-seq-length: 7", "max_seq_length", 7),
        ("train_file: x.csv", "train_file", ["x.csv"]),
        ("train_file: [x.csv, y.csv]", "train_file", ["x.csv", "y.csv"]),
        ("class_names: [1, 2]", "class_names", ["1", "2"]),
        ("class_names: [no, yes]", "class_names", ["no", "yes"]),
        ("class_names: ['~', 1.10]", "class_names", ["~", "1.10"]),
        ("dataset_config_name: 1.10", "dataset_config_name", "1.10"),
        ("use_cpu: on", "use_cpu", True),
        ("max_seq_length: 0x1F", "max_seq_length", 31),
        ("text_column_delimiter: ' | '", "text_column_delimiter", " | "),
        ("text_column_delimiter: ''", "text_column_delimiter", ""),
        ("text_column_delimiter: ' -- '", "text_column_delimiter", " -- "),
        ("run_name: 2024", "run_name", "2024"),
        ("lr_scheduler_kwargs: {num_cycles: 2}", "lr_scheduler_kwargs", {"num_cycles": 2}),
        ("lr_scheduler_kwargs: {min_lr: 1e-5}", "lr_scheduler_kwargs", {"min_lr": 1e-5}),
        ("lr_scheduler_kwargs: {min_lr: 1E5, b: '1e-5', c: -.5e+3}", "lr_scheduler_kwargs", NESTED),
        ("run_name: 1e5", "run_name", "1e5"),
        ("class_names: [1e5, 2e-5x]", "class_names", ["1e5", "2e-5x"]),
    ],
)
def test_a_value_in_yaml_has_its_flag_s_type(line, name, value, parse):
    arguments, training_arguments = parse(config=line)
    found = getattr(arguments if hasattr(arguments, name) else training_arguments, name)
    assert found == value
    assert type(found) is type(value)


def test_null_unsets_what_a_lower_layer_set(parse):
    arguments, training_arguments = parse(
        *("--config", "mine.yaml"),
        config="save_total_limit: 1\nmax_seq_length: 9\nmetric_name: f1",
        mine="save_total_limit: null\nmax_seq_length: ~\nmetric_name:",
    )
    assert training_arguments.save_total_limit is None
    assert (arguments.max_seq_length, arguments.metric_name) == (128, None)


def test_json_is_a_configuration_too(parse, in_tmp_path):
    (in_tmp_path / "flags.json").write_text(
        json.dumps({"seed": 5, "learning_rate": 1e-4, "class_names": ["a", "b"]})
    )
    arguments, training_arguments = parse("--config", "flags.json")
    assert (training_arguments.seed, training_arguments.learning_rate) == (5, 1e-4)
    assert arguments.class_names == ["a", "b"]


@pytest.mark.parametrize("name", ["flags.json", "flags.yaml"])
def test_a_file_alone_on_the_command_line_is_a_configuration(name, parse, in_tmp_path):
    (in_tmp_path / name).write_text(json.dumps({"seed": 5}))
    assert parse(name, config="seed: 1\ndata_seed: 2")[1].seed == 5


DATA = """\
train_file: sample/train.csv
validation_file: sample/validation.csv
test_file: sample/test.csv
"""


@pytest.mark.parametrize(
    ("argv", "kept"),
    [
        ([], (["sample/train.csv"], ["sample/validation.csv"], ["sample/test.csv"])),
        (["--train_file", "x.csv"], (["x.csv"], None, None)),
        (["--train_file", "x.csv", "--test_file", "y.csv"], (["x.csv"], None, ["y.csv"])),
        (["--test_file", "y.csv"], (["sample/train.csv"], ["sample/validation.csv"], ["y.csv"])),
        (["--dataset_name", "imdb"], (None, None, None)),
        (["--task_name", "sst2"], (None, None, None)),
        (["--config", "mine.yaml"], (["mine.csv"], None, ["test.csv"])),
        (["--config", "mine.yaml", "--train_file", "x.csv"], (["x.csv"], None, None)),
    ],
)
def test_new_training_data_drops_the_files_of_the_layers_below(argv, kept, parse):
    arguments, _ = parse(*argv, config=DATA, mine="train_file: mine.csv\ntest_file: test.csv")
    assert (arguments.train_file, arguments.validation_file, arguments.test_file) == kept


def test_a_data_file_drops_the_data_set_of_the_layers_below(parse):
    config = "dataset_name: imdb\ndataset_config_name: plain\ndataset_revision: v1"
    arguments, _ = parse("--train_file", "x.csv", config=config)
    names = (arguments.dataset_name, arguments.dataset_config_name, arguments.dataset_revision)
    assert names == (None, None, None)


MODEL = """\
model_type: bert
config_overrides: hidden_size=128
vocab_size: 2000
learning_rate: 1e-3
num_train_epochs: 8
warmup_steps: 0.1
per_device_train_batch_size: 4
logging_steps: 7
"""


@pytest.mark.parametrize(
    "argv", [["--model_name_or_path", "some/model"], ["--model_type", "roberta"]]
)
def test_another_model_drops_the_schedule_that_was_tuned_for_the_one_below(argv, parse):
    arguments, training_arguments = parse(*argv, config=MODEL)
    assert (arguments.config_overrides, arguments.vocab_size) == (None, None)
    assert (training_arguments.learning_rate, training_arguments.num_train_epochs) == (5e-5, 3)
    assert (training_arguments.warmup_steps, training_arguments.per_device_train_batch_size) == (
        0,
        8,
    )
    assert training_arguments.logging_steps == 7


def test_a_schedule_that_the_user_wrote_down_is_kept_for_another_model(parse):
    mine = (
        "model_name_or_path: small\nmax_seq_length: 256\nlearning_rate: 1e-4\nnum_train_epochs: 7"
    )
    arguments, training_arguments = parse(
        "--config", "mine.yaml", "--model_type", "bert", config=MODEL, mine=mine
    )
    assert (arguments.model_name_or_path, arguments.model_type, arguments.config_overrides) == (
        None,
        "bert",
        None,
    )
    assert (arguments.max_seq_length, training_arguments.learning_rate) == (256, 1e-4)
    assert (training_arguments.num_train_epochs, training_arguments.warmup_steps) == (7, 0)


def test_nothing_to_do_is_refused(parse):
    with pytest.raises(Refusal, match="nothing to do"):
        parse("--do_train", "False", "--do_eval", "False")


PRESETS = sorted(path for path in ROOT.glob("recipes/*/*.yaml") if path.name != "config.yaml")


def test_there_are_presets():
    assert PRESETS


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_preset_can_be_read(path, in_tmp_path):
    recipe = path.with_name("run.py")
    given = ["--train_file", "x.jsonl"] if "dataset_name" not in path.read_text() else []
    parsing.parse(
        load_recipe(path.parent.name).Arguments, str(recipe), ["--config", str(path), *given]
    )


def test_a_stream_is_read_by_one_worker(parse, capsys):
    flags = ["--streaming", "--dataset_name", "imdb", "--max_steps", "5"]
    assert parse(*flags, "--dataloader_num_workers", "4")[1].dataloader_num_workers == 1
    assert "--dataloader_num_workers 1" in capsys.readouterr().err
    assert parse(*flags)[1].dataloader_num_workers == 0


def test_what_stands_beside_the_new_model_is_kept(parse):
    flags = ["--model_name_or_path", "some/model", "--num_train_epochs", "1"]
    arguments, training_arguments = parse(*flags, config=MODEL)
    assert (arguments.model_type, training_arguments.num_train_epochs) == (None, 1)


def test_a_learning_rate_alone_keeps_the_model_below(parse):
    arguments, training_arguments = parse("--learning_rate", "2e-4", config=MODEL)
    assert (arguments.model_type, arguments.vocab_size) == ("bert", 2000)
    assert (training_arguments.learning_rate, training_arguments.num_train_epochs) == (2e-4, 8)


@pytest.mark.parametrize(
    ("argv", "name", "value"),
    [
        (["--text_column_name", "review"], "text_column_names", "review"),
        (["--label_column", "stars"], "label_column_name", "stars"),
        (["--learning-rate", "1e-4"], "learning_rate", 1e-4),
        (["--learning_rate=1e-4"], "learning_rate", 1e-4),
        (["--learning_rat", "1e-4"], "learning_rate", 1e-4),
        (["--max-seq-length=9"], "max_seq_length", 9),
        (["--freeze_encoder"], "freeze_encoder", True),
        (["--freeze_encoder", "False"], "freeze_encoder", False),
        (["--no_use_fast_tokenizer"], "use_fast_tokenizer", False),
        (["--no-use-fast-tokenizer"], "use_fast_tokenizer", False),
        (["--do_regression"], "do_regression", True),
        (["--do_regression", "False"], "do_regression", False),
        ([], "do_regression", None),
        (["--train_file", "a.csv", "b.csv"], "train_file", ["a.csv", "b.csv"]),
        (["--report_to", "tensorboard", "wandb"], "report_to", ["tensorboard", "wandb"]),
        (["--report_to", "tensorboard"], "report_to", ["tensorboard"]),
        (["--report_to", "none"], "report_to", []),
    ],
)
def test_a_flag_may_be_written_in_these_ways(argv, name, value, parse):
    arguments, training_arguments = parse(*argv)
    assert getattr(arguments if hasattr(arguments, name) else training_arguments, name) == value


@pytest.mark.parametrize(
    "argv",
    [
        ["--seed", "1", "--seed=2"],
        ["--learning-rate", "1", "--learning_rate", "2"],
        ["--text_column_name", "a", "--text_column_names", "b"],
    ],
)
def test_a_flag_given_twice_is_refused_however_it_is_written(argv, parse):
    with pytest.raises(Refusal, match=r"given twice: (1|1\.0|a) and (2|2\.0|b)\n"):
        parse(*argv)


@pytest.mark.parametrize(
    ("twice", "once"),
    [
        ("--seed 1 --seed=1", "--seed 1"),
        ("--learning-rate 1e-3 --learning_rate 0.001", "--learning_rate 0.001"),
        ("--text_column_name a --text_column_names a", "--text_column_names a"),
        ("--class_names a b --class_names a b", "--class_names a b"),
        ("--do_train --do_train true", "--do_train"),
    ],
)
def test_a_flag_given_twice_with_one_value_is_that_value(twice, once, parse):
    assert parse(*twice.split()) == parse(*once.split())


def test_secrets_that_differ_are_not_shown(parse):
    with pytest.raises(Refusal, match="hub_token is given twice\n"):
        parse("--hub_token", "hf_one", "--hub_token", "hf_two")


# Every flag of Hugging Face's run_classification.py beside TrainingArguments, with a value of its type.
RUN_CLASSIFICATION = {
    "dataset_name": "imdb",
    "dataset_config_name": "plain_text",
    "do_regression": True,
    "text_column_names": "title,body",
    "text_column_delimiter": "|",
    "train_split_name": "train",
    "validation_split_name": "dev",
    "test_split_name": "test",
    "remove_splits": "unused",
    "remove_columns": "id",
    "label_column_name": "stars",
    "max_seq_length": 64,
    "preprocessing_num_workers": 2,
    "overwrite_cache": True,
    "pad_to_max_length": True,
    "shuffle_train_dataset": True,
    "shuffle_seed": 7,
    "max_train_samples": 10,
    "max_eval_samples": 11,
    "max_predict_samples": 12,
    "metric_name": "mse",
    "train_file": "train.csv",
    "validation_file": "dev.csv",
    "test_file": "test.csv",
    "model_name_or_path": "some/model",
    "config_name": "some/config",
    "tokenizer_name": "some/tokenizer",
    "cache_dir": "cache",
    "use_fast_tokenizer": False,
    "model_revision": "v2",
    "token": "hf_secret",
    "trust_remote_code": True,
    "ignore_mismatched_sizes": True,
}


@pytest.mark.parametrize("name", RUN_CLASSIFICATION)
def test_every_flag_of_run_classification_is_a_flag_here(name, parse):
    value = RUN_CLASSIFICATION[name]
    arguments, _ = parse(f"--{name}", str(value))
    assert getattr(arguments, name) == ([value] if name.endswith("_file") else value)


def test_every_flag_of_run_classification_was_looked_at():
    assert len(RUN_CLASSIFICATION) == 33


# Command lines as they stand in Hugging Face's README of text classification, and in the tests of its examples.
COMMANDS = {
    "run_glue on a task": """
        --model_name_or_path google-bert/bert-base-cased --task_name mrpc --do_train --do_eval --max_seq_length 128
        --per_device_train_batch_size 32 --learning_rate 2e-5 --num_train_epochs 3 --output_dir /tmp/mrpc/""",
    "run_glue on a data set": """
        --model_name_or_path google-bert/bert-base-cased --dataset_name imdb --do_train --do_predict
        --max_seq_length 128 --per_device_train_batch_size 32 --learning_rate 2e-5 --num_train_epochs 3
        --output_dir /tmp/imdb/""",
    "run_classification": """
        --model_name_or_path google-bert/bert-base-uncased --dataset_name amazon_reviews_multi
        --dataset_config_name en --shuffle_train_dataset --metric_name accuracy
        --text_column_name "review_title,review_body,product_category" --text_column_delimiter "\\n"
        --label_column_name stars --do_train --do_eval --max_seq_length 512 --per_device_train_batch_size 32
        --learning_rate 2e-5 --num_train_epochs 1 --output_dir /tmp/amazon_reviews_multi_en/""",
    "run_classification on several labels": """
        --model_name_or_path google-bert/bert-base-uncased --dataset_name reuters21578
        --dataset_config_name ModApte --shuffle_train_dataset --remove_splits "unused" --metric_name f1
        --text_column_name text --label_column_name topics --do_train --do_eval --max_seq_length 512
        --per_device_train_batch_size 32 --learning_rate 2e-5 --num_train_epochs 15 --output_dir /tmp/reuters/""",
    "the test of run_glue": """
        --model_name_or_path distilbert/distilbert-base-uncased --output_dir /tmp/x
        --train_file ./tests/fixtures/tests_samples/MRPC/train.csv
        --validation_file ./tests/fixtures/tests_samples/MRPC/dev.csv --do_train --do_eval
        --per_device_train_batch_size=2 --per_device_eval_batch_size=1 --learning_rate=1e-4 --max_steps=10
        --warmup_steps=2 --seed=42 --max_seq_length=128""",
}


@pytest.mark.parametrize("case", COMMANDS)
def test_a_command_line_of_hugging_face_is_understood(case, parse):
    argv = shlex.split(COMMANDS[case])
    arguments, training_arguments = parse(*argv, config=MODEL + DATA)
    assert arguments.model_name_or_path == argv[argv.index("--model_name_or_path") + 1]
    assert training_arguments.output_dir == argv[argv.index("--output_dir") + 1]
    assert training_arguments.learning_rate in (2e-5, 1e-4)
    assert (training_arguments.do_train, training_arguments.do_eval) == (True, "--do_eval" in argv)
    assert training_arguments.do_predict == ("--do_predict" in argv)
    assert arguments.test_file is None


def test_columns_of_a_hugging_face_command_line_arrive(parse):
    arguments, _ = parse(*shlex.split(COMMANDS["run_classification"]))
    assert arguments.text_column_names == "review_title,review_body,product_category"
    assert (arguments.text_column_delimiter, arguments.label_column_name) == ("\\n", "stars")


@pytest.mark.parametrize(
    ("argv", "actions"),
    [
        (["--train_file", "x.csv"], (True, True, False)),
        (["--train_file", "x.csv", "--test_file", "y.csv"], (True, True, True)),
        (["--dataset_name", "imdb"], (True, True, True)),
        (["--do_train", "--test_file", "y.csv"], (True, False, False)),
        (["--do_eval"], (False, True, False)),
        (["--do_predict"], (False, False, True)),
        (["--do_train", "False"], (False, True, False)),
        (
            ["--do_eval", "False", "--eval_strategy", "no", "--dataset_name", "imdb"],
            (True, False, True),
        ),
        (["--do_predict", "False", "--dataset_name", "imdb"], (True, True, False)),
    ],
)
def test_without_an_action_a_run_trains_evaluates_and_predicts_what_there_is(argv, actions, parse):
    _, training_arguments = parse(*argv)
    assert (
        training_arguments.do_train,
        training_arguments.do_eval,
        training_arguments.do_predict,
    ) == actions


@pytest.mark.parametrize(
    ("argv", "best", "greater"),
    [
        (["--metric_name", "f1"], "f1", True),
        (["--metric_name", "mse"], "mse", False),
        (["--metric_for_best_model", "eval_mae"], "eval_mae", False),
        (["--metric_for_best_model", "eval_loss"], "eval_loss", False),
        (["--metric_name", "f1", "--metric_for_best_model", "accuracy"], "accuracy", True),
    ],
)
def test_the_best_model_is_judged_by_the_metric_in_its_own_direction(argv, best, greater, parse):
    options = ["--load_best_model_at_end", "--eval_strategy", "epoch", "--save_strategy", "epoch"]
    _, training_arguments = parse(*argv, *options)
    assert (training_arguments.metric_for_best_model, training_arguments.greater_is_better) == (
        best,
        greater,
    )


def test_early_stopping_evaluates_saves_and_keeps_the_best(parse):
    _, training_arguments = parse("--early_stopping_patience", "2")
    assert training_arguments.eval_strategy == training_arguments.save_strategy == "epoch"
    assert training_arguments.load_best_model_at_end


WITHOUT_EFFECT = {
    "adapters that nobody asked for": (
        ["--lora_alpha", "4"],
        "--lora_alpha",
        "without --lora_rank",
    ),
    "four bits for nothing": (["--load_in_4bit"], "--load_in_4bit", "without --lora_rank"),
    "workers that nobody started": (
        ["--dataloader_persistent_workers"],
        "--dataloader_persistent_workers",
        "without --dataloader_num_workers",
    ),
    "a name nobody pushes to": (
        ["--hub_model_id", "me/mine"],
        "--hub_model_id",
        "without --push_to_hub",
    ),
    "what the recipe decides": (
        ["--remove_unused_columns", "false"],
        "--remove_unused_columns",
        "itself decides",
    ),
    "what the recipe always does": (
        ["--restore_callback_states_from_checkpoint", "true"],
        "--restore_callback_states_from_checkpoint",
        "itself decides",
    ),
    "frozen twice": (
        ["--lora_rank", "4", "--freeze_encoder"],
        "--freeze_encoder",
        "freeze the encoder anyway",
    ),
    "no evaluation to stop by": (
        ["--early_stopping_patience", "2", "--eval_strategy", "no"],
        "--early_stopping_patience",
        "without evaluations",
    ),
}


@pytest.mark.parametrize("case", WITHOUT_EFFECT)
def test_a_flag_without_effect_is_refused(case, parse):
    flags, where, what = WITHOUT_EFFECT[case]
    with pytest.raises(Refusal, match=what) as caught:
        parse(*flags)
    assert caught.value.where == where


def test_a_flag_that_says_its_default_is_accepted(parse):
    assert parse("--lora_dropout", "0.05", "--remove_unused_columns", "true")[0].lora_rank == 0


def test_losses_that_are_not_finite_are_shown(parse):
    assert parse()[1].logging_nan_inf_filter is False


def test_a_model_is_pushed_once(parse):
    """Trainer uploads at every save, and its arguments with the token, too."""
    assert parse("--push_to_hub")[1].hub_strategy == "end"
    with pytest.raises(Refusal, match="pushed once"):
        parse("--push_to_hub", "--hub_strategy", "every_save")


def test_a_configuration_that_is_named_replaces_the_recipe_s_model(parse):
    config = """
        model_type: bert
        config_overrides: hidden_size=16
        learning_rate: 0.002
    """
    arguments, training_arguments = parse("--config_name", "gpt2", config=config)
    assert (arguments.model_type, arguments.config_overrides) == (None, None)
    assert training_arguments.learning_rate == 5e-5  # Trainer's own


@pytest.mark.parametrize("flag", ["--bf16", "--no_bf16"])
def test_a_precision_that_was_chosen_is_kept(flag, parse):
    argv = ["--bf16"] if flag == "--bf16" else ["--bf16", "False"]
    assert parse(*argv)[1].bf16 is (flag == "--bf16")


@pytest.mark.parametrize("multiplies", [True, False])
def test_the_precision_is_the_one_that_the_hardware_multiplies_in(
    multiplies, parse, monkeypatch, capsys
):
    monkeypatch.setattr("recipes.common.config.defaults.has_bf16", lambda use_cpu: multiplies)
    assert parse()[1].bf16 is multiplies
    assert "note" not in capsys.readouterr().err
    assert parse("--bf16")[1].bf16 is True
    assert ("--bf16 false is many times as fast" in capsys.readouterr().err) is not multiplies


ROUND_TRIPS = {
    "nothing": [],
    "text and numbers": "--run_name 2024 --learning_rate 3e-4 --class_names 1 2 --seed 0".split(),
    "truth values": (
        "--no_use_fast_tokenizer --freeze_encoder --do_regression False --bf16 False"
    ).split(),
    "a list of files": ["--train_file", "a.csv", "b*.csv", "--validation_file", "c.csv"],
    "actions": ["--do_eval", "--do_predict", "--test_file", "x.csv"],
    "an empty delimiter": ["--text_column_delimiter", ""],
    "a line break as delimiter": ["--text_column_delimiter", "\n"],
    "settings as JSON": [
        "--lr_scheduler_kwargs",
        '{"num_cycles": 2}',
        "--lr_scheduler_type",
        "cosine",
    ],
    "strategies": "--early_stopping_patience 2 --metric_name mse --logging_steps 0.1".split(),
    "activation checkpointing": ["--activation_checkpointing"],
    "a report": ["--report_to", "tensorboard"],
    "an unset limit": ["--config", "unset.yaml"],
}


@pytest.mark.parametrize("case", ROUND_TRIPS)
def test_the_record_of_a_run_repeats_it(case, parse, in_tmp_path):
    layers = {"config": MODEL + "save_total_limit: 1\n", "unset": "save_total_limit: null"}
    first = parse(*ROUND_TRIPS[case], **layers)
    text = yaml.safe_dump(flags.to_dict(*first, "mine/run.py"), allow_unicode=True)
    (in_tmp_path / "run.yaml").write_text(text, encoding="utf-8")
    again = parse("--config", "run.yaml", **layers)
    assert again[0] == first[0]
    assert again[1].to_dict() == first[1].to_dict()
    assert flags.to_dict(*again) == flags.to_dict(*first)


def test_the_home_folder_is_understood_in_every_path(parse, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    flags = ["--dataset_name=~/set", "--cache_dir=~/cache"]
    arguments, _ = parse(*flags)
    assert arguments.dataset_name == "/home/me/set" and arguments.cache_dir == "/home/me/cache"


def test_the_record_of_a_run_holds_no_secret(parse):
    record = flags.to_dict(
        *parse("--token", "hf_first", "--hub_token", "hf_second", "--push_to_hub")
    )
    assert "hf_first" not in str(record) and "hf_second" not in str(record)
    assert not {"token", "hub_token"} & record.keys()


def test_the_record_of_a_run_holds_plain_values_only(parse):
    record = flags.to_dict(*parse(*ROUND_TRIPS["strategies"]))
    assert yaml.safe_load(yaml.safe_dump(record)) == record


@pytest.mark.parametrize("folder", [".", "deeper/still"])
def test_the_samples_are_found_from_every_folder(folder, sentiment, in_tmp_path, monkeypatch):
    (in_tmp_path / folder).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(in_tmp_path / folder)
    arguments, _ = parsing.parse(sentiment.Arguments, str(ROOT / "recipes/sentiment/run.py"), [])
    assert arguments.train_file == [str(ROOT / "samples/sentiment/train.csv")]


def test_paths_of_one_s_own_configuration_are_relative_to_the_current_folder(parse):
    assert parse("--config", "mine.yaml", mine="train_file: x.csv")[0].train_file == ["x.csv"]


def test_every_field_of_the_recipe_has_a_help_sentence(sentiment):
    for field in dataclasses.fields(sentiment.Arguments):
        assert len(field.metadata["help"].split()) >= 3, field.name


def test_a_list_in_yaml_keeps_items_that_look_like_flags(parse):
    assert parse(config="class_names: [-1, '0', '1']")[0].class_names == ["-1", "0", "1"]
    assert parse(config="class_names: ['-', '+']")[0].class_names == ["-", "+"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--seed", "-1"], ["--seed is -1", "from 0 to 4294967295"]),
        (["--data_seed", "4294967296"], ["--data_seed is 4294967296"]),
        (["--per_device_train_batch_size", "0"], ["--per_device_train_batch_size is 0", "from 1"]),
        (["--eval_steps", "0"], ["--eval_steps is 0", "give a number of steps"]),
        (
            ["--validation_split_percentage", "-5"],
            ["--validation_split_percentage is -5", "from 0 to 100"],
        ),
        (["--learning_rate", "inf"], ["--learning_rate is inf", "finite"]),
        (["--class_names", ""], ["--class_names is empty", "leave it out"]),
        (["--run_name", ""], ["--run_name is empty"]),
        (["--output_dir", ""], ["--output_dir is empty"]),
        (["--report_to", "none", ""], ["--report_to is empty"]),
        (["--num_train_epochs", "nan"], ["--num_train_epochs is nan"]),
        (
            ["--output_dir", "a" * 300],
            ["no folder can have the name", "File name too long", "--output_dir"],
        ),
        (["--output_dir", "a\0"], ["no folder can have the name", "null", "--output_dir"]),
        (["--output_dir", "a\ud800"], ["no folder can have the name", "--output_dir"]),
        (["--accelerator_config", '{"split": 1}'], ["'split'"]),
    ],
)
def test_what_no_run_can_have_is_refused(flags, words, parse):
    with pytest.raises(Refusal) as refusal:
        parse(*flags)
    for word in words:
        assert word in str(refusal.value)


def test_gradients_may_be_measured_without_being_clipped(parse):
    assert parse("--max_grad_norm", "inf")[1].max_grad_norm == math.inf


OWN = [
    ["--train_file", "x.csv"],
    ["--dataset_name", "imdb"],
    ["--task_name", "sst2"],
    ["--config", "mine.yaml"],
]


@pytest.mark.parametrize("argv", OWN)
def test_sizes_that_fit_the_sample_are_not_those_of_one_s_own_data(argv, parse):
    sample = MODEL + DATA + "lr_scheduler_type: cosine\n"
    arguments, training_arguments = parse(*argv, config=sample, mine="train_file: mine.csv")
    assert (arguments.model_type, arguments.config_overrides, arguments.vocab_size) == (
        "bert",
        "hidden_size=128",
        None,
    )
    assert (training_arguments.learning_rate, training_arguments.num_train_epochs) == (1e-3, 8)
    assert (
        parse(*argv, "--vocab_size", "7", config=sample, mine="train_file: x.csv")[0].vocab_size
        == 7
    )
    assert parse(*argv, config=sample, mine="train_file: x.csv\nvocab_size: 9")[0].vocab_size == (
        9 if argv[0] == "--config" else None
    )
    assert parse("--learning_rate", "1e-4", config=sample)[0].vocab_size == 2000


CONFIGURED = sorted(path.parent.name for path in ROOT.glob("recipes/*/config.yaml"))


def test_there_are_recipes_with_a_configuration():
    assert len(CONFIGURED) >= 5


@pytest.mark.parametrize("recipe", CONFIGURED)
def test_no_recipe_counts_the_steps_of_its_sample(recipe, in_tmp_path):
    """What is a share of all steps fits data of every length."""
    run = str(ROOT / "recipes" / recipe / "run.py")
    _, found = parsing.parse(
        load_recipe(recipe).Arguments, run, ["--train_file", "x.jsonl", "--output_dir", "out"]
    )
    counted = (
        found.warmup_steps,
        found.eval_steps or 0,
        found.save_steps % 500,
        found.logging_steps,
    )
    assert all(number < 1 for number in counted)


WRITTEN = "run.yaml README.md model.safetensors predictions.jsonl plots checkpoint-5".split()


@pytest.mark.parametrize("name", WRITTEN)
def test_something_else_that_has_the_name_of_what_is_written_is_refused(name, parse, in_tmp_path):
    path = in_tmp_path / "out" / name
    path.parent.mkdir()
    if path.suffix:
        path.mkdir()
    else:
        path.write_text("mine")
    with pytest.raises(Refusal, match=f"out/{name} is a f.* where the run writes a f"):
        parse()
    assert path.exists()


def test_other_files_in_the_output_folder_are_none_of_its_business(parse, in_tmp_path):
    (in_tmp_path / "out/notes").mkdir(parents=True)
    (in_tmp_path / "out/notes.txt").write_text("mine")
    assert parse()[1].output_dir == "out"
