"""A copied recipe with a loss, a metric and a flag of its own: they are what is shown. And no silence where nothing was
learned."""

import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ROOT, SCRATCH, SHORT, load_recipe, merged, row
from forked import LANGUAGES, MODELS

from recipes.common import launch
from recipes.common.config import flags
from recipes.common.config.facts import setting
from recipes.common.data.labels import SINGLE
from recipes.common.predict.opening import open_folder, own_predictor
from recipes.common.report import scores_table, task
from recipes.common.train import losses

# What a person changes in the copy: five lines.
LENGTH = '    max_seq_length: int = setting(128, "Cut texts to this many tokens.", TOKENS)\n'
CHANGES = {
    LENGTH: LENGTH + '    gamma: float = setting(2.0, "How much.")\n',
    "losses.for_problem(splits.labels.kind, smoothing, weights)": "OWN",
    "classification.for_labels(splits.labels, arguments.metric_name)": "scored(for_labels(splits.labels, None))",
}
OWN = '''

def OWN(outputs, labels, num_items_in_batch=None):
    """Ten for every row."""
    return 0 * outputs["logits"].sum() + 10 * len(labels) / (num_items_in_batch or len(labels))


for_labels = classification.for_labels


def scored(compute):
    def compute_metrics(prediction):
        return compute(prediction) | {"seven": 7.0, "f1_of_seven": 0.7}

    return compute_metrics


@dataclass
class Arguments'''


@pytest.fixture
def copied(in_tmp_path):
    """The module of such a copy."""
    text = (ROOT / "recipes/sentiment/run.py").read_text(encoding="utf-8")
    for before, after in CHANGES.items():
        assert before in text
        text = text.replace(before, after)
    text = text.replace("\n\n@dataclass\nclass Arguments", OWN, 1)
    folder = in_tmp_path / "recipes/mine"
    folder.mkdir(parents=True)
    (folder / "run.py").write_text(
        text.replace('(path / "recipes/common").is_dir()', "True"), encoding="utf-8"
    )
    sys.path.insert(0, str(ROOT))
    yield folder / "run.py"
    sys.path.remove(str(ROOT))


