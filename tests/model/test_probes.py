"""What a model does with a text of eight tokens: its positions, whether it sees ahead, and no trace afterwards."""

import pytest
import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
)
from transformers import AutoModelForSequenceClassification as Classifier

from recipes.common.model import probes

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
SIZES |= {
    "num_key_value_heads": 2,
    "vocab_size": 40,
    "d_model": 16,
    "num_layers": 1,
    "num_heads": 2,
    "d_ff": 32,
}
SIZES |= {
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
}
SIZES |= {
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "n_layers": 1,
    "n_heads": 2,
    "emb_dim": 16,
    "ffn_dim": 32,
}
SIZES |= {
    "word_embed_proj_dim": 16,
    "d_kv": 8,
    "embedding_size": 16,
    "attention_window": 4,
    "d_head": 8,
    "n_head": 2,
}
SIZES |= {
    "entity_vocab_size": 10,
    "entity_emb_size": 16,
    "dim": 16,
    "hidden_dim": 32,
    "d_inner": 32,
    "head_dim": 8,
}
SIZES |= {
    "max_position_embeddings": 20,
    "max_encoder_position_embeddings": 20,
    "max_decoder_position_embeddings": 10,
}
SIZES |= {
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "decoder_vocab_size": 40,
    "n_embd": 16,
    "n_layer": 1,
}
# Rows of a table of 20 that a text can have: RoBERTa's kin lose those up to the padding token's (1).
POSITIONS = dict.fromkeys(
    ["bert", "distilbert", "electra", "deberta", "albert", "ernie", "roformer"], 20
)
POSITIONS |= dict.fromkeys(
    ["roberta", "xlm-roberta", "camembert", "roberta-prelayernorm", "xlm-roberta-xl"], 18
)
POSITIONS |= dict.fromkeys(["esm", "luke", "data2vec-text", "longformer", "mpnet", "ibert"], 18)
CAUSAL = dict.fromkeys(["gpt2", "opt", "llama", "biogpt"], 20) | {"bloom": torch.inf}
READ_ON = ("deberta", "longformer")  # behind their last position, as if it were another
UNLIMITED = ("xlnet", "t5", "bloom")
SEES = {
    "bert": True,
    "roberta": True,
    "xlnet": True,
    "xlm": True,
    "gpt2": False,
    "llama": False,
    "opt": False,
}
SEES |= {"gpt_neox": False, "mamba": False, "bloom": False}


def build(auto_class, name, **changes):
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    sizes = {
        key: value for key, value in SIZES.items() if name not in UNLIMITED or "position" not in key
    }
    return auto_class.from_config(AutoConfig.for_model(name, **{**sizes, **changes})).eval()


def fits(model, length):
    """Whether a text of so many tokens runs through the model."""
    try:
        with torch.no_grad():
            return model(input_ids=torch.full((1, length), 7)).logits is not None
    except (IndexError, RuntimeError, ValueError):
        return False


@pytest.mark.parametrize(("name", "expected"), POSITIONS.items(), ids=POSITIONS)
def test_a_text_may_have_as_many_tokens_as_the_model_can_read_and_no_more(name, expected):
    model = build(AutoModelForMaskedLM, name)
    text, _ = probes.positions(model)
    assert text == expected
    assert fits(model, text)
    assert name in READ_ON or not fits(model, text + 1)


@pytest.mark.parametrize(("name", "expected"), CAUSAL.items(), ids=CAUSAL)
def test_causal_models_have_the_positions_of_their_table_or_of_their_configuration(name, expected):
    assert probes.positions(build(AutoModelForCausalLM, name)) == (expected, expected)


def test_a_configuration_that_says_minus_one_sets_no_limit():
    assert probes.positions(build(Classifier, "xlnet")) == (torch.inf, torch.inf)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("bart", (20, 20)), ("t5", (torch.inf, torch.inf)), ("m2m_100", (20, 20)), ("led", (20, 10))],
)
def test_a_text_and_its_answer_have_positions_of_their_own(name, expected):
    assert probes.positions(build(AutoModelForSeq2SeqLM, name, attention_window=8)) == expected


@pytest.mark.parametrize(("name", "expected"), SEES.items(), ids=SEES)
def test_who_sees_ahead_is_judged_by_the_logits(name, expected):
    model = build(AutoModelForCausalLM, name)
    assert probes.sees_ahead(probes.logits(model), model.dtype) is expected


@pytest.mark.parametrize(
    ("name", "expected"), [("bert", False), ("roberta", False), ("xlm", True), ("xlnet", True)]
)
def test_a_decoder_by_its_setting_may_see_ahead_all_the_same(name, expected):
    assert probes.sees_ahead_as_decoder(build(AutoModelForCausalLM, name)) is expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_rounding_is_no_look_ahead(name, dtype):
    model = build(
        AutoModelForCausalLM, name, num_hidden_layers=12, n_layer=12, hidden_size=64, n_embd=64
    ).to(dtype)
    assert not probes.sees_ahead(probes.logits(model), dtype)


@pytest.mark.parametrize("layers", [1, 12])
def test_an_encoder_s_look_ahead_is_found_however_deep_and_new_it_is(layers):
    model = build(AutoModelForCausalLM, "bert", num_hidden_layers=layers, initializer_range=0.002)
    assert probes.sees_ahead(probes.logits(model), model.dtype)


def test_a_model_is_afterwards_as_it_was():
    """BigBird goes over to full attention for good where a text is short."""
    model = build(AutoModelForMaskedLM, "big_bird", max_position_embeddings=2048).train()
    before, random = model.state_dict(), torch.random.get_rng_state()
    attention = [type(part).__name__ for part in model.modules()]
    probes.positions(model)
    probes.logits(model)
    assert model.bert.attention_type == model.bert.encoder.attention_type == "block_sparse"
    assert [type(part).__name__ for part in model.modules()] == attention
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert all(weight.grad is None and not weight.is_inference() for weight in model.parameters())


def test_what_was_tried_can_be_trained_afterwards():
    """Buffers that are made in a forward pass must not be those of inference."""
    for name, auto_class in (
        ("roformer", AutoModelForMaskedLM),
        ("m2m_100", AutoModelForSeq2SeqLM),
    ):
        model = build(auto_class, name).train()
        probes.logits(model)
        inputs = {"input_ids": torch.full((1, 12), 7)}
        model(**inputs, labels=inputs["input_ids"]).loss.backward()


def test_weights_that_are_shared_out_are_tried_on_a_small_model_of_the_kind():
    model = build(AutoModelForCausalLM, "bert", num_hidden_layers=3)
    for weight in model.parameters():
        weight.ds_id = 0  # ZeRO-3's mark
        weight.data = torch.empty(0)
    assert probes.positions(model) == (20, 20)
    assert probes.sees_ahead(probes.logits(model), torch.float32)
