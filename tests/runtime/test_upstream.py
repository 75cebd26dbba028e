"""What other libraries keep private and we rely on: an upgrade that moves one of these names fails here, by name."""

import copy
import inspect
import json

import datasets
import pytest
import sacrebleu
import torch
import tqdm
import transformers
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from conftest import ROOT
from measurements import private_names, read
from safetensors.torch import load_file

from recipes.common.runtime import upstream
from recipes.common.train.trainer import Trainer

pytest_plugins = ["trainers"]
TINY_BERT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9}

# The private methods of transformers' Trainer that ours overrides -> their parameters.
OVERRIDDEN = {
    "_finalize_training": ["trial", "num_train_samples", "start_time"],
    "_get_dataloader": (
        "dataset description batch_size sampler_fn is_training dataloader_key"
    ).split(),
    "_get_grad_norm": ["model", "grad_norm"],
    "_load_best_model": [],
    "_load_from_checkpoint": ["resume_from_checkpoint", "model"],
    "_load_optimizer_and_scheduler": ["checkpoint"],
    "_run_epoch": [
        *(
            "model",
            "epoch",
            "train_dataloader",
            "steps_in_epoch",
            "num_update_steps_per_epoch",
            "trial",
        ),
        *("ignore_keys_for_eval", "start_time", "resume_from_checkpoint", "epochs_trained"),
        "steps_trained_in_current_epoch",
    ],
    "_save": ["output_dir", "state_dict"],
    "_save_checkpoint": ["model", "trial"],
}
# The private methods that `upstream` calls -> their parameters.
CALLED = {
    "_get_num_items_in_batch": ["batch_samples", "device"],
    "_get_output_dir": ["trial"],
    "_maybe_log_save_evaluate": [
        *(
            "tr_loss",
            "grad_norm",
            "model",
            "trial",
            "epoch",
            "ignore_keys_for_eval",
            "start_time",
            "learning_rate",
        )
    ],
    "_prepare_inputs": ["inputs"],  # by the Trainer itself
    "_push_from_checkpoint": ["checkpoint_folder"],
    "_save_optimizer_and_scheduler": ["output_dir"],
    "_set_signature_columns_if_needed": [],
}


@pytest.mark.parametrize(("name", "parameters"), [*(OVERRIDDEN | CALLED).items()])
def test_a_private_method_of_trainer_takes_what_it_took(name, parameters):
    method = getattr(transformers.Trainer, name)
    assert [*inspect.signature(method).parameters] == ["self", *parameters]


def test_every_override_of_a_private_method_is_listed():
    own = {name for name, value in vars(Trainer).items() if inspect.isfunction(value)}
    private = {name for name in own if name.startswith("_") and not name.startswith("__")}
    assert private & {*dir(transformers.Trainer)} == {*OVERRIDDEN}


def test_at_most_sixteen_methods_of_trainer_are_overridden():
    own = {name for name, value in vars(Trainer).items() if inspect.isfunction(value)}
    assert len(own & {*dir(transformers.Trainer)} - {"__init__"}) <= 16


class SeenLosses(transformers.TrainerCallback):
    """What Trainer knows of its losses, at the end of each step before it logs."""

    def __init__(self):
        self.losses = []

    def on_step_end(self, args, state, control, **options):
        self.losses.append(
            upstream.progress_of_loss(self.trainer) | {"sum": upstream.loss_since_log(self.trainer)}
        )


def test_the_loss_since_the_last_log_is_where_it_was(trainer):
    built, seen = trainer(max_steps=4, logging_steps=2, learning_rate=0.0), SeenLosses()
    seen.trainer = built
    built.add_callback(seen)
    built.train()
    first, second, third, _ = seen.losses
    assert isinstance(first["sum"], torch.Tensor)
    assert 0 < first["loss"] < second["loss"] and third["loss"] < second["loss"]
    assert [found["logged_step"] for found in seen.losses] == [0, 0, 2, 2]
    assert first["total_loss"] == 0 < third["total_loss"]


