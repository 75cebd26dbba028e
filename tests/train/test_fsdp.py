"""A model whose weights two processes share out by FSDP2 learns what a whole one learns, whatever its architecture."""

import json
from types import SimpleNamespace

import pytest
from conftest import ROOT
from test_fused_lm_loss import CASES, model_of
from test_processes import torchrun
from transformers import AutoModelForSequenceClassification

from recipes.common.train import fsdp

LAYERS = {
    "albert": ["AlbertLayerGroup"],
    "bart": ["BartDecoderLayer", "BartEncoderLayer"],
    "bert": ["BertLayer"],
    "deberta-v2": ["DebertaV2Layer"],
    "distilbert": ["TransformerBlock"],
    "gpt2": ["GPT2Block"],
    "t5": ["T5Block"],
}
PROBE = """
import copy, json, sys
import torch, transformers
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/tests", sys.argv[1] + "/tests/train"]
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from recipes.common.runtime import joining, processes
from recipes.common.train import fsdp, fused_lm_loss, losses
from test_fused_lm_loss import CASES, PAIRED, WORDS, batch_of, learn, model_of
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

def distance_and_share(name, kind):
    loss = losses.TokenLoss(shift=kind is transformers.AutoModelForCausalLM)
    model = model_of(name, kind)
    if name in PAIRED:
        model.resize_token_embeddings(WORDS + 3)  # which puts one module in the places of three
    _, expected = learn(copy.deepcopy(model), loss)
    head = fused_lm_loss.install(model, loss)
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=True)
    fsdp.begin(accelerator, arguments)
    model, _ = accelerator.prepare(model, torch.optim.AdamW(model.parameters()))
    inputs, labels = batch_of(model)
    number = losses.count(loss.predicted(labels))
    mine = slice(2 * processes.rank(), 2 * processes.rank() + 2)
    with head.predicting(labels[mine]):
        value = loss(model(**{name: values[mine] for name, values in inputs.items()}), labels[mine], number)
    (value * 2).backward()  # FSDP averages over the processes
    found = {name: one.grad.full_tensor() for name, one in model.named_parameters() if one.grad is not None}
    assert found.keys() >= expected.keys(), expected.keys() - found.keys()
    load_after_an_evaluation(accelerator, model, inputs)
    held = sum(one.to_local().numel() for one in model.parameters())
    distances = [(gradient - expected.get(name, 0)).abs().max().item() for name, gradient in found.items()]
    return max(distances), held / sum(one.numel() for one in model.parameters())

def load_after_an_evaluation(accelerator, model, inputs):
    weights = accelerator.get_state_dict(model)
    with torch.no_grad():
        model(**inputs)  # leaves the embeddings gathered
    fsdp.reshard(model)
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, cpu_offload=True)
    set_model_state_dict(model, weights, options=options)

torch.set_num_threads(1)
arguments = transformers.TrainingArguments("out", use_cpu=True, fsdp=True)
joining.join(arguments, 2)
facts = {}
for name, kind in CASES:
    try:
        facts[name] = distance_and_share(name, kind)
    except Exception as error:
        facts[name] = f"{type(error).__name__}: {error}"
if not processes.rank():
    json.dump(facts, open("facts.json", "w"))
processes.leave()
"""


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """By architecture how far the gradients of two processes are from those of one, and the share one of them holds."""
    folder = tmp_path_factory.mktemp("sharding")
    (folder / "probe.py").write_text(PROBE, encoding="utf-8")
    ended = torchrun("probe.py", str(ROOT), folder=folder)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return json.loads((folder / "facts.json").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, _ in CASES])
def test_a_model_that_is_shared_out_learns_as_a_whole_one_and_loads_what_it_saved(name, learned):
    assert not isinstance(learned[name], str), learned[name]
    distance, share = learned[name]
    assert distance < 1e-6
    assert 0.4 < share < 0.6


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_known_by_the_list_in_which_they_stand(name):
    assert fsdp._layers(model_of(name, dict(CASES)[name])) == LAYERS[name]


@pytest.mark.parametrize(
    ("name", "shares"), [("t5", True), ("bart", True), ("bert", True), ("gpt2", False)]
)
def test_embeddings_stay_with_the_rest_where_another_part_uses_their_weights(name, shares):
    """T5's encoder, decoder and head use one matrix; BERT's head has one bias under two names."""
    model = model_of(name, dict(CASES)[name])
    embeddings = model.get_input_embeddings()
    plugin = SimpleNamespace(transformer_cls_names_to_wrap=None)
    with fsdp._laid_out(model, plugin):
        assert (model.get_input_embeddings() is None) == shares
    assert model.get_input_embeddings() is embeddings
    assert plugin.transformer_cls_names_to_wrap == LAYERS[name]


def test_a_classifier_shares_no_weights():
    assert not fsdp._shares_weights(model_of("bert", AutoModelForSequenceClassification))
