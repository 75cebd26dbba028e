"""The vocabulary head at labelled positions: the same loss and gradients as from all logits, for every architecture."""

import copy

import pytest
import torch
import transformers
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
)

from recipes.common.data.labels import MISSING
from recipes.common.train import fused_lm_loss
from recipes.common.train.losses import TokenLoss

WORDS, LENGTH = 37, 9
SIZES = {
    "vocab_size": WORDS,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_heads": 2,
}
SIZES |= {
    "intermediate_size": 24,
    "max_position_embeddings": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
}
SIZES |= {
    "eos_token_id": 2,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "dropout": 0.0,
}
DECODERS = {"num_key_value_heads": 1, "head_dim": 8, "attention_dropout": 0.0, "type_vocab_size": 2}
SEQ2SEQ = {
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 24,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "dropout_rate": 0.0,
}
SEQ2SEQ |= {
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
}
SIZES |= {
    "embedding_size": 8
}  # smaller than hidden_size, as ALBERT, ELECTRA and MobileBERT have it
SEQ2SEQ |= {"encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "decoder_start_token_id": 2}
MASKED = (
    "albert bert camembert deberta deberta-v2 distilbert electra ernie modernbert mpnet"
).split()
MASKED += ["nystromformer", "rembert", "roberta", "roformer", "xlm-roberta"]
CAUSAL = ["gemma", "gpt2", "gpt_neox", "llama", "mistral", "opt", "phi", "qwen2", "qwen3"]
PAIRED = ["bart", "m2m_100", "marian", "mbart", "mt5", "pegasus", "t5"]
DENSE = {
    "gemma2": AutoModelForCausalLM,
    "cohere": AutoModelForCausalLM,
    "mobilebert": AutoModelForMaskedLM,
}
CASES = [(name, AutoModelForMaskedLM) for name in MASKED] + [
    (name, AutoModelForCausalLM) for name in CAUSAL
]
CASES += [(name, AutoModelForSeq2SeqLM) for name in PAIRED]


def model_of(name, kind):
    """A tiny model of this type with weights that are nowhere zero."""
    transformers.set_seed(0)
    config = AutoConfig.for_model(name, **SIZES, **DECODERS, **SEQ2SEQ)
    model = kind.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
        if hasattr(model, fused_lm_loss.BIAS):
            model.final_logits_bias.normal_()
    return model


def batch_of(model):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, WORDS, (4, LENGTH), generator=generator)
    labels = torch.where(torch.rand(ids.shape, generator=generator) < 0.4, ids, MISSING)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return inputs | (
        {"decoder_input_ids": ids.flip(1)} if model.config.is_encoder_decoder else {}
    ), labels


def learn(model, loss, head=None):
    """Loss and gradients of one batch."""
    inputs, labels = batch_of(model)
    if head:
        with head.predicting(labels):
            value = loss(model(**inputs), labels)
    else:
        value = loss(model(**inputs), labels)
    value.backward()
    return value.item(), {
        name: one.grad for name, one in model.named_parameters() if one.grad is not None
    }


def check_like_all_logits(model, loss, backend=None):
    """The head's loss and gradients are those of the dense model, each to 1e-6."""
    expected, expected_gradients = learn(copy.deepcopy(model), loss)
    head = fused_lm_loss.install(model, loss, backend)
    assert head is not None
    found, gradients = learn(model, loss, head)
    assert found == pytest.approx(expected, abs=1e-6)
    assert gradients.keys() == expected_gradients.keys()
    for parameter, gradient in gradients.items():
        assert torch.allclose(gradient, expected_gradients[parameter], atol=1e-6), parameter


@pytest.mark.parametrize(
    "at_once",
    [fused_lm_loss.LOGITS_AT_ONCE["cpu"], WORDS * 3 * 4],
    ids=["all", "three rows of fp32"],
)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("name", "kind"), CASES, ids=[name for name, _ in CASES])
def test_loss_and_gradients_are_those_of_all_logits(name, kind, smoothing, at_once, monkeypatch):
    monkeypatch.setitem(fused_lm_loss.LOGITS_AT_ONCE, "cpu", at_once)
    monkeypatch.setattr(fused_lm_loss, "IN_CACHE", WORDS * 2)
    model = model_of(name, kind)
    loss = TokenLoss(smoothing, shift=kind is AutoModelForCausalLM)
    check_like_all_logits(model, loss)