def test_the_losses_of_a_run_that_continues_are_taken_up(trainer):
    built = trainer(max_steps=1)
    built.train()
    upstream.continue_losses(built, {"loss": 1.5, "total_loss": 6.0, "logged_step": 3})
    found = upstream.progress_of_loss(built)
    assert (found["total_loss"], found["logged_step"]) == (6.0, 3)


def test_the_final_report_counts_the_steps_before_a_resume_too(trainer):
    """Trainer divides by the steps since its `_initial_global_step`."""
    built = trainer(max_steps=2)
    built.train()
    assert built._initial_global_step == 0
    built._initial_global_step = 1
    upstream.count_all_steps(built)
    assert built._initial_global_step == 0


def test_columns_are_let_through_once(trainer):
    built = trainer()
    upstream.keep_columns(built, ["mine"])
    upstream.keep_columns(built, ["mine"])
    assert built._signature_columns.count("mine") == 1
    assert "input_ids" in built._signature_columns


def test_the_batch_size_and_the_folder_are_those_of_the_flags(trainer, tmp_path):
    built = trainer(per_device_train_batch_size=3)
    assert upstream.batch_size(built) == 3
    assert upstream.run_folder(built, None) == str(tmp_path / "out")


def test_every_function_of_upstream_is_used():
    found = [value for value in vars(upstream).values() if inspect.isfunction(value)]
    names = [value.__name__ for value in found if value.__module__ == upstream.__name__]
    assert len(names) > 5
    texts = [path.read_text("utf-8") for path in ROOT.glob("recipes/common/**/*.py")]
    assert [name for name in names if not any(f"upstream.{name}(" in text for text in texts)] == []


# argparse's list of flags, the end of a process, and a method that our Trainer has from its own class.
KNOWN = {"_actions", "_exit", "_prepare_inputs"}


def test_no_other_module_reads_a_private_name_of_a_library():
    modules = [module for module in read(ROOT) if module.name != "runtime.upstream"]
    assert len(modules) > 100
    assert private_names(modules) == KNOWN


# --- The other libraries: each name does what we rely on ---


def test_a_model_is_saved_without_a_push():
    assert "_internal_call" in inspect.signature(transformers.Trainer.save_model).parameters


def test_torch_compiles_extensions_under_this_lock(monkeypatch):
    from torch.utils import cpp_extension

    monkeypatch.setattr(cpp_extension, "FileBaton", cpp_extension.FileBaton)
    upstream.lock_extensions_by(dict)
    assert cpp_extension.FileBaton is dict
    assert "FileBaton(" in inspect.getsource(cpp_extension._jit_compile)


def test_wrappers_put_these_names_in_front_of_a_weight():
    layer = torch.nn.Linear(1, 1)
    names = {name.removesuffix("weight") for name in torch.compile(layer).state_dict()}
    assert "_orig_mod." in names and "_orig_mod." in upstream.WRAPPERS
    from torch.distributed.fsdp._common_utils import FSDP_PREFIX

    assert FSDP_PREFIX in upstream.WRAPPERS


def test_save_to_disk_names_its_files(tmp_path):
    datasets.Dataset.from_dict({"text": ["a", "b"]}).save_to_disk(tmp_path)
    state = json.loads((tmp_path / "state.json").read_text())
    assert [(tmp_path / name).is_file() for name in upstream.saved_files(state)] == [True]


def test_an_auto_class_maps_configurations_to_models():
    found = upstream.architectures(transformers.AutoModelForMaskedLM)
    assert found[transformers.BertConfig] is transformers.BertForMaskedLM
    assert transformers.T5Config not in found


def test_the_attention_and_the_weights_that_are_not_saved():
    config = transformers.BertConfig(**TINY_BERT, attn_implementation="eager")
    assert upstream.attention_of(config) == "eager"
    assert upstream.attention_of(None) == ""
    tiny = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 9}
    tiny |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    marian = transformers.MarianMTModel(transformers.MarianConfig(**tiny, pad_token_id=0))
    assert "model.encoder.embed_positions.weight" in upstream.names_not_saved(marian)


class SeenForward(transformers.TrainerCallback):
    """The forward pass that accelerate has wrapped, in training."""

    def on_step_end(self, args, state, control, model=None, **options):
        self.found = upstream.forward_as_built(model)


