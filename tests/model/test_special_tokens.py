"""Where a tokenizer is not the configuration's own, every special id is the tokenizer's: it ends and begins texts."""

import json

import pytest
import torch
from conftest import config_of, load_recipe, merged
from test_bad_text_inputs import DATA, STEP
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    GenerationConfig,
)

from recipes.common.config.flags import Arguments
from recipes.common.model import loading, special_tokens
from recipes.common.model.tokenizer_training import ENCODER_DECODERS, train_tokenizer

TEXTS = ["the soup was warm and good", 'the room was cold: "never again"'] * 10
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
LLAMA = SIZES | {"num_key_value_heads": 1, "vocab_size": 400}
BART = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "vocab_size": 400,
}
BART |= {
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 64,
}


def train(model_type="gpt2", size=330):
    return train_tokenizer(TEXTS, "bpe", size, model_type)


def ids(config):
    """The special ids of a configuration that are set."""
    names = [*special_tokens.IDS, *special_tokens.ENDS]
    return {name: value for name in names if (value := getattr(config, name, None)) is not None}


def published(folder, model_type="llama", generation=(), **changes):
    """A checkpoint whose special ids are those of Llama (1, 2) or BART (0, 1, 2), with a tokenizer of another order."""
    sizes = BART if model_type == "bart" else LLAMA
    config = AutoConfig.for_model(model_type, **sizes | changes)
    torch.manual_seed(0)
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    model = auto.from_config(config)
    model.generation_config.update(**dict(generation))
    model.save_pretrained(folder)
    return config


def test_a_configuration_s_end_is_a_word_to_another_tokenizer(tmp_path):
    """Llama's end is 2, which is this tokenizer's <unk>; Trainer keeps it beside the right one."""
    AutoConfig.for_model("llama", **LLAMA).save_pretrained(tmp_path)
    train().save_pretrained(tmp_path / "own")
    arguments = Arguments(config_name=str(tmp_path), tokenizer_name=str(tmp_path / "own"))
    tokenizer = loading.load_tokenizer(arguments, [])
    model = loading.load_model(AutoModelForCausalLM, arguments, tokenizer)
    assert ids(model.config) == {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 0}
    assert ids(model.generation_config) == ids(model.config)


@pytest.mark.parametrize(
    "model_type", ["llama", "gpt2", "mistral", "qwen3", "gemma2", "opt", "bloom"]
)
def test_a_trained_tokenizer_is_taken_over_by_every_decoder_s_configuration(model_type, tmp_path):
    AutoConfig.for_model(model_type).save_pretrained(tmp_path)
    arguments = Arguments(config_name=str(tmp_path), vocab_size=330)
    tokenizer = loading.load_tokenizer(arguments, TEXTS)
    assert tokenizer.eos_token == "<|endoftext|>"
    found = ids(config_of(arguments, tokenizer))
    assert {found["pad_token_id"], found["eos_token_id"], found.get("bos_token_id", 0)} == {0, 1}


def test_the_checkpoint_s_own_tokenizer_changes_nothing(tmp_path):
    published(tmp_path, generation={"eos_token_id": [2, 7]}.items(), eos_token_id=2, bos_token_id=1)
    train("roberta").save_pretrained(tmp_path)
    for named in (None, str(tmp_path), f"{tmp_path}/"):
        arguments = Arguments(model_name_or_path=str(tmp_path), tokenizer_name=named)
        model = loading.load_model(
            AutoModelForCausalLM, arguments, loading.load_tokenizer(arguments, [])
        )
        assert (model.config.eos_token_id, model.config.bos_token_id) == (2, 1)
        assert model.generation_config.eos_token_id == [2, 7]


def test_the_same_tokenizer_from_elsewhere_with_more_tokens_is_the_checkpoint_s_own(tmp_path):
    published(tmp_path / "model", generation={"eos_token_id": [2, 7]}.items())
    tokenizer = train("roberta")
    tokenizer.save_pretrained(tmp_path / "model")
    tokenizer.add_tokens(["<user>"])
    tokenizer.save_pretrained(tmp_path / "more")
    arguments = Arguments(
        model_name_or_path=str(tmp_path / "model"), tokenizer_name=str(tmp_path / "more")
    )
    model = loading.load_model(
        AutoModelForCausalLM, arguments, loading.load_tokenizer(arguments, [])
    )
    assert model.generation_config.eos_token_id == [2, 7]


@pytest.mark.parametrize(("family", "end"), [("roberta", [2, 7]), ("gpt2", 0)])
def test_beside_a_checkpoint_without_a_tokenizer_the_ids_decide(family, end, tmp_path):
    """<s> is 0, <pad> is 1 and </s> is 2 to both: it may well be its own."""
    published(
        tmp_path / "model",
        generation={"eos_token_id": [2, 7]}.items(),
        bos_token_id=0,
        pad_token_id=1,
    )
    train(family).save_pretrained(tmp_path / "own")
    arguments = Arguments(
        model_name_or_path=str(tmp_path / "model"), tokenizer_name=str(tmp_path / "own")
    )
    model = loading.load_model(
        AutoModelForCausalLM, arguments, loading.load_tokenizer(arguments, [])
    )
    assert model.generation_config.eos_token_id == end


