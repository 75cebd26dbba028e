"""What every recipe shares, one module per concern, in the order in which data meets them."""

import logging
import os
import sys

# It would warn in every run on a CPU with bf16 that an optional kernel is missing; peft imports it where it is there.
logging.getLogger("bitsandbytes.backends.cpu").setLevel(logging.ERROR)

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
if "huggingface_hub.constants" in sys.modules:  # a recipe imports transformers first: too late for the variable
    sys.modules["huggingface_hub.constants"].HF_HUB_DISABLE_TELEMETRY = os.environ["HF_HUB_DISABLE_TELEMETRY"] != "0"