def test_the_forward_pass_that_accelerate_wraps(trainer):
    built, seen = trainer(max_steps=1, bf16=True), SeenForward()
    own = built.model.forward
    assert upstream.forward_as_built(built.model) is None
    built.add_callback(seen)
    built.train()
    assert seen.found == own


def test_generation_settings_are_kept_by_from_pretrained(tmp_path):
    sizes = {"d_model": 8, "d_kv": 4, "num_heads": 2, "d_ff": 8, "num_layers": 1, "vocab_size": 9}
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes))
    upstream.keep_generation_settings(model.generation_config)
    model.generation_config.prefix = "say: "
    model.save_pretrained(tmp_path)
    again = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path)
    assert again.generation_config.prefix == "say: "


def test_weights_are_saved_under_the_names_that_the_model_has(tmp_path):
    model = transformers.BertModel(transformers.BertConfig(**TINY_BERT))
    upstream.keep_weight_names(model)
    model.save_pretrained(tmp_path)
    assert {*load_file(tmp_path / "model.safetensors")} == {*model.state_dict()}


def test_models_are_built_whole_without_a_configuration_of_deepspeed():
    from transformers.integrations import deepspeed

    configuration = deepspeed.HfDeepSpeedConfig({"zero_optimization": {"stage": 3}})
    assert deepspeed.is_deepspeed_zero3_enabled()
    with upstream.without_deepspeed():
        assert not deepspeed.is_deepspeed_zero3_enabled()
    assert deepspeed.is_deepspeed_zero3_enabled()
    del configuration


def test_the_parts_and_the_parameters_of_a_module():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
    assert [*upstream.submodules(model)] == ["0", "1"]
    upstream.submodules(model).pop("1")
    assert len(model) == 1
    twin = copy.copy(model[0])
    upstream.give_own_parameters(twin)
    twin.weight = torch.nn.Parameter(torch.zeros(2, 2))
    assert model[0].weight.any() and twin.bias is model[0].bias


def test_the_rates_of_a_schedule():
    optimizer = torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), 0.5)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    assert upstream.last_rates(scheduler) == [0.5]
    upstream.set_last_rates(scheduler, [0.25])
    assert scheduler.get_last_lr() == [0.25]
    assert upstream.last_rates(object()) is None


def test_whether_a_cpu_multiplies_bf16_is_answered():
    assert upstream.cpu_multiplies_bf16() in (True, False)


def test_the_timeout_of_a_group_can_be_set():
    parameters = inspect.signature(torch.distributed.distributed_c10d._set_pg_timeout).parameters
    assert [*parameters][0] == "timeout"


def test_a_single_gpu_and_the_kind_of_distribution(monkeypatch):
    arguments = transformers.TrainingArguments(use_cpu=True)
    upstream.use_one_gpu(arguments)
    assert arguments.n_gpu == 1
    state = PartialState(cpu=True)
    monkeypatch.setitem(PartialState._shared_state, "distributed_type", state.distributed_type)
    upstream.set_distributed_type(DistributedType.FSDP)
    assert PartialState().distributed_type == DistributedType.FSDP


def test_a_data_set_keeps_its_fingerprint():
    data = datasets.Dataset.from_dict({"a": [1]})
    again = datasets.Dataset(data.data, data.info, fingerprint=upstream.fingerprint_of(data))
    assert upstream.fingerprint_of(again) == upstream.fingerprint_of(data) != ""


def test_bleu_is_a_function_of_the_summed_counts_of_the_rows():
    hypotheses = ["the cold soup was good", "a b c d e"]
    references = [["the soup was good", "a b c d f"]]
    bleu = sacrebleu.BLEU()
    rows = upstream.counts_of_rows(bleu, hypotheses, references)
    sums = [sum(column) for column in zip(*rows, strict=True)]
    expected = bleu.corpus_score(hypotheses, references).score
    assert upstream.score_of_counts(bleu)(sums) == pytest.approx(expected)


def test_the_bars_that_are_shown():
    with tqdm.tqdm(total=1) as bar:
        assert bar in upstream.bars(tqdm.tqdm)
    assert bar not in upstream.bars(tqdm.tqdm)