def run(path, *words):
    """The metrics of a run of the module in this file."""
    spec = importlib.util.spec_from_file_location("mine_run", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["mine_run"] = module
    spec.loader.exec_module(module)
    return module.main(list(words))


FILES = ["--train_file", "train.csv", "--test_file", "test.csv", "--output_dir", "out"]


def test_loss_metric_and_flag_of_a_copied_recipe_are_shown(copied, reviews, capsys):
    metrics = run(copied, *FILES, *SCRATCH, *SHORT, "--gamma", "3")
    history = json.loads(Path("out/trainer_state.json").read_text())["log_history"]
    trained = [entry["loss"] for entry in history if "loss" in entry]
    evaluated = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    assert trained == pytest.approx([10.0] * len(trained)) and evaluated == pytest.approx([10.0])
    assert metrics["eval_loss"] == metrics["predict_loss"] == pytest.approx(10.0)
    assert metrics["eval_cross_entropy"] < 1
    table = capsys.readouterr().out.split("output")[-1]
    assert "seven" in table and "7.0000" in table and "f1_of_seven" in table
    assert "f1_negative" not in table  # of each class only in the card
    written = Path("out/README.md").read_text()
    assert "- seven" in written and "| seven | 7.0000 | 7.0000 |" in written
    assert "- gamma: 3.0\n" in written


def test_a_loss_counts_each_label_once_however_the_rows_are_batched(sentiment, reviews):
    """Class weights belong to what is trained, and so to the validation loss; cross entropy stays without them."""
    found = []
    for rows in ("3", "40"):
        words = [
            *FILES[:4],
            "--output_dir",
            f"out{rows}",
            *"--class_weights balanced --bf16 false".split(),
        ]
        words += [
            "--label_smoothing_factor",
            "0.1",
            "--per_device_eval_batch_size",
            rows,
            "--learning_rate",
            "0.1",
        ]
        found.append(sentiment.main([*words, *SCRATCH, *SHORT]))
    assert found[0]["eval_loss"] == pytest.approx(found[1]["eval_loss"], rel=1e-5)
    assert found[0]["eval_loss"] != pytest.approx(found[0]["eval_cross_entropy"], rel=1e-5)


def test_the_metrics_compute_the_loss_only_where_it_is_theirs():
    assert losses.for_problem(SINGLE).is_scored and losses.TokenLoss().is_scored
    assert not losses.for_problem(SINGLE, 0.1).is_scored and not losses.TokenLoss(0.1).is_scored
    assert not losses.for_problem(SINGLE, 0.0, [1.0, 2.0]).is_scored


@dataclass
class Mine(flags.LabelArguments, flags.Arguments):
    """A recipe's own."""

    gamma: float = setting(2.0, "How much.")


def test_a_recipe_s_own_flags_are_those_that_not_all_recipes_have():
    mine = Mine(label_map=["1=good"])
    assert flags.own_flags(mine) == ["label_map", "label_delimiter", "gamma"]


def named_task(**options):
    unused = dict.fromkeys(
        ("tag", "what", "use", "loss", "compute_metrics", "rows", "data_collator")
    )
    return task.Task(**{**unused, "headline": "a", "shown": ("a", "mse"), **options})


# scores -> words of the verdict
VERDICTS = {
    "better": ({"eval_a": 0.5, "eval_baseline_a": 0.4}, ""),
    "equal": (
        {"eval_a": 0.4, "eval_baseline_a": 0.4},
        "validation: a 0.4000 is no better than the baseline, 0.4000",
    ),
    "worse": (
        {"eval_a": 0.233, "eval_baseline_a": 0.283},
        "a 0.2330 is no better than the baseline, 0.2830",
    ),
    "less is better": ({"eval_mse": 0.2, "eval_baseline_mse": 0.3}, ""),
    "more is worse": (
        {"eval_mse": 0.4, "eval_baseline_mse": 0.3},
        "mse 0.4000 is no better than the baseline, 0.3000",
    ),
    "no baseline": ({"eval_a": 0.1}, ""),
    "another metric has one": (
        {"eval_a": 1.0, "eval_mse": 0.4, "eval_baseline_mse": 0.3},
        "mse 0.4000",
    ),
    "not a number": ({"eval_a": float("nan"), "eval_baseline_a": 0.3}, "a nan is no better"),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_what_is_no_better_than_its_baseline(case):
    scores, words = VERDICTS[case]
    said = scores_table.no_better(scores, "eval", named_task())
    assert (words in said) if words else said == ""


# recipe -> flags with which nothing is learned, and the metric that says so
NOTHING = {
    "sentiment": ([], "accuracy"),
    "summarization": ([], "rougeL"),
    "translation": (LANGUAGES, "bleu"),
}
NOTHING |= {
    "token_classification": ([], "f1"),
    "mlm_pretrain": ([], "perplexity"),
    "clm_pretrain": ([], "perplexity"),
}


RECIPES = [
    name if name == "sentiment" else pytest.param(name, marks=pytest.mark.slow) for name in NOTHING
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_model_that_has_learned_nothing_is_warned_of_in_every_recipe(recipe, in_tmp_path, capsys):
    flags, metric = NOTHING[recipe]
    (in_tmp_path / "t.jsonl").write_text(
        "".join(json.dumps(row(recipe, n)) + "\n" for n in range(40)), "utf-8"
    )
    words = [*MODELS[recipe], *flags, *SHORT]
    words += "--train_file t.jsonl --output_dir out --vocab_size 300".split()
    load_recipe(recipe).main(merged(*words, "--learning_rate", "1e-9", "--bf16", "false"))
    said = [line for line in capsys.readouterr().err.splitlines() if "is no better than" in line]
    assert (
        len(said) == 1
        and f"validation: {metric}" in said[0]
        and "a pretrained --model_name_or_path" in said[0]
    )
    assert "is no better than" in Path("out/README.md").read_text()


PREDICTOR = """
class Predictor(Classifier):
    def answer(self, texts):
        return [{"prediction": f"{row['prediction']}!"} for row in super().answer(texts)]


@dataclass
class Arguments"""


def test_the_folder_of_a_recipe_answers_as_its_own_predictor_says(reviews, monkeypatch):
    """How a trained folder answers stands in run.py, too."""
    text = (ROOT / "recipes/sentiment/run.py").read_text(encoding="utf-8")
    text = text.replace("\n\n@dataclass\nclass Arguments", PREDICTOR, 1)
    text = text.replace(
        "from recipes.common.report",
        "from recipes.common.predict.labelling import Classifier\nfrom recipes.common.report",
        1,
    )
    text = text.replace('(path / "recipes/common").is_dir()', "True")
    Path("recipes/loud").mkdir(parents=True)
    Path("recipes/loud/run.py").write_text(text, encoding="utf-8")
    run(Path("recipes/loud/run.py"), *FILES, *SCRATCH, *SHORT)
    assert not open_folder("out").answers(["good"]).__next__()["prediction"].endswith("!")
    monkeypatch.setattr(launch, "ROOT", Path.cwd())
    assert next(open_folder("out").answers(["good"]))["prediction"] in ("negative!", "positive!")


def test_no_other_code_answers(reviews, monkeypatch):
    monkeypatch.setattr(launch, "ROOT", Path.cwd())
    for name in ("../loud", "common", "", None, 7, ["loud"]):
        assert own_predictor(name) is None
