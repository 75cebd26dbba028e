"""The recipe from end to end, on tiny data: scores that do not depend on the batch, documents apart, streams."""

import json

import numpy
import pytest
import torch
from conftest import SHORT, WITHOUT_TEST, as_if_killed, load_recipe, merged, predictions
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, pipeline

from recipes.common.model import loading
from recipes.common.predict.opening import open_folder
from recipes.common.runtime.errors import Refusal
from recipes.common.tokens import tokenising
from recipes.common.tokens.collators import CausalBlocks

RECIPE = "clm_pretrain"
FILES = ["--train_file", "text.txt", "--validation_file", "more.txt", "--output_dir", "out"]
TINY = ["--model_type", "gpt2", "--config_overrides", "n_embd=16,n_layer=1,n_head=2,n_positions=64"]
TINY += ["--tokenizer_algorithm", "bpe", "--vocab_size", "300", "--block_size", "32"]


@pytest.fixture(scope="module")
def recipe():
    return load_recipe(RECIPE)


def test_a_run_leaves_the_whole_contract(recipe, texts):
    metrics = recipe.main([*FILES, *TINY, *SHORT])
    assert {path.name for path in (texts / "out").iterdir()} >= WITHOUT_TEST | {"checkpoint-2"}
    assert metrics["perplexity"] == pytest.approx(numpy.exp(metrics["eval_loss"]))
    assert "## Continuations" in (texts / "out/README.md").read_text(encoding="utf-8")
    counts = json.loads((texts / "out/run.json").read_text())["tokens"]["train"]
    assert counts["tokens"] == counts["packed"]
    assert (
        counts["bytes"] == (texts / "text.txt").stat().st_size - 1
    )  # its last line break became the end token


@pytest.mark.parametrize("rows", ["1", "7"])
def test_a_smoothed_loss_is_validated_as_it_is_trained(rows, recipe, texts):
    """(1 - s) of the cross entropy and s of the mean over the 300 tokens; perplexity is unsmoothed."""
    flags = ["--label_smoothing_factor", "0.5", "--per_device_eval_batch_size", rows]
    metrics = recipe.main([*FILES, *TINY, *SHORT, *flags, "--bf16", "false"])
    assert metrics["perplexity"] == pytest.approx(numpy.exp(metrics["eval_cross_entropy"]))
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained("out"),
        AutoTokenizer.from_pretrained("out"),
    )
    text = (texts / "more.txt").read_text().removesuffix("\n")
    ids = torch.tensor([*tokenizer(text)["input_ids"], tokenizer.eos_token_id])
    losses, number = 0.0, 0
    for block in ids.split(32):
        logs = model(input_ids=block[None]).logits[0, :-1].log_softmax(-1)
        own = -logs.gather(1, block[1:, None]).sum()
        losses += 0.5 * own - 0.5 * logs.mean(-1).sum()
        number += len(block) - 1
    assert metrics["eval_loss"] == pytest.approx(float(losses) / number, rel=1e-4)


def test_what_repeats_is_learned(recipe, texts):
    (texts / "text.txt").write_text("to and fro " * 400, encoding="utf-8")
    own = "--validation_file text.txt --max_steps 60 --eval_steps 60 --save_steps 60".split()
    metrics = recipe.main(merged(*FILES, *TINY, *SHORT, *own, "--learning_rate", "1e-2"))
    assert metrics["eval_accuracy"] > 0.5


def test_the_blocks_are_the_text(recipe, texts):
    recipe.main([*FILES, *TINY, *SHORT])
    text = (texts / "more.txt").read_text()
    assert "".join(row["text"] for row in predictions()) == text.removesuffix("\n")


def test_prepared_tokens_are_read_by_the_runs_that_follow(recipe, texts, monkeypatch, capsys):
    flags = [*FILES, *TINY, *SHORT, "--prepared_dir", "prepared"]
    assert recipe.main([*flags, "--prepare_only"]) == {}
    assert "prepared    prepared\n" in capsys.readouterr().out
    assert not (texts / "out").exists()
    plain = recipe.main(merged(*flags[:-2], "--output_dir", "plain"))
    monkeypatch.setattr(tokenising, "_tokenise", None)  # nothing is tokenised again
    assert recipe.main(flags)["eval_loss"] == plain["eval_loss"]


