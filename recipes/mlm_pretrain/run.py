r"""Pretrain a masked language model (BERT, RoBERTa, ModernBERT, …), from scratch or from a
checkpoint.

    python recipes/mlm_pretrain/run.py
    python recipes/mlm_pretrain/run.py --train_file samples/text/train.txt --line_by_line \
        --output_dir outputs/lines
    accelerate launch recipes/mlm_pretrain/run.py --config recipes/mlm_pretrain/wikipedia_bert.yaml

The output folder then holds the model (for from_pretrained, fine-tuning and pipeline("fill-mask")),
its scores, the loss of every evaluated block, plots, a model card (README.md), and run.yaml, which
repeats the run.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

PARENTS = Path(__file__).resolve().parents
sys.path.insert(0, next(str(path) for path in PARENTS if (path / "recipes/common").is_dir()))

from transformers import AutoModelForMaskedLM

from recipes.common import runner
from recipes.common.config import flags
from recipes.common.config.facts import PROBABILITY, TOKENS, Facts, setting
from recipes.common.data.columns import Columns
from recipes.common.data.splits import load_splits
from recipes.common.metrics import language_modeling
from recipes.common.model import loading
from recipes.common.model.special_tokens import end_of_text, start_of_text
from recipes.common.report import token_prediction
from recipes.common.runtime.guard import run_and_exit
from recipes.common.tokens import packing
from recipes.common.tokens.blocks import Layout
from recipes.common.tokens.collators import MaskedBlocks
from recipes.common.train import losses
from recipes.common.train.trainer import Trainer


@dataclass
class Arguments(flags.PackingArguments, flags.Arguments):
    """Adds this task's flags."""

    text_column_name: str | None = setting(None, "Column of the text (default: text).")
    max_seq_length: int = setting(512, "Tokens per block.", TOKENS)
    line_by_line: bool = setting(False, "Make each text a block (default: pack the texts).")
    mlm_probability: float = setting(
        0.15, "Share of the tokens to predict.", Facts(range=(1e-6, 1), of_model=True)
    )
    mask_replace_prob: float = setting(
        0.8, "Share of the predicted tokens that become the mask token.", PROBABILITY
    )
    random_replace_prob: float = setting(
        0.1, "Share of the predicted tokens that become a random token.", PROBABILITY
    )
    whole_word_mask: bool = setting(False, "Mask all pieces of a word together.")


@runner.recipe
def main(argv: list[str] | None = None) -> dict[str, float]:
    """Trains as the flags say. Returns the metrics."""
    arguments, training_arguments = runner.start(Arguments, __file__, argv)

    # 1. Data
    texts = Columns("--text_column_name", [arguments.text_column_name], [("text",)])
    splits = load_splits(arguments, training_arguments, texts)

    # 2. Model
    tokenizer = loading.load_tokenizer(arguments, loading.Texts(splits))
    model = loading.load_model(AutoModelForMaskedLM, arguments, tokenizer)

    # 3. Tokens
    layout = Layout(
        size=loading.max_length(arguments.max_seq_length, tokenizer, model),
        end=end_of_text(tokenizer),
        pad=tokenizer.pad_token_id,
        prefix=next(iter(start_of_text(tokenizer)), None),
    )
    collator = MaskedBlocks(
        tokenizer,
        seed=training_arguments.seed,
        probability=arguments.mlm_probability,
        mask_share=arguments.mask_replace_prob,
        random_share=arguments.random_replace_prob,
        whole_words=arguments.whole_word_mask,
        pad_to=layout.size if arguments.pad_to_max_length else None,
    )
    prepare = packing.lines if arguments.line_by_line else packing.pack
    blocks = prepare(splits, tokenizer, layout, arguments, training_arguments)

    # 4. Train
    task = token_prediction.masked_task(
        blocks,
        tokenizer,
        loss=losses.TokenLoss(training_arguments.label_smoothing_factor),
        compute_metrics=language_modeling.for_tokens(blocks.train, len(tokenizer), shift=False),
        data_collator=collator,
    )
    trainer = Trainer(
        model=model, args=training_arguments, task=task, tokens=blocks, processing_class=tokenizer
    )
    return runner.run(trainer, arguments, splits)


if __name__ == "__main__":
    run_and_exit(main)
