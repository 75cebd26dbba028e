"""Tokenizers as people bring them: files of their own are read as they are, and nothing is made of no files."""

import json

import pytest
from conftest import ROOT, load_recipe, merged
from test_bad_text_inputs import DATA, STEP, TRAIN
from tokenizers import (
    BertWordPieceTokenizer,
    ByteLevelBPETokenizer,
    SentencePieceUnigramTokenizer,
    Tokenizer,
)
from tokenizers import models as algorithms
from transformers import AutoConfig

from recipes.common.config import parsing
from recipes.common.config.flags import Arguments
from recipes.common.model import tokenizer_loading
from recipes.common.model.loading import load_tokenizer
from recipes.common.model.special_tokens import end_of_text
from recipes.common.model.tokenizer_training import train_tokenizer
from recipes.common.predict.continuing import Continuer
from recipes.common.predict.opening import open_folder
from recipes.common.runtime.errors import Refusal

TEXTS = ["The soup was Good and warm", "the Room was COLD; x = 1"] * 30
LIKE_ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
NO_WORDS = "holds no tokenizer: no vocabulary, only special tokens"
# How transformers answers where there are no files: an empty tokenizer of each algorithm, or an error.
EMPTY = "bert modernbert roberta gpt2 llama qwen2 gemma t5 mt5 mbart xlm-roberta".split()
EMPTY += "deberta-v2 distilbert bart marian m2m_100 pegasus gpt_neox mistral albert".split()


def load(folder, *named):
    return tokenizer_loading.load(str(folder), "--tokenizer_name", False, named)


