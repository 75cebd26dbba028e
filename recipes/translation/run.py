"""Train a translation model: T5, mT5, Marian, mBART, mBART-50, M2M100, NLLB from a checkpoint, or one from scratch.

    python recipes/translation/run.py
    python recipes/translation/run.py --train_file samples/translation_en_zh/train.jsonl --test_file \
        samples/translation_en_zh/test.jsonl --source_lang en --target_lang zh --output_dir outputs/translation_zh
    accelerate launch recipes/translation/run.py --config recipes/translation/opus_marian.yaml

The output folder then holds the model with its language pair (`cli.py predict` needs no flags), its scores, its
translation of every row, plots, a model card (README.md), and run.yaml, which repeats the run.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, next(str(path) for path in Path(__file__).resolve().parents if (path / "recipes/common").is_dir()))

from transformers import AutoModelForSeq2SeqLM

from recipes.common import (
    args,
    data,
    errors,
    generation,
    languages,
    losses,
    models,
    tasks,
    text_metrics,
    token_metrics,
    tokens,
    training,
)
from recipes.common.args import setting
from recipes.common.collators import Pairs
from recipes.common.trainer import Trainer


@dataclass
class Arguments(args.GenerationArguments, args.Arguments):
    """What this task adds."""

    source_lang: str | None = setting(None, "Language of the source texts: en, or the model's own en_XX, eng_Latn.")
    target_lang: str | None = setting(None, "Language to translate into.")


@training.recipe
def main(argv: list[str] | None = None) -> dict[str, float]:
    """Trains as the flags say; the metrics."""
    arguments, training_arguments = training.start(Arguments, __file__, argv)

    # 1. Data
    source, target = languages.pair(arguments)
    splits = data.load(
        arguments,
        training_arguments,
        texts=data.Columns("--source_lang", [source], [], like=languages.column),
        target=data.Columns("--target_lang", [target], [], like=languages.column),
        reading=languages.reading(source, target),
    )

    # 2. Model
    tokenizer = models.load_tokenizer(arguments, models.Texts(splits.train, [*splits.texts, splits.target]))
    model = models.load_model(AutoModelForSeq2SeqLM, arguments, tokenizer)
    prefix = languages.prepare(tokenizer, model, arguments, (source, target), "translate {} to {}: ")

    # 3. Tokens
    encode_pairs = tokens.pairs(tokenizer, model, arguments)

    def encode(rows: dict) -> dict:
        return encode_pairs([prefix + text for text in rows[splits.texts[0]]], rows[splits.target])

    encoded = tokens.encode(splits, encode, arguments)

    # 4. Train
    decode = text_metrics.Decoder(tokenizer)
    trainer = Trainer(
        model=model,
        args=training_arguments,
        tokens_per_batch=arguments.tokens_per_batch,
        answers=generation.Answers(model, arguments, training_arguments, encoded),
        train_dataset=encoded.train,
        eval_dataset=encoded.validation,
        processing_class=tokenizer,
        data_collator=Pairs(tokenizer, model, arguments.ignore_pad_token_for_loss),
        compute_loss_func=losses.TokenLoss(training_arguments.label_smoothing_factor),
        compute_metrics=text_metrics.for_translation(splits.texts[0], splits.target, target, decode),
        preprocess_logits_for_metrics=token_metrics.sums(shift=False),
    )
    shown, signature = ("bleu", "chrf", "ter", "gen_len", "ref_len"), text_metrics.signature(target)
    task = tasks.for_texts(splits, decode, "translation", "bleu", shown, f"BLEU is `{signature}`.")
    return training.run(trainer, arguments, splits, encoded, task)


if __name__ == "__main__":
    errors.guard(main)
