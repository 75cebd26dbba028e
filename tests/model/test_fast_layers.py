"""Layers in fewer operations, attention without masks that hide nothing: the model's numbers and names stay."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    BertConfig,
    GPT2Config,
    M2M100Config,
    MT5Config,
    NllbMoeConfig,
    T5Config,
    masking_utils,
)
from transformers.models.gpt2 import modeling_gpt2

from recipes.common.model import fast_layers

SIZES = {"d_model": 16, "d_kv": 8, "num_heads": 2, "d_ff": 32, "num_layers": 1, "vocab_size": 50}
BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 50,
}
MODELS = {
    "bert": (AutoModelForMaskedLM, BertConfig(**BERT)),
    "gpt2": (
        AutoModelForCausalLM,
        GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=32, vocab_size=50),
    ),
    "t5": (AutoModelForSeq2SeqLM, T5Config(**SIZES, decoder_start_token_id=0)),
    "mt5": (AutoModelForSeq2SeqLM, MT5Config(**SIZES, decoder_start_token_id=0)),  # gated
}


def test_no_layer_is_left_out_at_random(capsys):
    """Several processes would leave out different ones, which they hold, or whose gradients they add up, together."""
    sizes = {
        "d_model": 16,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16,
    }
    sizes |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "vocab_size": 50}
    model = AutoModelForSeq2SeqLM.from_config(M2M100Config(**sizes, encoder_layerdrop=0.5))
    assert model.get_encoder().layerdrop == 0.5
    fast_layers.disable_layerdrop(model)
    assert model.get_encoder().layerdrop == 0
    assert model.config.encoder_layerdrop == 0.5
    assert "LayerDrop is off" in capsys.readouterr().err
    fast_layers.disable_layerdrop(model)
    assert not capsys.readouterr().err


def pair_of(name):
    kind, config = MODELS[name]
    torch.manual_seed(0)
    plain = kind.from_config(config).eval()
    replaced = copy.deepcopy(plain)
    fast_layers.replace(replaced)
    return plain, replaced


def learned(model):
    ids = torch.arange(30).reshape(2, 15)
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    return loss.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


def kinds(model):
    return {type(module).__name__ for module in model.modules()}


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("gpt2", {"NewGELUActivation"}, {"GELU"}),
        ("t5", {"T5DenseActDense", "T5LayerNorm"}, {"FeedForward", "Norm"}),
        (
            "mt5",
            {"MT5DenseGatedActDense", "MT5LayerNorm", "NewGELUActivation"},
            {"FeedForward", "Norm", "GELU"},
        ),
    ],
)
def test_loss_gradients_and_names_stay(name, before, after):
    plain, replaced = pair_of(name)
    assert kinds(plain) - kinds(replaced) == before
    assert kinds(replaced) - kinds(plain) == after
    assert replaced.state_dict().keys() == plain.state_dict().keys()
    (loss, gradients), (wanted, wanted_gradients) = learned(replaced), learned(plain)
    torch.testing.assert_close(loss, wanted)
    assert gradients.keys() == wanted_gradients.keys()
    for parameter, gradient in gradients.items():
        torch.testing.assert_close(gradient, wanted_gradients[parameter], msg=parameter)


def test_a_layer_of_the_same_name_and_other_parts_stays():
    sizes = {
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "vocab_size": 50,
        "num_experts": 2,
    }
    heads = {
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
    }
    model = AutoModelForSeq2SeqLM.from_config(NllbMoeConfig(**sizes, **heads))
    before = kinds(model)
    assert "NllbMoeDenseActDense" in before
    fast_layers.replace(model)
    assert kinds(model) == before


def test_under_autocast_a_feed_forward_layer_casts_nothing_to_fp32():
    """T5's own hands its last layer fp32, which autocast casts back: twice a pass over its largest states."""
    seen = []
    for model in pair_of("t5"):
        dense = model.encoder.block[0].layer[-1].DenseReluDense
        dense.wo.register_forward_pre_hook(lambda layer, states: seen.append(states[0].dtype))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            dense(torch.randn(2, 3, 16))
    assert seen == [torch.float32, torch.bfloat16]