@pytest.mark.parametrize("model_type", EMPTY)
@pytest.mark.parametrize(
    "extra", [None, {}, {"model_max_length": 512}], ids=["no files", "empty", "settings alone"]
)
def test_a_folder_without_a_vocabulary_is_refused(model_type, extra, tmp_path):
    """transformers makes a tokenizer of nothing: every text becomes [UNK], whatever it says."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    if extra is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(extra))
    with pytest.raises(Refusal, match=NO_WORDS) as refused:
        load(tmp_path)
    assert "--tokenizer_name" in refused.value.fix


@pytest.mark.parametrize("model_type", ["canine", "perceiver", "byt5"])
def test_a_tokenizer_that_needs_no_vocabulary_is_none_without_one(model_type, tmp_path):
    names = {"model_type": "t5"} if model_type == "byt5" else {"model_type": model_type}
    (tmp_path / "config.json").write_text(json.dumps(names))
    if model_type == "byt5":
        (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer"}')
    tokenizer = load(tmp_path)
    assert (
        tokenizer.decode(tokenizer("Soup 汤")["input_ids"], skip_special_tokens=True) == "Soup 汤"
    )


@pytest.mark.parametrize(
    "recipe",
    "mlm_pretrain clm_pretrain translation summarization sentiment token_classification".split(),
)
@pytest.mark.parametrize("flag", ["--model_name_or_path", "--tokenizer_name"])
def test_every_recipe_refuses_a_folder_without_tokenizer_files(recipe, flag, in_tmp_path):
    for name, content in DATA.items():
        (in_tmp_path / name).write_text(content, encoding="utf-8")
    (in_tmp_path / "rows.csv").write_text("text,label\n" + "good,a\nbad,b\n" * 20)
    AutoConfig.for_model("bert").save_pretrained("bare")
    (in_tmp_path / "words.conll").write_text("good B-A\nsoup O\n\n" * 20)
    own = "words.conll" if recipe == "token_classification" else "rows.csv"
    flags = TRAIN.get(recipe, ["--train_file", own, "--model_type", "bert"])
    with pytest.raises(Refusal, match=NO_WORDS) as refused:
        load_recipe(recipe).main(merged(*flags, *STEP, flag, "bare"))
    assert refused.value.where == flag


@pytest.mark.parametrize(
    "kind",
    [
        "SequenceClassification",
        "TokenClassification",
        "MaskedLM",
        "ConditionalGeneration",
        "CausalLM",
    ],
)
def test_predict_and_generate_refuse_it_too(kind, tmp_path):
    model_type, name = {"ConditionalGeneration": ("t5", "T5"), "CausalLM": ("gpt2", "GPT2")}.get(
        kind, ("bert", "Bert")
    )
    config = AutoConfig.for_model(model_type, architectures=[f"{name}For{kind}"])
    config.save_pretrained(tmp_path)
    with pytest.raises(Refusal, match=NO_WORDS) as refused:
        Continuer(str(tmp_path)) if kind == "CausalLM" else open_folder(str(tmp_path))
    assert "tokenizer.json" in refused.value.fix


def byte_level(*special):
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        TEXTS, vocab_size=330, special_tokens=[*special], show_progress=False
    )
    return tokenizer


def word_pieces():
    tokenizer = BertWordPieceTokenizer(lowercase=False)
    tokenizer.train_from_iterator(TEXTS, vocab_size=200, show_progress=False)
    return tokenizer


def unigram():
    tokenizer, special = SentencePieceUnigramTokenizer(), ["<s>", "</s>", "<unk>", "<pad>"]
    tokenizer.train_from_iterator(
        TEXTS, 80, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    return tokenizer


ROBERTA = {
    "bos": "<s>",
    "eos": "</s>",
    "cls": "<s>",
    "sep": "</s>",
    "pad": "<pad>",
    "unk": "<unk>",
    "mask": "<mask>",
}
BERT = {"cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "unk": "[UNK]", "mask": "[MASK]"}
# How a tokenizer was made and saved, its special tokens, and what it makes of "Good".
OWN = {
    "tokenizer.json, bytes": (lambda: byte_level(*LIKE_ROBERTA), "save", ROBERTA, "<s>Good</s>"),
    "tokenizer.json, bytes, an end": (
        lambda: byte_level("<|endoftext|>"),
        "save",
        {"eos": "<|endoftext|>"},
        "Good",
    ),
    "tokenizer.json, capitals": (
        lambda: byte_level("<BOS>", "<EOS>"),
        "save",
        {"bos": "<BOS>", "eos": "<EOS>"},
        "Good",
    ),
    "tokenizer.json, word pieces": (word_pieces, "save", BERT, "[CLS] Good [SEP]"),
    "tokenizer.json, unigram": (
        unigram,
        "save",
        {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "<pad>"},
        "Good",
    ),
    "vocab.json and merges.txt": (
        lambda: byte_level(*LIKE_ROBERTA),
        "save_model",
        ROBERTA,
        "<s>Good</s>",
    ),
    "NAME-vocab.json and NAME-merges.txt": (
        lambda: byte_level(*LIKE_ROBERTA),
        "prefix",
        ROBERTA,
        "<s>Good</s>",
    ),
    "vocab.txt": (word_pieces, "save_model", BERT, "[CLS] Good [SEP]"),
}


def save(name, folder):
    make, way, special, good = OWN[name]
    if way == "save":
        make().save(str(folder / "tokenizer.json"))
    else:
        make().save_model(str(folder), *(["mine"] if way == "prefix" else []))
    return {f"{role}_token": token for role, token in special.items()}, good


@pytest.mark.parametrize("beside", [None, "bert", "roberta", "llama", "t5"])
@pytest.mark.parametrize("name", OWN)
def test_files_of_one_s_own_are_read_as_they_were_made(name, beside, tmp_path, capsys):
    """A model's configuration beside them makes no other tokenizer of them: BERT's class lower-cases, GPT-2's splits
    otherwise, T5's does not read them."""
    special, good = save(name, tmp_path)
    known_to_its_class = (beside, name) in [
        ("roberta", "vocab.json and merges.txt"),
        ("bert", "vocab.txt"),
    ]
    if beside:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": beside}))
    tokenizer = load(tmp_path)
    assert tokenizer.special_tokens_map == special
    assert tokenizer.decode(tokenizer("Good")["input_ids"]) == good
    assert ("by their usual names" in capsys.readouterr().err) == (not known_to_its_class)


def test_a_vocabulary_without_capitals_lower_cases(tmp_path):
    (tmp_path / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "soup"])
    )
    assert load(tmp_path).tokenize("Good SOUP") == ["good", "soup"]


