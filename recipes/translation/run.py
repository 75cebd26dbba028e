r"""Train a translation model: T5, Marian, mBART, M2M100, NLLB, … from a checkpoint or from scratch.

    python recipes/translation/run.py
    python recipes/translation/run.py --train_file samples/translation_en_zh/train.jsonl \
        --test_file samples/translation_en_zh/test.jsonl --source_lang en --target_lang zh \
        --output_dir outputs/translation_zh
    accelerate launch recipes/translation/run.py --config recipes/translation/opus_marian.yaml

The output folder then holds the model with its language pair (`cli.py predict` needs no flags), its
scores, its translation of every row, plots, a model card (README.md), and run.yaml, which repeats
the run.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

PARENTS = Path(__file__).resolve().parents
sys.path.insert(0, next(str(path) for path in PARENTS if (path / "recipes/common").is_dir()))

from transformers import AutoModelForSeq2SeqLM

from recipes.common import runner
from recipes.common.config import flags
from recipes.common.config.facts import OF_DATA, setting
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


@dataclass
class Arguments(flags.GenerationArguments, flags.Arguments):
    """Adds this task's flags."""

    source_lang: str | None = setting(
        None, "Language of the sources: en, en_XX, eng_Latn.", OF_DATA
    )
    target_lang: str | None = setting(None, "Language to translate into.", OF_DATA)


@runner.recipe
def main(argv: list[str] | None = None) -> dict[str, float]:
    """Trains as the flags say. Returns the metrics."""
    arguments, training_arguments = runner.start(Arguments, __file__, argv)

    # 1. Data
    source, target = languages.pair(arguments)
    splits = load_splits(
        arguments,
        training_arguments,
        texts=Columns("--source_lang", [source], [], like=languages.column),
        target=Columns("--target_lang", [target], [], like=languages.column),
        reading=languages.reading(source, target),
    )

    # 2. Model
    tokenizer = loading.load_tokenizer(arguments, loading.Texts(splits))
    model = loading.load_model(AutoModelForSeq2SeqLM, arguments, tokenizer)
    pair, instruction = (source, target), "translate {} to {}: "
    prefix = languages.prepare(tokenizer, model, arguments, pair, instruction)

    # 3. Tokens
    encode_pairs = encoding.pairs(tokenizer, model, arguments)

    def encode(rows: dict) -> dict:
        return encode_pairs([prefix + text for text in rows[splits.texts[0]]], rows[splits.target])

    encoded = encoding.encode(splits, encode, arguments)

    # 4. Train
    decode = generated_text.Decoder(tokenizer)
    task = text_generation.task(
        "translation",
        splits,
        decode,
        generation=TextGeneration(model, arguments, training_arguments, encoded),
        loss=losses.TokenLoss(training_arguments.label_smoothing_factor),
        compute_metrics=generated_text.for_translation(splits, target, decode),
        data_collator=Pairs(tokenizer, model, arguments.ignore_pad_token_for_loss),
        headline="bleu",
        shown=("bleu", "chrf", "ter", "gen_len", "ref_len"),
        answers=f"BLEU is `{generated_text.signature(target)}`.",
    )
    trainer = Trainer(
        model=model, args=training_arguments, task=task, tokens=encoded, processing_class=tokenizer
    )
    return runner.run(trainer, arguments, splits)


if __name__ == "__main__":
    run_and_exit(main)