def test_a_norm_divides_by_the_root_mean_square():
    norm = pair_of("t5")[1].encoder.block[0].layer[0].layer_norm
    states = torch.tensor([3.0, 4.0]).repeat(8)  # root of (9 + 16) / 2: 3.5355
    torch.testing.assert_close(norm(states), states / 3.5355339)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert norm(states.bfloat16()).dtype == torch.float32


def test_a_layer_that_transformers_keeps_in_fp32_stays_transformers_():
    _, config = MODELS["t5"]
    model = AutoModelForSeq2SeqLM.from_config(config)
    dense = model.encoder.block[0].layer[-1].DenseReluDense
    dense.wi.to(torch.bfloat16)
    fast_layers.replace(model)
    assert type(model.encoder.block[0].layer[-1].DenseReluDense).__name__ == "T5DenseActDense"
    assert isinstance(dense.act, nn.ReLU)


@pytest.fixture
def compiled(monkeypatch, request):
    """A model, GPT-2 by default, the same compiled, and a list of the masks that its attention gets."""
    monkeypatch.setattr(
        modeling_gpt2, "create_causal_mask", masking_utils.create_causal_mask
    )  # and so afterwards
    masks = []

    def look(graph, inputs):
        found = [
            node
            for node in graph.graph.nodes
            if node.target is functional.scaled_dot_product_attention
        ]
        masks.extend(node.kwargs["attn_mask"] for node in found)
        return graph.forward

    model, _ = pair_of(getattr(request, "param", "gpt2"))
    model.config.use_cache = False  # as Trainer has it
    torch._dynamo.reset()
    yield model, torch.compile(model, backend=look), masks
    torch._dynamo.reset()


IDS = torch.arange(30).reshape(2, 15)


def test_a_compiled_model_without_padding_attends_without_a_mask(compiled):
    model, quick, masks = compiled
    fast_layers.leave_out_needless_masks(model)
    fast_layers.leave_out_needless_masks(model)  # twice is as good as once
    with torch.no_grad():
        torch.testing.assert_close(quick(input_ids=IDS).logits, model(input_ids=IDS).logits)
    assert masks == [None]


def test_transformers_makes_a_mask_where_texts_might_be_packed_apart(compiled):
    """If this fails, leave_out_needless_masks has done its duty."""
    _, quick, masks = compiled
    quick(input_ids=IDS)
    assert [mask is None for mask in masks] == [False]


@pytest.mark.parametrize("compiled", ["bert"], indirect=True)
def test_to_a_compiled_masked_model_transformers_gives_no_mask_where_nothing_is_padded(compiled):
    """If this fails, as with torch 2.11, BERT's attention is slow on a GPU: leave_out_needless_masks has more to do."""
    _, quick, masks = compiled
    quick(input_ids=IDS)
    assert masks == [None]


def test_a_compiled_model_keeps_packed_texts_apart(compiled):
    model, quick, masks = compiled
    positions = torch.cat([torch.arange(9), torch.arange(6)]).expand(2, -1)
    with torch.no_grad():
        expected = model(input_ids=IDS, position_ids=positions).logits
        fast_layers.leave_out_needless_masks(model)
        torch.testing.assert_close(quick(input_ids=IDS, position_ids=positions).logits, expected)
    assert [mask is None for mask in masks] == [False]


def test_padding_stays_masked_in_one_graph(compiled):
    model, quick, masks = compiled
    mask = torch.ones_like(IDS)
    mask[1, 9:] = 0
    with torch.no_grad():
        expected = model(input_ids=IDS, attention_mask=mask).logits[mask.bool()]
        fast_layers.leave_out_needless_masks(model)
        torch.testing.assert_close(
            quick(input_ids=IDS, attention_mask=mask).logits[mask.bool()], expected
        )
        quick(input_ids=IDS, attention_mask=torch.ones_like(IDS))
    assert [mask is None for mask in masks] == [False]