def test_perplexity_is_the_same_for_every_batch_size_and_seed(recipe, texts):
    recipe.main([*FILES, *TINY, *SHORT])
    flags = (
        "--model_name_or_path out --do_eval --bf16 false --validation_file more.txt --block_size 16"
    ).split()
    scores = [
        recipe.main(
            [
                *flags,
                "--per_device_eval_batch_size",
                size,
                "--seed",
                seed,
                "--output_dir",
                f"e{size}",
            ]
        )
        for size, seed in (("1", "1"), ("4", "2"), ("8", "3"), ("23", "4"))
    ]
    perplexities = [score["perplexity"] for score in scores]
    assert max(perplexities) - min(perplexities) < 1e-6 * max(perplexities)


def test_an_overlapping_window_predicts_all_tokens_but_the_first(recipe, texts):
    recipe.main([*FILES, *TINY, *SHORT])
    flags = (
        "--model_name_or_path out --do_eval --bf16 false --validation_file more.txt --block_size 16"
    ).split()
    recipe.main([*flags, "--eval_stride", "4", "--output_dir", "stride"])
    counts = json.loads((texts / "stride/run.json").read_text())["tokens"]["validation"]
    assert sum(row["tokens"] for row in predictions("stride")) == counts["tokens"] - 1


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "qwen2", "gpt_neox"])
def test_packed_documents_have_the_loss_of_the_same_documents_alone(model_type):
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    config = AutoConfig.for_model(
        model_type, **sizes, vocab_size=40, num_key_value_heads=2, use_cache=False
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    loading.check_isolation(model, end=1)
    documents = [[5, 6, 7, 8, 1], [9, 10, 1], [11, 12, 13, 14, 15, 16, 1]]
    packed = CausalBlocks(0, 1, isolate=True)([{"input_ids": sum(documents, []), "context": 0}])
    labels = packed.pop("labels")
    with torch.inference_mode():
        logits = model(**packed).logits
        alone = [model(input_ids=torch.tensor([ids])).logits for ids in documents]
    assert losses(logits, labels).sum().item() == pytest.approx(
        sum(
            losses(found, torch.tensor([ids])).sum().item()
            for found, ids in zip(alone, documents, strict=True)
        ),
        abs=1e-5,
    )


def losses(logits, labels):
    return torch.nn.functional.cross_entropy(
        logits[0, :-1], labels[0, 1:], reduction="none", ignore_index=-100
    )


def test_an_architecture_that_mixes_documents_is_refused():
    config = AutoConfig.for_model("bloom", hidden_size=16, n_layer=1, n_head=2, vocab_size=40)
    with pytest.raises(Refusal, match="bloom does not keep"):
        loading.check_isolation(AutoModelForCausalLM.from_config(config), end=1)


@pytest.mark.parametrize(
    "flags",
    [
        ["--packing_isolation", "--keep_linebreaks", "false"],
        ["--tokenizer_algorithm", "char"],
        (
            "--tokenizer_algorithm unigram --vocab_size 70 --model_type llama --config_overrides"
        ).split()
        + [
            "hidden_size=16,num_hidden_layers=1,num_attention_heads=2,intermediate_size=32,num_key_value_heads=2"
        ],
        ["--streaming", "--max_steps", "2"],
    ],
    ids=lambda flags: flags[0] + flags[1],
)
def test_other_ways_to_train(flags, recipe, texts):
    assert 1 < recipe.main(merged(*FILES, *TINY, *SHORT, *flags))["perplexity"] < 1000


def test_a_stream_killed_in_mid_epoch_goes_on_bit_for_bit(recipe, texts):
    flags = merged(
        *FILES,
        *TINY,
        *SHORT,
        "--streaming",
        "--max_steps",
        "8",
        "--save_steps",
        "3",
        "--save_total_limit",
        "9",
    )
    whole = recipe.main(merged(*flags, "--output_dir", "whole"))
    recipe.main(flags)
    as_if_killed(texts / "out", "checkpoint-3")
    assert (texts / "out/checkpoint-3/stream.json").exists()
    assert recipe.main(flags)["eval_loss"] == whole["eval_loss"]
    first, second = (load_file(f"{folder}/model.safetensors") for folder in ("whole", "out"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    steps = json.loads((texts / "out/trainer_state.json").read_text("utf-8"))["log_history"]
    assert [log["epoch"] for log in steps if "eval_loss" in log][-1] == 1.0


def test_a_stream_holds_out_the_same_rows_at_every_pass(recipe, texts):
    flags = "--train_file text.txt --output_dir out --streaming --keep_linebreaks false".split()
    recipe.main(merged(*flags, *TINY, *SHORT, "--validation_split_percentage", "20"))
    account = json.loads((texts / "out/run.json").read_text())["rows"]
    assert account["train"]["used"] + account["validation"]["used"] == 60
    assert 4 <= account["validation"]["used"] <= 20


def test_a_stream_from_the_hub_needs_the_number_of_steps(recipe, texts):
    (texts / "hub").mkdir()
    (texts / "text.txt").rename(texts / "hub/train.txt")
    flags = merged("--dataset_name", "hub", "--streaming", "--output_dir", "out", *TINY)
    with pytest.raises(Refusal, match="length of a stream from the Hub is not known"):
        recipe.main([*flags, "--do_train", "--do_eval"])
    steps = merged(*flags, *SHORT, "--do_train", "--do_eval", "--validation_split_percentage", "20")
    metrics = recipe.main([*steps, "--overwrite_output_dir"])
    assert metrics["perplexity"] > 1


LLAMA = ["--model_type", "llama", "--vocab_size", "300", "--block_size", "32", "--config_overrides"]
LLAMA += [
    "hidden_size=16,num_hidden_layers=1,num_attention_heads=2,intermediate_size=32,num_key_value_heads=2"
]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], "bpe, 292 tokens, gives back 100.0% of the text as it was"),
        (
            ["--do_lower_case"],
            "bpe, 291 tokens, gives back 100.0% of the lower-cased text as it was",
        ),
        (
            ["--tokenizer_algorithm", "wordpiece"],
            "wordpiece, 67 tokens, gives back 0.0% of the text as it was",
        ),
    ],
    ids=["the family's", "lower-cased", "another"],
)
def test_the_summary_says_how_much_of_the_text_the_tokenizer_gives_back(
    flags, expected, recipe, texts, capsys
):
    (texts / "text.txt").write_text(
        "def Soup():\n    return Good\n\n\nclass Room:\n    Cold = 1\n" * 40, "utf-8"
    )
    recipe.main([*FILES, *LLAMA, *SHORT, *flags])
    (line,) = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith("tokenizer ")
    ]
    assert line.partition(" (")[0] == f"tokenizer   {expected}"
    assert ("(--tokenizer_algorithm bpe: all of it)" in line) == (" 0.0%" in expected)


def test_pipeline_goes_on_from_a_text(recipe, texts):
    recipe.main([*FILES, *TINY, *SHORT])
    (answer,) = pipeline("text-generation", model="out", device="cpu")("the soup", max_new_tokens=4)
    assert answer["generated_text"].startswith("the soup")
    with pytest.raises(Refusal, match="causal language model"):
        open_folder("out")


@pytest.mark.parametrize(("model_type", "is_dense"), [("llama", False), ("gemma2", True)])
def test_a_model_whose_logits_are_all_computed_is_named(
    model_type, is_dense, recipe, texts, capsys
):
    """Gemma 2 bounds its logits: the head cannot leave out those without a label."""
    sizes = "hidden_size=16,num_hidden_layers=1,num_attention_heads=2,num_key_value_heads=1"
    sizes += ",intermediate_size=16,head_dim=8"
    flags = ["--model_type", model_type, "--config_overrides", sizes, "--vocab_size", "300"]
    recipe.main([*FILES, *flags, "--block_size", "16", *SHORT])
    assert ("logits      of all positions" in capsys.readouterr().out) == is_dense
