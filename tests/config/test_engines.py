"""DeepSpeed's JSON agrees with the flags, and batches come out even.

Otherwise the run is refused with the product of the sizes.
"""

import json
from types import SimpleNamespace

import pytest
from conftest import ROOT, SCRATCH, SHORT, merged

from recipes.common.config import engines
from recipes.common.runtime.errors import Refusal

FILES = ["--train_file", "train.csv", "--output_dir", "out"]
AUTO = json.loads((ROOT / "ds_configs/zero2.json").read_text(encoding="utf-8"))
REFUSED = {  # flags, changes to the configuration, words of the message
    "another batch": (
        [],
        {"train_batch_size": 100},
        "is 100, but 4 rows x 1 accumulated x 1 processes = 4",
    ),
    "another micro-batch": (
        [],
        {"train_micro_batch_size_per_gpu": 3},
        "is 3, but 4 rows x 1 accumulated",
    ),
    "another accumulation": (
        [],
        {"gradient_accumulation_steps": 2},
        "is 2, but 4 rows x 1 accumulated",
    ),
    "another clipping": (
        ["--max_grad_norm", "1.0"],
        {"gradient_clipping": 0.5},
        "is 0.5, but --max_grad_norm is 1.0",
    ),
    "another precision": (
        ["--bf16", "false"],
        {"bf16": {"enabled": True}},
        "bf16.enabled is True, but --bf16",
    ),
    "no weights": ([], {"zero_optimization": {"stage": 3}}, "would save a model without weights"),
}


@pytest.fixture
def refuse(sentiment, reviews):
    """What a command is refused with."""

    def run(*flags):
        with pytest.raises(Refusal) as caught:
            sentiment.main(merged(*FILES, *SCRATCH, *SHORT, *flags))
        assert len(str(caught.value).splitlines()) == 3
        return str(caught.value)

    return run


@pytest.mark.parametrize("case", REFUSED)
def test_a_configuration_that_contradicts_a_flag_is_refused(case, refuse, reviews):
    flags, changes, message = REFUSED[case]
    (reviews / "ds.json").write_text(json.dumps(AUTO | changes), encoding="utf-8")
    assert message in refuse("--deepspeed", "ds.json", *flags)


def test_an_unknown_configuration_is_refused_with_the_nearest(refuse):
    assert "did you mean zero2?" in refuse("--deepspeed", "zer2")


@pytest.mark.parametrize("action", ["--do_eval", "--do_predict"])
def test_to_evaluate_nothing_is_refused(action, refuse):
    assert "nothing is trained, and no model is named" in refuse(action, "--test_file", "test.csv")


def test_a_model_cannot_be_shared_by_one_process(refuse):
    assert "a single process cannot shard a model" in refuse("--fsdp")


BY_FSDP = {  # flags, options of the plugin, words of the message
    "only to evaluate": ({"do_train": False}, {}, "works in a training only"),
    "the first version": ({}, {"fsdp_version": 1}, "only the second version of FSDP"),
    "states in parts": ({}, {"state_dict_type": "SHARDED_STATE_DICT"}, "would save no whole model"),
    "activations": (
        {},
        {"activation_checkpointing": True},
        "computes activations again with other dropout",
    ),
    "offloading": ({}, {"cpu_offload": True}, "offloads nothing here"),
    "fp16": ({"fp16": True}, {}, "the loss scale of fp16"),
    "every node": ({"save_on_each_node": True}, {}, "on the first machine only"),
}
FSDP2 = {"fsdp_version": 2, "state_dict_type": "FULL_STATE_DICT"}
PLAIN = {"do_train": True, "fp16": False, "save_on_each_node": False, "use_cpu": True}


@pytest.mark.parametrize("case", BY_FSDP)
def test_what_fsdp_would_do_wrong_is_refused(case):
    flags, options, message = BY_FSDP[case]
    engines._check_fsdp(SimpleNamespace(**PLAIN, fsdp_plugin_args=FSDP2))
    with pytest.raises(Refusal, match=message):
        engines._check_fsdp(SimpleNamespace(**PLAIN | flags, fsdp_plugin_args=FSDP2 | options))


