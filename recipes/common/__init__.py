"""What every recipe shares, in the words that a recipe uses itself: data, model, tokens, train.

A package imports only from the packages above it in this list:

    runtime                the process: errors, signals, folders, other processes
    config, checkpoints    what may be set; what is saved while a run trains
    data                   files or the Hub -> checked splits
    model                  tokenizer and model, from a checkpoint or from scratch
    tokens                 splits -> batches
    train, metrics         the Trainer and its loss; how good the model is
    report, predict        what a run leaves; a trained folder answers
    runner                 start() and run(): a run from its first line to its last

`launch` builds command lines. It imports `runtime` only, and answers without torch.

The code below stands here because it must run before any library is imported.
"""

import logging
import os
import sys

# It would warn in every run on a CPU with bf16 that an optional kernel is missing; peft imports it
# where it is there.
logging.getLogger("bitsandbytes.backends.cpu").setLevel(logging.ERROR)

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
CONSTANTS = sys.modules.get("huggingface_hub.constants")
if CONSTANTS:  # a recipe imports transformers first: then the variable comes too late
    CONSTANTS.HF_HUB_DISABLE_TELEMETRY = os.environ["HF_HUB_DISABLE_TELEMETRY"] != "0"