@pytest.mark.parametrize("name", OWN)
def test_what_was_found_is_saved_with_the_model(name, tmp_path):
    special, _ = save(name, tmp_path)
    first = load(tmp_path)
    first.save_pretrained(tmp_path / "out")
    again = load(tmp_path / "out")
    assert again.special_tokens_map == special
    assert again("The Room")["input_ids"] == first("The Room")["input_ids"]


def test_tokens_with_other_names_are_named_by_a_flag(tmp_path):
    byte_level("<ENDE>", "<FÜLL>").save(str(tmp_path / "tokenizer.json"))
    flags = ["eos_token=<ENDE>", "pad_token=<FÜLL>"]
    tokenizer = load_tokenizer(Arguments(tokenizer_name=str(tmp_path), special_tokens=flags), [])
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 1)
    assert (
        tokenizer.decode(tokenizer("Good<ENDE>")["input_ids"], skip_special_tokens=True) == "Good"
    )


@pytest.mark.parametrize("take", ["a pad token", "an end"])
def test_a_role_that_is_missing_is_refused_with_the_flag_that_names_it(take, tmp_path):
    byte_level("<ENDE>").save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(Refusal, match="no token (that|to)") as refused:
        end_of_text(load(tmp_path)) if take == "an end" else load_tokenizer(
            Arguments(tokenizer_name=str(tmp_path)), []
        )
    assert "--special_tokens eos_token=TOKEN" in refused.value.fix


@pytest.mark.parametrize(
    ("named", "what", "fix"),
    [
        ("eos_token=<ENDEE>", "no token '<ENDEE>'", "did you mean <ENDE>?"),
        ("eos=<ENDE>", "no special token has the role 'eos'", "eos_token"),
        ("<ENDE>", "no special token has the role", "eos_token=TOKEN"),
        ("end_token=<ENDE>", "no special token has the role", "did you mean"),
    ],
)
def test_what_names_no_role_or_no_token_is_refused(named, what, fix, tmp_path):
    byte_level("<ENDE>").save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(Refusal, match=what) as refused:
        load(tmp_path, named)
    assert fix in refused.value.fix


def test_a_tokenizer_that_is_trained_has_its_family_s_special_tokens():
    with pytest.raises(Refusal, match="its family's"):
        load_tokenizer(Arguments(model_type="gpt2", special_tokens=["eos_token=<ENDE>"]), TEXTS)


def test_roles_that_a_tokenizer_names_stay(tmp_path):
    """GPT-2's alone has no pad token, although <|pad|> is in this vocabulary."""
    tokenizer = train_tokenizer(TEXTS, "bpe", 300, "gpt2")
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    assert load(tmp_path).pad_token is None


@pytest.mark.parametrize("content", ["{}", "no json", '{"version": "1.0"}'])
def test_files_that_are_no_tokenizer_are_refused(content, tmp_path):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(Refusal, match="cannot load"):
        load(tmp_path)
    (tmp_path / "tokenizer.json").rename(tmp_path / "vocab.json")
    (tmp_path / "merges.txt").write_text("#version: 0.2\nno merge at all\n")
    with pytest.raises(Refusal, match=r"cannot read .*vocab\.json"):
        load(tmp_path)


def test_a_tokenizer_json_of_special_tokens_alone_is_refused(tmp_path):
    tokenizer = Tokenizer(algorithms.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.add_special_tokens(["[UNK]", "[PAD]"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(Refusal, match=NO_WORDS):
        load(tmp_path)


def test_a_sentencepiece_model_alone_is_refused_with_the_name_that_is_read(tmp_path):
    (tmp_path / "mine.model").write_bytes(b"\n")
    with pytest.raises(Refusal, match="SentencePiece") as refused:
        load(tmp_path)
    assert "rename mine.model to tokenizer.model" in refused.value.fix


@pytest.mark.parametrize(
    ("given", "lower"), [([], True), (["--train_file", "own.txt"], False)], ids=["sample", "own"]
)
def test_only_the_sample_is_lower_cased_by_its_own_configuration(given, lower, in_tmp_path):
    run = str(ROOT / "recipes/mlm_pretrain/run.py")
    arguments, _ = parsing.parse(
        load_recipe("mlm_pretrain").Arguments, run, [*given, "--output_dir", "out"]
    )
    assert arguments.do_lower_case == lower
