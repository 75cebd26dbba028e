r"""Pretrain a causal language model (GPT-2, Llama, Qwen, …), from scratch or from a checkpoint.

    python recipes/clm_pretrain/run.py
    python recipes/clm_pretrain/run.py --train_file samples/text/train.txt --block_size 64 \
        --output_dir outputs/lines
    accelerate launch recipes/clm_pretrain/run.py --config recipes/clm_pretrain/wikitext_gpt2.yaml

The output folder then holds the model (for from_pretrained, `cli.py generate` and
pipeline("text-generation")), its scores, the loss of every evaluated block, plots, a model card
with continuations, and run.yaml, which repeats the run.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

PARENTS = Path(__file__).resolve().parents
sys.path.insert(0, next(str(path) for path in PARENTS if (path / "recipes/common").is_dir()))

from transformers import AutoModelForCausalLM

from recipes.common import runner
from recipes.common.config import flags
from recipes.common.config.facts import TOKENS, ZERO_OR_MORE, setting
from recipes.common.data.columns import Columns
from recipes.common.data.sources import Reading
from recipes.common.data.splits import load_splits
from recipes.common.metrics import language_modeling
from recipes.common.model import loading
from recipes.common.model.special_tokens import end_of_text, start_of_text
from recipes.common.report import token_prediction
from recipes.common.runtime.guard import run_and_exit
from recipes.common.tokens import packing
from recipes.common.tokens.blocks import Layout
from recipes.common.tokens.collators import CausalBlocks
from recipes.common.train import losses
from recipes.common.train.trainer import Trainer


@dataclass
class Arguments(flags.PackingArguments, flags.Arguments):
    """Adds this task's flags."""

    text_column_name: str | None = setting(None, "Column of the text (default: text).")
    block_size: int = setting(1024, "Tokens per block, at most the model's positions.", TOKENS)
    keep_linebreaks: bool = setting(True, "A .txt file is one text; false: every line is a text.")
    packing_isolation: bool = setting(False, "Allow no attention between the documents of a block.")
    eval_stride: int = setting(
        0, "Evaluate in overlapping blocks, moved by this many tokens.", ZERO_OR_MORE
    )


@runner.recipe
def main(argv: list[str] | None = None) -> dict[str, float]:
    """Trains as the flags say. Returns the metrics."""
    arguments, training_arguments = runner.start(Arguments, __file__, argv)

    # 1. Data
    texts = Columns("--text_column_name", [arguments.text_column_name], [("text",)])
    splits = load_splits(
        arguments, training_arguments, texts, reading=Reading(line_breaks=arguments.keep_linebreaks)
    )

    # 2. Model
    tokenizer = loading.load_tokenizer(arguments, loading.Texts(splits))
    model = loading.load_model(AutoModelForCausalLM, arguments, tokenizer)

    # 3. Tokens
    layout = Layout(
        size=loading.max_length(arguments.block_size, tokenizer, model),
        start=start_of_text(tokenizer),
        end=end_of_text(tokenizer),
        pad=tokenizer.pad_token_id,
        stride=arguments.eval_stride,
    )
    blocks = packing.pack(splits, tokenizer, layout, arguments, training_arguments)
    if arguments.packing_isolation:
        loading.check_isolation(model, layout.end)

    # 4. Train
    task = token_prediction.causal_task(
        blocks,
        tokenizer,
        model,
        loss=losses.TokenLoss(training_arguments.label_smoothing_factor, shift=True),
        compute_metrics=language_modeling.for_tokens(blocks.train, len(tokenizer), shift=True),
        data_collator=CausalBlocks(
            layout.pad, layout.end, arguments.packing_isolation, start=layout.start
        ),
    )
    trainer = Trainer(
        model=model, args=training_arguments, task=task, tokens=blocks, processing_class=tokenizer
    )
    return runner.run(trainer, arguments, splits)


if __name__ == "__main__":
    run_and_exit(main)
