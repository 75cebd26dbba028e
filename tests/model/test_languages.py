"""One language pair, and each family's own tags, prefix and first token, in the saved folder as well."""

import json
from types import SimpleNamespace

import pytest
import torch
from conftest import SHORT, load_recipe, merged, predictions
from sentencepiece import SentencePieceTrainer
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    M2M100Config,
    M2M100ForConditionalGeneration,
    M2M100Tokenizer,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
    MBart50Tokenizer,
    MBartConfig,
    MBartForConditionalGeneration,
    MBartTokenizer,
    NllbTokenizer,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.models.mbart50.tokenization_mbart50 import FAIRSEQ_LANGUAGE_CODES as MBART
from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES as NLLB

from recipes.common.model import languages
from recipes.common.model.tokenizer_training import train_tokenizer
from recipes.common.predict.opening import open_folder
from recipes.common.runtime.errors import Refusal

WORDS = [("ok", "gut"), ("bad", "öde")]
PAIRS = [(f"the soup {n} is {a}", f"die Suppe {n} ist {b}") for n in range(20) for a, b in WORDS]
TEXTS = [text for pair in PAIRS for text in pair]
SIZES = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2}
SIZES |= {
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 64,
}


@pytest.mark.parametrize(
    ("language", "known", "expected"),
    [
        ("en", NLLB, "eng_Latn"),
        ("zh", NLLB, "zho_Hans"),
        ("zh-TW", NLLB, "zho_Hant"),
        ("ar", NLLB, "arb_Arab"),
        ("ko", NLLB, "kor_Hang"),
        ("sw", NLLB, "swh_Latn"),
        ("no", NLLB, "nob_Latn"),
        ("ps", NLLB, "pbt_Arab"),
        ("en", MBART, "en_XX"),
        ("de", MBART, "de_DE"),
        ("zh", MBART, "zh_CN"),
        ("tlh", NLLB, ""),
        ("??", NLLB, ""),
    ],
)
def test_a_language_in_the_tags_of_a_family(language, known, expected):
    assert languages.match(language, known) == expected


@pytest.mark.parametrize(
    ("language", "present", "expected"),
    [
        ("en", ["en", "de"], "en"),
        ("en_XX", ["en", "ro"], "en"),
        ("eng_Latn", ["en", "zh"], "en"),
        ("zho_Hans", ["en", "zh"], "zh"),
        ("zh", ["zh_CN", "en"], "zh_CN"),
        ("fr", ["en", "de"], "fr"),
        ("en", ["source text", "en"], "en"),
    ],
)
def test_the_column_of_a_language(language, present, expected):
    assert languages.column(language, present) == expected


@pytest.mark.parametrize(
    "pair, instruction, expected",
    [
        (("en", "de"), "translate {} to {}: ", "translate English to German: "),
        (("en_XX", "ro_RO"), "translate {} to {}: ", "translate English to Romanian: "),
        (("Chinese", "thai"), "translate {} to {}: ", "translate Chinese to thai: "),
        (("Low German", "de"), "translate {} to {}: ", "translate Low German to German: "),
        ((None, None), "summarize: ", "summarize: "),
        (("my own!", "my own!"), "summarize: ", "summarize: "),
    ],
)
def test_the_instruction_of_t5(pair, instruction, expected, in_tmp_path):
    arguments = SimpleNamespace(
        source_prefix=None, model_name_or_path="t5-small", forced_bos_token=None
    )
    assert languages.prepare(*t5(in_tmp_path), arguments, pair, instruction) == expected


def test_a_missing_language_is_refused():
    with pytest.raises(Refusal, match="no target language"):
        languages.pair(SimpleNamespace(source_lang="en", target_lang=None))


def sentencepiece(folder):
    (folder / "text.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    options = {
        "input": str(folder / "text.txt"),
        "model_prefix": str(folder / "spm"),
        "vocab_size": 60,
    }
    SentencePieceTrainer.train(**options, minloglevel=2, hard_vocab_limit=False)
    vocabulary = [
        line.split("\t")[0]
        for line in (folder / "spm.vocab").read_text(encoding="utf-8").splitlines()
    ]
    return str(folder / "spm.model"), [
        token for token in vocabulary if token not in ("<s>", "</s>", "<unk>")
    ]


def m2m100(folder):
    model, pieces = sentencepiece(folder)
    names = ["<s>", "<pad>", "</s>", "<unk>", *pieces]
    (folder / "vocab.json").write_text(
        json.dumps({name: number for number, name in enumerate(names)})
    )
    tokenizer = M2M100Tokenizer(str(folder / "vocab.json"), model)
    config = M2M100Config(vocab_size=160, **SIZES)
    return tokenizer, M2M100ForConditionalGeneration(config)


def marian(folder):
    model, pieces = sentencepiece(folder)
    names = ["</s>", "<unk>", *pieces, "<pad>"]
    (folder / "vocab.json").write_text(
        json.dumps({name: number for number, name in enumerate(names)})
    )
    tokenizer = MarianTokenizer(
        model, model, str(folder / "vocab.json"), source_lang="en", target_lang="de"
    )
    pad = names.index("<pad>")
    options = {
        "pad_token_id": pad,
        "decoder_start_token_id": pad,
        "eos_token_id": 0,
        "forced_eos_token_id": 0,
    }
    return tokenizer, MarianMTModel(MarianConfig(vocab_size=len(names), **SIZES, **options))


