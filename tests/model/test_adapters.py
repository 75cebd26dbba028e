"""A folder of adapters answers, is evaluated and trained further, wherever it lies.

What does not fit is refused.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import load_recipe
from peft import IA3Config, LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
)

from recipes.common.model import adapters, weights
from recipes.common.model.tokenizer_training import train_tokenizer
from recipes.common.predict.continuing import Continuer
from recipes.common.predict.labelling import Classifier
from recipes.common.predict.mask_filling import MaskFiller
from recipes.common.predict.opening import open_folder
from recipes.common.runtime.errors import Refusal

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
DATA = ["--train_file", "train.csv", "--max_seq_length", "32", "--bf16", "false"]
TEXTS = ["the soup was good", "the room was bad"]
BASE = "model-under-the-adapters"  # no folder above a test has this name: those are searched too


def base(folder, model_class=BertForMaskedLM):
    """A tiny model and its tokenizer."""
    texts = ["the soup was warm and good", "the room was cold and the staff was rude and bad"] * 20
    if model_class is GPT2LMHeadModel:
        words = train_tokenizer(texts, "bpe", 300, "gpt2")
        sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
        config = GPT2Config(vocab_size=len(words), eos_token_id=words.eos_token_id, **sizes)
    else:
        words = train_tokenizer(texts, "wordpiece", 300, "bert")
        config = BertConfig(vocab_size=len(words), max_position_embeddings=64, **SIZES)
    torch.manual_seed(0)
    model_class(config).save_pretrained(folder)
    words.save_pretrained(folder)


@pytest.fixture
def trained(sentiment, reviews):
    """The scores of a run that trained adapters on BASE into `lora`."""
    base(BASE)
    flags = f"--model_name_or_path {BASE} --output_dir lora --lora_rank 2".split()
    return sentiment.main(
        [*DATA, *flags, *"--learning_rate 1e-2 --max_steps 2".split()]
        + "--eval_strategy no --save_strategy no".split()
    )


def answers(folder):
    return [row["scores"] for row in Classifier(str(folder)).answer(TEXTS)]


def close(found, expected):
    return all(
        row == pytest.approx(one, abs=1e-6) for row, one in zip(found, expected, strict=True)
    )


def test_an_evaluation_of_our_own_adapters_gives_their_training_s_scores(
    trained, sentiment, capsys
):
    """It ended in "cannot load lora: it has no config.json"."""
    again = sentiment.main(
        [*DATA, "--model_name_or_path", "lora", "--output_dir", "again", "--do_eval"]
    )
    assert again["eval_loss"] == pytest.approx(trained["eval_loss"], abs=1e-6)
    assert "LOAD REPORT" not in capsys.readouterr().err


def test_adapters_are_trained_further_and_the_model_under_them_stays(
    trained, sentiment, reviews, capsys
):
    before = load_file("lora/adapter_model.safetensors")
    sentiment.main(
        [*DATA, "--model_name_or_path", "lora", "--output_dir", "more", "--max_steps", "2"]
    )
    after = load_file("more/adapter_model.safetensors")
    assert after.keys() == before.keys()
    assert any(not torch.equal(after[name], before[name]) for name in after)
    assert not (reviews / "more/model.safetensors").exists()
    described = json.loads((reviews / "more/adapter_config.json").read_text(encoding="utf-8"))
    assert (described["r"], described["base_model_name_or_path"]) == (2, str(reviews / BASE))
    assert (
        "lora holds adapters of rank 2: the training continues with them" in capsys.readouterr().err
    )
    Classifier("more")
    with pytest.raises(Refusal, match="lora holds adapters of rank 2, not 8"):
        sentiment.main(
            [*DATA, "--model_name_or_path", "lora", "--output_dir", "other", "--lora_rank", "8"]
        )


def test_adapters_answer_from_every_folder_and_after_a_move(trained, reviews, monkeypatch, capsys):
    expected = answers("lora")
    monkeypatch.chdir(reviews.parent)
    assert close(answers(reviews / "lora"), expected)
    moved = reviews.parent / "moved"
    shutil.copytree(reviews, moved)
    shutil.move(reviews / BASE, reviews / "gone")
    assert close(answers(moved / "lora"), expected)
    assert f"is gone: using {moved / BASE}" in capsys.readouterr().err
    with pytest.raises(Refusal, match=f"the model under the adapters is gone: {reviews / BASE}"):
        Classifier(str(reviews / "lora"))


def test_a_relative_path_is_looked_for_beside_the_adapters(trained, reviews, monkeypatch):
    """As PEFT writes it, and as these recipes did."""
    expected = answers("lora")
    describe(base_model_name_or_path=BASE)
    (reviews / "elsewhere").mkdir()
    monkeypatch.chdir(reviews / "elsewhere")
    assert close(answers("../lora"), expected)


def describe(**changes):
    """Writes lora/adapter_config.json again with changes."""
    path = Path("lora/adapter_config.json")
    path.write_text(
        json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8"
    )


def rewrite(change):
    path = "lora/adapter_model.safetensors"
    pairs = [change(name, value) for name, value in load_file(path).items()]
    save_file(
        {name: value.clone() for name, value in filter(None, pairs)},
        path,
        metadata={"format": "pt"},
    )


def drop(part):
    rewrite(lambda name, value: None if part in name else (name, value))


def more_layers():
    found = load_file("lora/adapter_model.safetensors")
    found |= {
        name.replace("layer.1.", "layer.7."): found[name].clone()
        for name in found
        if "layer.1." in name
    }
    save_file(found, "lora/adapter_model.safetensors", metadata={"format": "pt"})


MISFITS = {  # what is done to a good folder, and the words of the refusal
    "without a layer": (
        lambda: drop("layer.1."),
        "lacks the weight .*layer.1",
    ),
    "without the head": (
        lambda: drop("classifier"),
        "lacks the weight .*class",
    ),
    "without a pooler": (lambda: drop("pooler"), "lacks the weight .*pooler"),
    "for more layers": (more_layers, "the model has no .*layer.7"),
    "of other sizes": (
        lambda: rewrite(lambda n, v: (n, v[:1] if "lora_A" in n else v)),
        "size mismatch",
    ),
    "not finite": (lambda: rewrite(lambda n, v: (n, v * float("nan"))), "is not finite"),
    "without a file": (
        lambda: Path("lora/adapter_model.safetensors").unlink(),
        "cannot load the adapters",
    ),
    "a file of no kind": (
        lambda: Path("lora/adapter_model.safetensors").write_bytes(b"x"),
        "cannot load the adapters",
    ),
    "a description of no kind": (
        lambda: Path("lora/adapter_config.json").write_text("[1"),
        "not what PEFT writes",
    ),
    "of no model": (lambda: describe(base_model_name_or_path=None), "does not say which model"),
    "of a model nowhere": (
        lambda: describe(base_model_name_or_path="no/such"),
        "cannot load no/such",
    ),
}


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """The folder of BASE and `lora`, which PEFT made with a configuration of ours beside it."""
    folder = tmp_path_factory.mktemp("adapted")
    base(folder / BASE)
    by_peft(folder / BASE, folder / "lora", BertForSequenceClassification, task_type="SEQ_CLS")
    return folder


def by_peft(source, folder, model_class, task_type=None):
    """Adapters as someone makes them with PEFT alone."""
    torch.manual_seed(1)
    model = model_class.from_pretrained(
        source, **({"num_labels": 3} if task_type == "SEQ_CLS" else {})
    )
    whole = ["pooler"] if task_type == "SEQ_CLS" else None
    options = {"exclude_modules": whole, "modules_to_save": whole, "task_type": task_type}
    config = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False, **options)
    adapted = get_peft_model(model, config).eval()
    adapted.save_pretrained(folder)
    return adapted


@pytest.mark.parametrize("case", MISFITS)
def test_adapters_that_do_not_fit_are_refused(case, adapted, in_tmp_path, sentiment):
    shutil.copytree(adapted, in_tmp_path, dirs_exist_ok=True)
    change, words = MISFITS[case]
    change()
    with pytest.raises(Refusal, match=words):
        Classifier("lora")


def test_weights_that_are_no_lora_adapters_are_refused(in_tmp_path):
    base(BASE, BertForSequenceClassification)
    model = BertForSequenceClassification.from_pretrained(BASE)
    get_peft_model(model, IA3Config(task_type="SEQ_CLS")).save_pretrained("lora")
    with pytest.raises(Refusal, match="IA3.* weights, not LoRA adapters"):
        Classifier("lora")


def test_a_classifier_that_peft_wrote_answers_with_its_number_of_classes(adapted, monkeypatch):
    """It has neither a configuration nor a tokenizer: both are those of the base model."""
    monkeypatch.chdir(adapted.parent)
    expected = by_peft(
        adapted / BASE, adapted / "same", BertForSequenceClassification, task_type="SEQ_CLS"
    )
    found = open_folder(str(adapted / "lora"))
    assert found.names == ["LABEL_0", "LABEL_1", "LABEL_2"]
    ids = torch.tensor([[5, 6, 7, 8]])
    assert torch.allclose(found.model.to("cpu")(ids).logits, expected(ids).logits, atol=1e-6)


def test_other_models_that_peft_wrote_answer_and_are_trained_further(texts, capsys):
    base("masked")
    base("causal", GPT2LMHeadModel)
    by_peft("masked", "fills", BertForMaskedLM)
    by_peft("causal", "goes-on", GPT2LMHeadModel, task_type="CAUSAL_LM")
    assert isinstance(open_folder("fills"), MaskFiller)
    assert (
        len(Continuer("goes-on").write("the soup", {"max_new_tokens": 2, "do_sample": False})) == 1
    )
    flags = "--train_file text.txt --max_steps 1 --bf16 false --output_dir out".split()
    load_recipe("clm_pretrain").main(
        [*flags, "--model_name_or_path", "goes-on", "--block_size", "16"]
    )
    Continuer("out")


def test_adapters_of_the_hub_are_trained_further_by_their_name(texts, capsys):
    base(BASE, GPT2LMHeadModel)
    by_peft(BASE, "lora", GPT2LMHeadModel, task_type="CAUSAL_LM")
    describe(base_model_name_or_path=f"me/{BASE}")
    for name in (BASE, "lora"):
        as_if_downloaded(name, Path("hub"))
    flags = "--train_file text.txt --max_steps 1 --bf16 false --output_dir out".split()
    flags += f"--model_name_or_path me/lora --tokenizer_name me/{BASE} --cache_dir hub".split()
    load_recipe("clm_pretrain").main([*flags, "--block_size", "16"])
    trained = json.loads(Path("out/adapter_config.json").read_text(encoding="utf-8"))
    assert (trained["base_model_name_or_path"], trained["r"]) == (f"me/{BASE}", 2)
    assert "me/lora" in Path("out/README.md").read_text(encoding="utf-8")


def test_adapters_with_another_tokenizer_are_warned_of(texts, capsys):
    base(BASE, GPT2LMHeadModel)
    by_peft(BASE, "lora", GPT2LMHeadModel, task_type="CAUSAL_LM")
    other = train_tokenizer(["the soup was good"] * 20, "bpe", 290, "llama")
    other.save_pretrained("other")
    flags = (
        "--train_file text.txt --max_steps 1 --bf16 false --output_dir out --block_size 16".split()
    )
    flags += "--model_name_or_path lora --tokenizer_name other".split()
    load_recipe("clm_pretrain").main(flags)
    assert "the tokenizer is not the checkpoint's own" in capsys.readouterr().err


def test_a_model_in_the_cache_is_no_reason_to_ask_the_hub_for_adapters(in_tmp_path, monkeypatch):
    (in_tmp_path / BASE).mkdir()
    (in_tmp_path / BASE / "config.json").write_text("{}", encoding="utf-8")
    as_if_downloaded(BASE, Path("hub"))
    monkeypatch.setattr(adapters, "hf_hub_download", None)
    assert adapters.folder_of(f"me/{BASE}", "--model_name_or_path", cache_dir="hub") is None


def test_what_is_nowhere_is_refused_at_the_first_question(in_tmp_path):
    with pytest.raises(Refusal, match="cannot load me/nothing") as refused:
        adapters.folder_of("me/nothing", "--model_name_or_path", cache_dir="hub")
    assert refused.value.where == "--model_name_or_path"


def as_if_downloaded(folder, cache):
    """Leaves a folder in a cache as the Hub's library does with the repository me/FOLDER."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = cache / f"models--me--{folder}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(commit, encoding="utf-8")
    shutil.copytree(folder, repository / "snapshots" / commit)


def test_adapters_that_a_checkpoint_lacks_are_refused(adapted, in_tmp_path):
    """PEFT passes over them, and Trainer asks no more."""
    shutil.copytree(adapted, in_tmp_path, dirs_exist_ok=True)
    model = adapters.load(
        AutoModelForSequenceClassification, Path("lora"), "the folder", False, num_labels=3
    )
    adapters.check_reloaded(model, Path("lora"))
    rewrite(lambda name, value: None if "layer.1." in name else (name, value))
    with pytest.raises(weights.LostWeight, match=r"layer\.1\."):
        adapters.check_reloaded(model, Path("lora"))