def test_another_tokenizer_takes_over_the_whole_generation(tmp_path, capsys):
    """BART's published settings, with what Marian's and Whisper's have beside."""
    settings = {
        "forced_bos_token_id": 0,
        "forced_eos_token_id": 2,
        "decoder_start_token_id": 2,
        "num_beams": 4,
    }
    settings |= {"bad_words_ids": [[58]], "suppress_tokens": [5], "begin_suppress_tokens": [6]}
    published(tmp_path / "model", "bart", settings.items())
    train("bart").save_pretrained(tmp_path / "model")
    train("t5").save_pretrained(tmp_path / "own")  # <pad> 0, </s> 1, <unk> 2
    arguments = Arguments(
        model_name_or_path=str(tmp_path / "model"), tokenizer_name=str(tmp_path / "own")
    )
    tokenizer = loading.load_tokenizer(arguments, [])
    model = loading.load_model(AutoModelForSeq2SeqLM, arguments, tokenizer)
    ends = {
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 1,
        "forced_eos_token_id": 1,
    }
    assert ids(model.generation_config) == ends
    assert ids(model.config).items() >= ends.items()
    left = [model.generation_config.bad_words_ids, model.generation_config.suppress_tokens]
    assert [*left, model.generation_config.begin_suppress_tokens] == [None] * 3
    assert model.generation_config.num_beams == 4
    assert "not the checkpoint's own" in capsys.readouterr().err


ROLES = {
    "t5": "pad",
    "mt5": "pad",
    "marian": "pad",
    "pegasus": "pad",
    "pegasus_x": "pad",
    "prophetnet": "pad",
}
ROLES |= {
    "bart": "eos",
    "mbart": "eos",
    "m2m_100": "eos",
    "led": "eos",
    "mvp": "eos",
    "fsmt": "eos",
}
ROLES |= {"blenderbot": "bos", "bigbird_pegasus": "bos"}


@pytest.mark.parametrize(("model_type", "role"), ROLES.items())
def test_a_decoder_begins_with_the_token_in_its_family_s_role(model_type, role):
    tokenizer = train(model_type)
    config = config_of(Arguments(model_type=model_type), tokenizer)
    assert config.decoder_start_token_id == getattr(tokenizer, f"{role}_token_id")
    assert model_type in ENCODER_DECODERS


def test_what_the_user_says_of_an_id_stays():
    arguments = Arguments(model_type="llama", config_overrides="eos_token_id=7")
    assert config_of(arguments, train()).eos_token_id == 7


@pytest.mark.parametrize(
    ("forced", "expected"), [(250, None), (0, 0), (None, None)], ids=["language", "begin", "none"]
)
def test_a_language_that_was_forced_is_none_of_another_tokenizer(forced, expected):
    """mBART's published forced_bos_token_id is a language, BART's the begin of a text."""
    tokenizer, config = train("gpt2"), AutoConfig.for_model("bart")
    generation = GenerationConfig(bos_token_id=0, forced_bos_token_id=forced, forced_eos_token_id=2)
    config.forced_bos_token_id = forced
    special_tokens.adopt(config, tokenizer)
    special_tokens.adopt_generation(generation, config)
    assert (config.forced_bos_token_id, generation.forced_bos_token_id) == (expected, expected)
    assert generation.forced_eos_token_id == generation.eos_token_id == tokenizer.eos_token_id == 0


def test_a_classifier_that_finds_the_end_of_a_text_finds_the_tokenizer_s(tmp_path):
    """BART's head reads the last </s>: with another tokenizer it found none."""
    tokenizer = train("bert")
    AutoConfig.for_model("bart", **BART, eos_token_id=77).save_pretrained(tmp_path)
    arguments = Arguments(config_name=str(tmp_path))
    model = loading.load_model(
        AutoModelForSequenceClassification, arguments, tokenizer, num_labels=2
    )
    assert model.config.eos_token_id == tokenizer.sep_token_id
    assert model(
        **tokenizer(["the soup"], return_tensors="pt", return_token_type_ids=False)
    ).logits.shape == (1, 2)


@pytest.mark.parametrize("recipe", ["clm_pretrain", "summarization"])
def test_a_run_leaves_the_tokenizer_s_ids(recipe, in_tmp_path):
    for name, content in DATA.items():
        (in_tmp_path / name).write_text(content, encoding="utf-8")
    model_type = "bart" if recipe == "summarization" else "llama"
    published("model", model_type)
    train(model_type).save_pretrained("model")
    train("t5").save_pretrained("own")
    file = "news.jsonl" if recipe == "summarization" else "text.txt"
    flags = [
        "--train_file",
        file,
        *"--model_name_or_path model --tokenizer_name own".split(),
        *STEP,
    ]
    load_recipe(recipe).main(merged(*flags))
    assert GenerationConfig.from_pretrained("out").eos_token_id == 1
    assert json.loads((in_tmp_path / "out/config.json").read_text())["eos_token_id"] == 1
