r"""Fine-tune a Transformer to label words: named entities, parts of speech, chunks.

    python recipes/token_classification/run.py
    python recipes/token_classification/run.py --train_file train.conll --output_dir outputs/mine
    accelerate launch recipes/token_classification/run.py --config \
        recipes/token_classification/conll2003.yaml

The output folder then holds the model (for from_pretrained and pipeline()), its scores, its
predictions for every row, plots, a model card (README.md), and run.yaml, which repeats the run.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

PARENTS = Path(__file__).resolve().parents
sys.path.insert(0, next(str(path) for path in PARENTS if (path / "recipes/common").is_dir()))

from transformers import AutoModelForTokenClassification, DataCollatorForTokenClassification

from recipes.common import runner
from recipes.common.config import flags
from recipes.common.config.facts import TOKENS, setting
from recipes.common.data.column_kinds import PER_WORD, WORDS
from recipes.common.data.columns import Columns
from recipes.common.data.sources import LABELLED_WORDS
from recipes.common.data.splits import load_splits
from recipes.common.metrics import entities
from recipes.common.model import loading
from recipes.common.report import word_labelling
from recipes.common.runtime.guard import run_and_exit
from recipes.common.tokens import encoding, words
from recipes.common.train import losses
from recipes.common.train.trainer import Trainer

# The columns of well-known data sets.
TEXTS = [("tokens",), ("words",), ("word",), ("Word",), ("sentence",), ("text",)]
LABELS = [("ner_tags",), ("tags",), ("labels",), ("tag",), ("Tag",), ("ner",), ("upos",)]


@dataclass
class Arguments(flags.WordArguments, flags.Arguments):
    """Adds this task's flags."""

    class_names: list[str] | None = setting(None, "Names of labels that are numbers in the data.")
    metric_name: str | None = setting(None, "Metric of the best model (default: f1 or accuracy).")
    max_seq_length: int = setting(128, "Cut texts to this many tokens.", TOKENS)


@runner.recipe
def main(argv: list[str] | None = None) -> dict[str, float]:
    """Trains as the flags say. Returns the metrics."""
    arguments, training_arguments = runner.start(Arguments, __file__, argv)

    # 1. Data
    splits = load_splits(
        arguments,
        training_arguments,
        texts=Columns("--text_column_name", [arguments.text_column_name], TEXTS, kind=WORDS),
        label=Columns("--label_column_name", [arguments.label_column_name], LABELS, kind=PER_WORD),
        reading=LABELLED_WORDS,
        class_names=arguments.class_names,
        trained=loading.trained_labels(arguments, training_arguments, loading.OF_WORDS),
    )

    # 2. Model
    tokenizer = loading.load_tokenizer(arguments, loading.Texts(splits))
    model = loading.load_model(
        AutoModelForTokenClassification, arguments, tokenizer, **splits.labels.config
    )

    # 3. Tokens
    (column,) = splits.texts
    max_length = loading.max_length(arguments.max_seq_length, tokenizer, model)
    align = words.aligned(tokenizer, max_length, arguments, splits.labels)

    def encode(rows: dict) -> dict:
        return align(rows[column], rows.get("labels"))

    encoded = encoding.encode(splits, encode, arguments)

    # 4. Train
    task = word_labelling.task(
        splits,
        encoded,
        loss=losses.for_problem(splits.labels.kind, training_arguments.label_smoothing_factor),
        compute_metrics=entities.for_words(splits, arguments.metric_name),
        data_collator=DataCollatorForTokenClassification(tokenizer),
        headline=arguments.metric_name,
    )
    trainer = Trainer(
        model=model, args=training_arguments, task=task, tokens=encoded, processing_class=tokenizer
    )
    return runner.run(trainer, arguments, splits)


if __name__ == "__main__":
    run_and_exit(main)
