"""Refuses a model that cannot do its task, before any text is tokenised.

`probes` measures it; here is decided what is refused, and with which advice.
"""

from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, PretrainedConfig

from recipes.common.config.flags import Arguments
from recipes.common.model import config_overrides, probes
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import reason

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def try_out(model: "PreTrainedModel", auto_class: type, arguments: Arguments) -> None:
    """Refuses a model that cannot read or write a text.

    Also refuses a causal model that sees the tokens that it has to predict. Its perplexity would be
    near 1, and its texts would be worthless.
    """
    name = model.config.model_type
    where = "--model_name_or_path" if arguments.model_name_or_path else "--model_type"
    try:
        logits = probes.logits(model)
        if auto_class is not AutoModelForMaskedLM:
            probes.write(model)
        _try_to_save(model)
    except Exception as error:  # each architecture raises its own
        if arguments.config_overrides:
            where = "--config_overrides"
        raise misfit(model.config, f"{name} cannot be computed this way", error, where) from None
    if auto_class is not AutoModelForCausalLM or not probes.sees_ahead(logits, model.dtype):
        return
    fix = (
        "choose an architecture that reads from left to right: gpt2, llama, qwen3, …;"
        " or pretrain a masked model"
    )
    if not probes.sees_ahead_as_decoder(model):
        fix = (
            f"--config_overrides is_decoder=true makes {name} read from left to right;"
            " or choose gpt2, llama, …"
        )
    raise Refusal(f"{name} sees the tokens that it is to predict", where, fix)


def _try_to_save(model: "PreTrainedModel") -> None:
    """Raises what transformers raises where a configuration cannot be saved."""
    with TemporaryDirectory() as folder:
        model.config.save_pretrained(folder)
        if model.can_generate():
            model.generation_config.save_pretrained(folder)


def misfit(config: PretrainedConfig, what: str, error: Exception, where: str) -> Refusal:
    """Returns the refusal of an architecture whose sizes do not fit each other; it names them."""
    sizes = config_overrides.fitting(config)
    fix = "choose another architecture"
    if sizes:
        fix = f"choose sizes that fit each other; now {sizes}"
    return Refusal(f"{what}: {reason(error)}", where, fix)
