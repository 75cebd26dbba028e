r"""Fine-tune a Transformer to label or rate texts: topics, several labels, ratings, pairs of texts.

    python recipes/sentiment/run.py
    python recipes/sentiment/run.py --train_file samples/sentiment_three_classes/train.jsonl \
        --output_dir outputs/three
    accelerate launch recipes/sentiment/run.py --config recipes/sentiment/imdb.yaml

The output folder then holds the model (for from_pretrained and pipeline()), its scores, its
predictions for every row, plots, a model card (README.md), and run.yaml, which repeats the run.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

PARENTS = Path(__file__).resolve().parents
sys.path.insert(0, next(str(path) for path in PARENTS if (path / "recipes/common").is_dir()))

from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding

from recipes.common import runner
from recipes.common.config import flags
from recipes.common.config.facts import DATA_SET, MAY_BE_EMPTY, OPTIONAL, TOKENS, setting
from recipes.common.data.columns import Columns
from recipes.common.data.splits import join, load_splits
from recipes.common.metrics import classification
from recipes.common.model import loading
from recipes.common.report import labelling
from recipes.common.runtime.guard import run_and_exit
from recipes.common.tokens import encoding
from recipes.common.train import losses
from recipes.common.train.trainer import Trainer

# The text columns of well-known data sets: one text, or a pair of texts.
TEXTS = [("text",), ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question", "sentence")]
TEXTS += [("question1", "question2"), ("sentence",)]


@dataclass
class Arguments(flags.LabelArguments, flags.PaddingArguments, flags.Arguments):
    """Adds this task's flags."""

    task_name: str | None = setting(
        None, "GLUE task: sst2, cola, mrpc, stsb, qqp, mnli, qnli, rte.", DATA_SET
    )
    text_column_names: str | None = setting(None, "Columns of the text (default: text).")
    text_pair_column_name: str | None = setting(None, "Column of a second text, for pairs.")
    text_column_delimiter: str = setting(" ", "Text between joined columns.", MAY_BE_EMPTY)
    label_column_name: str | None = setting(
        None, "Column of the label, or one column per label.", aliases=["--label_column_names"]
    )
    class_names: list[str] | None = setting(None, "Names of classes that are numbers in the data.")
    do_regression: bool | None = setting(None, "Predict numbers (default: by labels).", **OPTIONAL)
    metric_name: str | None = setting(
        None, "Metric that chooses the best model (default: accuracy, f1_micro or mse)."
    )
    class_weights: str | None = setting(None, "Weigh rare classes more.", choices=["balanced"])
    max_seq_length: int = setting(128, "Cut texts to this many tokens.", TOKENS)

    def __post_init__(self) -> None:
        if self.task_name:
            self.dataset_name, self.dataset_config_name = "nyu-mll/glue", self.task_name.lower()


@runner.recipe
def main(argv: list[str] | None = None) -> dict[str, float]:
    """Trains as the flags say. Returns the metrics."""
    arguments, training_arguments = runner.start(Arguments, __file__, argv)

    # 1. Data
    joined = flags.comma_separated(arguments.text_column_names)
    splits = load_splits(
        arguments,
        training_arguments,
        texts=Columns("--text_column_names", joined, TEXTS, second=arguments.text_pair_column_name),
        label=Columns("--label_column_name", [arguments.label_column_name], [("label",)]),
        class_names=arguments.class_names,
        do_regression=arguments.do_regression,
        trained=loading.trained_labels(arguments, training_arguments),
    )

    # 2. Model
    tokenizer = loading.load_tokenizer(arguments, loading.Texts(splits))
    model = loading.load_model(
        AutoModelForSequenceClassification, arguments, tokenizer, **splits.labels.config
    )

    # 3. Tokens
    max_length = loading.max_length(arguments.max_seq_length, tokenizer, model)
    padding = "max_length" if arguments.pad_to_max_length else False

    def encode(rows: dict) -> dict:
        first, second = join(rows, splits.texts, arguments.text_column_delimiter, splits.is_pair)
        return tokenizer(first, second, truncation=True, max_length=max_length, padding=padding)

    encoded = encoding.encode(splits, encode, arguments)

    # 4. Train
    weights = losses.class_weights(arguments.class_weights, splits.labels)
    smoothing = training_arguments.label_smoothing_factor
    task = labelling.task(
        splits,
        loss=losses.for_problem(splits.labels.kind, smoothing, weights),
        compute_metrics=classification.for_labels(splits.labels, arguments.metric_name),
        data_collator=DataCollatorWithPadding(tokenizer),
        headline=arguments.metric_name,
    )
    trainer = Trainer(
        model=model, args=training_arguments, task=task, tokens=encoded, processing_class=tokenizer
    )
    return runner.run(trainer, arguments, splits)


if __name__ == "__main__":
    run_and_exit(main)