def test_fsdp_on_the_cpus_of_a_machine_with_gpus_is_refused(monkeypatch):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    with pytest.raises(Refusal, match="takes the GPUs"):
        engines._check_fsdp(SimpleNamespace(**PLAIN, fsdp_plugin_args=FSDP2))


@pytest.mark.parametrize(("asked", "used"), [({}, False), ({"ACCELERATE_USE_FSDP": "true"}, True)])
def test_accelerates_configuration_asks_for_fsdp_as_the_flag_does(asked, used, monkeypatch):
    for name, value in ({"WORLD_SIZE": "2"} | asked).items():
        monkeypatch.setenv(name, value)
    assert engines.uses_fsdp(SimpleNamespace(fsdp=None)) == used
    assert engines.uses_fsdp(SimpleNamespace(fsdp=True))


def test_without_a_compiler_deepspeed_is_refused_on_cpu(refuse, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("recipes.common.config.engines.shutil.which", lambda name: None)
    config = SimpleNamespace(mismatches=[], config={}, is_zero3=lambda: False)
    arguments = SimpleNamespace(deepspeed="zero2", use_cpu=True, hf_deepspeed_config=config)
    with pytest.raises(Refusal, match="there is no C.. compiler"):
        engines._check_deepspeed(arguments)


def test_without_a_compiler_torch_compile_is_refused_on_cpu(refuse, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "torch.compile needs a C++ compiler on CPU" in refuse("--torch_compile")


def test_an_unknown_backend_of_torch_compile_is_refused_with_the_nearest(refuse):
    assert "did you mean inductor?" in refuse("--torch_compile_backend", "inducter")


def test_batches_that_are_split_between_processes_are_refused(refuse):
    assert "another meaning" in refuse("--accelerator_config", '{"split_batches": true}')


def test_batches_that_shrink_where_memory_is_short_are_refused(refuse):
    assert "--global_batch_size N" in refuse("--auto_find_batch_size")


def test_weights_of_four_bits_are_not_shared_out(refuse):
    flags = ["--load_in_4bit", "--lora_rank", "2", "--model_name_or_path", "base"]
    assert "weights of four bits cannot be sharded" in refuse("--deepspeed", "zero3", *flags)


def test_the_accumulation_follows_from_the_global_batch(monkeypatch):
    for processes, rows, accumulated in ((1, 16, 2), (2, 8, 2), (4, 8, 1), (1, 4, 8)):
        monkeypatch.setenv("WORLD_SIZE", str(processes))
        values = {"global_batch_size": 32, "per_device_train_batch_size": rows}
        engines.choose(values)
        assert values["gradient_accumulation_steps"] == accumulated


def test_a_global_batch_that_does_not_come_out_even_is_refused_with_the_sums(refuse, monkeypatch):
    assert "a step of 30 rows cannot be taken by 1 processes x 4 rows = 4" in refuse(
        "--global_batch_size", "30"
    )
    assert "4 rows x 3 accumulated x 1 processes = 12, not 16" in refuse(
        "--global_batch_size", "16", "--gradient_accumulation_steps", "3"
    )


def test_a_global_batch_takes_as_many_rows_per_step_as_asked(sentiment, reviews):
    sentiment.main(
        merged(*FILES, *SCRATCH, *SHORT, "--global_batch_size", "12", "--num_train_epochs", "1")
    )
    flags = (reviews / "out/run.yaml").read_text(encoding="utf-8")
    assert "gradient_accumulation_steps: 3\n" in flags
    assert "global_batch_size: 12\n" in flags


def test_every_shipped_configuration_leaves_all_sizes_to_the_flags():
    paths = sorted((ROOT / "ds_configs").glob("*.json"))
    assert len(paths) == 5
    for path in paths:
        config = json.loads(path.read_text(encoding="utf-8"))
        assert {config[name] for name in engines.SIZES} == {"auto"}
        assert not {"optimizer", "scheduler"} & set(config)
        if config["zero_optimization"]["stage"] == 3:
            assert config["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] is True
