r"""Train a model that summarizes: T5, mT5, BART, Pegasus, … from a checkpoint, or one from scratch.

    python recipes/summarization/run.py
    python recipes/summarization/run.py --train_file samples/summarization_zh/train.jsonl \
        --test_file samples/summarization_zh/test.jsonl --output_dir outputs/summarization_zh
    accelerate launch recipes/summarization/run.py --config recipes/summarization/xsum_t5.yaml

The output folder then holds the model (`cli.py predict` needs no flags), its scores, its summary of
every row, plots, a model card (README.md), and run.yaml, which repeats the run.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

PARENTS = Path(__file__).resolve().parents
sys.path.insert(0, next(str(path) for path in PARENTS if (path / "recipes/common").is_dir()))

from transformers import AutoModelForSeq2SeqLM

from recipes.common import runner
from recipes.common.config import flags
from recipes.common.config.facts import OPTIONAL, setting
from recipes.common.data.columns import Columns
from recipes.common.data.splits import load_splits
from recipes.common.metrics import generated_text
from recipes.common.model import languages, loading
from recipes.common.report import text_generation
from recipes.common.runtime.guard import run_and_exit
from recipes.common.tokens import encoding
from recipes.common.tokens.collators import Pairs
from recipes.common.train import losses
from recipes.common.train.generation import TextGeneration
from recipes.common.train.trainer import Trainer

# Columns of well-known data sets.
TEXTS = ["document", "article", "text", "dialogue", "content", "source", "Articles"]
SUMMARIES = ["summary", "highlights", "target", "title", "abstract", "Summaries"]


@dataclass
class Arguments(flags.GenerationArguments, flags.Arguments):
    """Adds this task's flags."""

    text_column: str | None = setting(None, "Column of the texts (document, article, text, …).")
    summary_column: str | None = setting(None, "Column of the summaries (summary, highlights, …).")
    lang: str | None = setting(None, "Language, for models that have tags: en_XX, zh, zho_Hans.")
    resize_position_embeddings: bool | None = setting(
        None, "Add positions that the model lacks.", **OPTIONAL
    )


@runner.recipe
def main(argv: list[str] | None = None) -> dict[str, float]:
    """Trains as the flags say. Returns the metrics."""
    arguments, training_arguments = runner.start(Arguments, __file__, argv)

    # 1. Data
    splits = load_splits(
        arguments,
        training_arguments,
        texts=Columns("--text_column", [arguments.text_column], [(name,) for name in TEXTS]),
        target=Columns(
            "--summary_column", [arguments.summary_column], [(name,) for name in SUMMARIES]
        ),
    )

    # 2. Model
    tokenizer = loading.load_tokenizer(arguments, loading.Texts(splits))
    model = loading.load_model(AutoModelForSeq2SeqLM, arguments, tokenizer)
    loading.resize_positions(model, arguments)
    pair, instruction = (arguments.lang, arguments.lang), "summarize: "
    prefix = languages.prepare(tokenizer, model, arguments, pair, instruction)

    # 3. Tokens
    encode_pairs = encoding.pairs(tokenizer, model, arguments)

    def encode(rows: dict) -> dict:
        return encode_pairs([prefix + text for text in rows[splits.texts[0]]], rows[splits.target])

    encoded = encoding.encode(splits, encode, arguments)

    # 4. Train
    decode = generated_text.Decoder(tokenizer)
    task = text_generation.task(
        "summarization",
        splits,
        decode,
        generation=TextGeneration(model, arguments, training_arguments, encoded),
        loss=losses.TokenLoss(training_arguments.label_smoothing_factor),
        compute_metrics=generated_text.for_summaries(splits, decode),
        data_collator=Pairs(tokenizer, model, arguments.ignore_pad_token_for_loss),
        headline="rougeL",
        shown=(*generated_text.ROUGE, "gen_len", "ref_len"),
    )
    trainer = Trainer(
        model=model, args=training_arguments, task=task, tokens=encoded, processing_class=tokenizer
    )
    return runner.run(trainer, arguments, splits)


if __name__ == "__main__":
    run_and_exit(main)