def nllb(folder):
    vocabulary = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    for character in sorted(set("".join(TEXTS)) - {" "} | {"▁"}):
        vocabulary[character] = len(vocabulary)
    tokenizer = NllbTokenizer(vocab=vocabulary, merges=[])
    return tokenizer, M2M100ForConditionalGeneration(
        M2M100Config(vocab_size=len(tokenizer), **SIZES)
    )


def unigram_pieces():
    return [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)] + [
        (character, -2.0) for character in sorted(set("".join(TEXTS)) - {" "} | {"▁"})
    ]


def mbart50(folder):
    tokenizer = MBart50Tokenizer(vocab=unigram_pieces(), src_lang="en_XX", tgt_lang="de_DE")
    config = MBartConfig(vocab_size=len(tokenizer), decoder_start_token_id=2, **SIZES)
    return tokenizer, MBartForConditionalGeneration(config)


def mbart(folder):
    tokenizer = MBartTokenizer(vocab=unigram_pieces())
    return tokenizer, MBartForConditionalGeneration(MBartConfig(vocab_size=len(tokenizer), **SIZES))


def t5(folder):
    tokenizer = train_tokenizer(TEXTS, "bpe", 300, "t5")
    sizes = {"d_model": 16, "d_kv": 8, "num_heads": 2, "d_ff": 32, "num_layers": 1}
    return tokenizer, T5ForConditionalGeneration(
        T5Config(vocab_size=len(tokenizer), **sizes, decoder_start_token_id=0)
    )


FAMILIES = {  # family -> its maker, the tag of German, the prefix
    "m2m100": (m2m100, "__de__", ""),
    "nllb": (nllb, "deu_Latn", ""),
    "mbart50": (mbart50, "de_DE", ""),
    "mbart": (mbart, "de_DE", ""),
    "t5": (t5, None, "translate English to German: "),
    "marian": (marian, None, ""),
}


@pytest.fixture(params=FAMILIES)
def trained(request, in_tmp_path):
    """A folder that the recipe trained from a tiny checkpoint of the family, with the tag and prefix it should know."""
    make, tag, prefix = FAMILIES[request.param]
    torch.manual_seed(0)
    tokenizer, model = make(in_tmp_path)
    tokenizer.save_pretrained("base")
    model.save_pretrained("base")
    lines = [
        json.dumps({"translation": {"en": source, "de": target}}) + "\n" for source, target in PAIRS
    ]
    (in_tmp_path / "pairs.jsonl").write_text("".join(lines), encoding="utf-8")
    flags = "--model_name_or_path base --train_file pairs.jsonl --test_file pairs.jsonl".split()
    flags += "--source_lang en --target_lang de --output_dir out --bf16 false".split()
    load_recipe("translation").main(merged(*flags, *SHORT, "--val_max_target_length", "12"))
    return request.param, tag, prefix


def test_the_saved_folder_translates_with_no_flags(trained):
    family, tag, prefix = trained
    tokenizer, model = (
        AutoTokenizer.from_pretrained("out"),
        AutoModelForSeq2SeqLM.from_pretrained("out"),
    )
    assert getattr(model.generation_config, "prefix", "") == prefix
    written = model.generate(**tokenizer("the soup 1 is ok", return_tensors="pt"))[0]
    if family == "mbart":
        assert tokenizer.convert_ids_to_tokens([written[0]]) == [tag]
    elif tag:
        assert tokenizer.convert_ids_to_tokens([written[1]]) == [tag]
    else:
        assert written[0] == tokenizer.pad_token_id
    assert len(written) <= 13
    answers = [
        row["prediction"] for row in open_folder("out").answers(source for source, _ in PAIRS)
    ]
    assert answers == [row["prediction"] for row in predictions()]


def test_source_and_target_carry_their_tags(trained):
    family, _, _ = trained
    tokenizer = AutoTokenizer.from_pretrained("out")
    source, target = (
        tokenizer.convert_ids_to_tokens(ids)
        for ids in (tokenizer("soup")["input_ids"], tokenizer(text_target="soup")["input_ids"])
    )
    expected = {
        "m2m100": ("__en__", "__de__", 0),
        "nllb": ("eng_Latn", "deu_Latn", 0),
        "mbart50": ("en_XX", "de_DE", 0),
        "mbart": ("en_XX", "de_DE", -1),
        "t5": ("</s>", "</s>", -1),
        "marian": ("</s>", "</s>", -1),
    }[family]
    assert (source[expected[2]], target[expected[2]]) == expected[:2]


def test_an_unknown_language_is_refused_with_the_known_ones(in_tmp_path):
    tokenizer, _ = nllb(in_tmp_path)
    with pytest.raises(Refusal, match="no language 'tlh'") as refusal:
        languages.tag(tokenizer, "tlh")
    assert "eng_Latn" in refusal.value.fix