@pytest.mark.parametrize("backend", [None, "inductor"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_words_made_up_to_a_round_number_and_compiled_scores_change_nothing(
    smoothing, backend, monkeypatch
):
    monkeypatch.setitem(fused_lm_loss.VOCABULARY_MULTIPLE, "cpu", 8)
    model, loss = model_of("bert", AutoModelForMaskedLM), TokenLoss(smoothing)
    check_like_all_logits(model, loss, backend)


def test_compiled_scores_of_bf16_are_those_that_are_not_compiled(monkeypatch):
    monkeypatch.setitem(fused_lm_loss.VOCABULARY_MULTIPLE, "cpu", 8)
    loss, found = TokenLoss(), []
    for backend in (None, "inductor"):
        model = model_of("bert", AutoModelForMaskedLM)
        head = fused_lm_loss.install(model, loss, backend)
        with torch.autocast("cpu", torch.bfloat16):
            found.append(learn(model, loss, head))
    (eager, gradients), (compiled, compiled_gradients) = found
    assert compiled == pytest.approx(eager, abs=1e-4)
    for parameter, gradient in gradients.items():
        assert torch.allclose(compiled_gradients[parameter], gradient, atol=1e-2), parameter


@pytest.mark.parametrize(("name", "kind"), CASES, ids=[name for name, _ in CASES])
def test_an_evaluation_counts_the_hits_of_all_logits(name, kind):
    model, loss = model_of(name, kind), TokenLoss(shift=kind is AutoModelForCausalLM)
    inputs, labels = batch_of(model)
    with torch.no_grad():
        logits = model(**inputs).logits[:, : loss.predicted(labels).shape[1]]
        truth = loss.predicted(labels)
        truth[0, -1] = logits[0, -1].argmax()  # at least one is right
        with fused_lm_loss.install(model, loss).predicting(labels):
            scores = model(**inputs).logits
    expected = logits.argmax(-1).eq(truth)[truth.ne(MISSING)]
    assert scores[:, 1].tolist() == expected.float().tolist()
    assert expected.any()
    assert not expected.all()


def test_an_evaluation_returns_the_loss_with_and_without_smoothing():
    """Perplexity is that of the tokens as they are; the validation loss is the one that trains."""
    model = model_of("gpt2", AutoModelForCausalLM)
    inputs, labels = batch_of(model)
    loss = TokenLoss(0.1, shift=True)
    with torch.no_grad():
        logits, truth = model(**inputs).logits[:, :-1], labels[:, 1:]
        with fused_lm_loss.install(model, loss).predicting(labels):
            scores = model(**inputs).logits
    expected = functional.cross_entropy(
        logits[truth.ne(MISSING)], truth[truth.ne(MISSING)], reduction="none"
    )
    torch.testing.assert_close(scores[:, 0], expected)
    smoothed = functional.cross_entropy(
        logits[truth.ne(MISSING)], truth[truth.ne(MISSING)], label_smoothing=0.1
    )
    torch.testing.assert_close(loss({"logits": scores}, labels), smoothed)


def test_a_forward_pass_begins_with_the_buffers_as_they_are():
    """DDP copies them between processes then: with one of another shape it failed."""
    model, loss, seen = model_of("bart", AutoModelForSeq2SeqLM), TokenLoss(), []
    model.register_forward_pre_hook(
        lambda model, inputs: seen.append(model.final_logits_bias.shape)
    )
    learn(model, loss, fused_lm_loss.install(model, loss))
    assert seen == [(1, WORDS)]
    assert model.final_logits_bias.shape == (1, WORDS)


@pytest.mark.parametrize(("name", "kind"), DENSE.items(), ids=DENSE)
def test_a_model_that_does_more_with_its_logits_keeps_all_of_them(name, kind):
    assert fused_lm_loss.install(model_of(name, kind), TokenLoss()) is None
