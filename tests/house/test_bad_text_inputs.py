"""What can be wrong with texts, translations and summaries: exit code 2, three lines, the place, the way out."""

import json

import pytest
from conftest import load_recipe, merged
from test_clm_pretrain import TINY as GPT2
from test_languages import nllb

from recipes.common.model.tokenizer_training import train_tokenizer
from recipes.common.runtime.errors import Refusal

BERT = "hidden_size=16,num_hidden_layers=1,num_attention_heads=2,intermediate_size=32,max_position_embeddings=64"
MLM = [
    "--model_type",
    "bert",
    "--config_overrides",
    BERT,
    *"--vocab_size 200 --max_seq_length 32".split(),
]
T5 = [
    "--model_type",
    "t5",
    "--config_overrides",
    "d_model=16,d_kv=8,num_heads=2,d_ff=32,num_layers=1",
]
T5 += "--vocab_size 300 --tokenizer_algorithm bpe --source_lang en --target_lang de".split()
SUMMARY = T5[:-4]
STEP = ["--output_dir", "out", "--max_steps", "1", "--eval_strategy", "no", "--save_strategy", "no"]
STEP += ["--load_best_model_at_end", "false"]
TEXT = "".join(f"the soup number {n} was good\n" for n in range(40))
PAIRS = "".join(
    json.dumps({"translation": {"en": f"soup {n}", "de": f"Suppe {n}"}}) + "\n" for n in range(30)
)
NEWS = "".join(
    json.dumps({"document": f"It rained. Soup {n}.", "summary": f"soup {n}"}) + "\n"
    for n in range(30)
)
DATA = {"text.txt": TEXT, "pairs.jsonl": PAIRS, "news.jsonl": NEWS}
TRAIN = {
    "mlm_pretrain": [*MLM, "--train_file", "text.txt"],
    "clm_pretrain": [*GPT2, "--train_file", "text.txt"],
}
TRAIN |= {"translation": [*T5, "--train_file", "pairs.jsonl"]}
TRAIN |= {"summarization": [*SUMMARY, "--train_file", "news.jsonl"]}


def rows(*objects):
    return "".join(json.dumps(row) + "\n" for row in objects)


# name of the case: (recipe, files to write, flags, what the message must name)
CASES = {
    "summaries: no head to train": (
        "summarization",
        {},
        ["--freeze_encoder"],
        ["nothing is left to train", "--freeze_encoder", "--lora_rank"],
    ),
    "causal: no head to train": (
        "clm_pretrain",
        {},
        ["--freeze_encoder"],
        ["nothing is left to train", "--freeze_encoder"],
    ),
    "masked: no mask token": (
        "mlm_pretrain",
        {},
        ["--tokenizer_name", "plain"],
        ["mask token", "--tokenizer_name"],
    ),
    "masked: probability 0": (
        "mlm_pretrain",
        {},
        ["--mlm_probability", "0"],
        ["mlm_probability is 0", "a number from 1e-06 to 1"],
    ),
    "masked: probability 2": (
        "mlm_pretrain",
        {},
        ["--mlm_probability", "2"],
        ["mlm_probability is 2", "to 1"],
    ),
    "masked: shares above 1": (
        "mlm_pretrain",
        {},
        ["--random_replace_prob", "0.5"],
        ["exceed 1", "sum to at most 1"],
    ),
    "masked: negative share": (
        "mlm_pretrain",
        {},
        ["--random_replace_prob", "-1"],
        ["--random_replace_prob"],
    ),
    "masked: stream of lines": (
        "mlm_pretrain",
        {},
        ["--streaming", "--line_by_line"],
        ["--line_by_line"],
    ),
    "masked: whole words of characters": (
        "mlm_pretrain",
        {"zh.txt": "汤很好\n" * 40},
        ["--whole_word_mask", "--tokenizer_algorithm", "char", "--train_file", "zh.txt"],
        ["where words begin", "--whole_word_mask"],
    ),
    "masked: an encoder-decoder": (
        "mlm_pretrain",
        {},
        ["--model_type", "t5", "--vocab_size", "300"],
        ["t5"],
    ),
    "masked: no text column": (
        "mlm_pretrain",
        {"r.jsonl": rows(*[{"content": f"soup {n}"} for n in range(30)])},
        ["--train_file", "r.jsonl"],
        ["no column 'text'", "r.jsonl:1", "--text_column_name content"],
    ),
    "masked: a number as text": (
        "mlm_pretrain",
        {"r.jsonl": rows({"text": "soup"}, {"text": 7})},
        ["--train_file", "r.jsonl"],
        ["must be a text, not int", "r.jsonl:2"],
    ),
    "masked: broken bytes": (
        "mlm_pretrain",
        {"b.txt": b"good\n\xff\xfe\xfa bad\n"},
        ["--train_file", "b.txt"],
        ["b.txt:2", "UTF-8"],
    ),
    "masked: empty lines only": (
        "mlm_pretrain",
        {"e.txt": "\n\n\n"},
        ["--train_file", "e.txt"],
        ["e.txt"],
    ),
    "masked: sizes that do not divide": (
        "mlm_pretrain",
        {},
        ["--config_overrides", "hidden_size=15,num_attention_heads=2"],
        ["--config_overrides"],
    ),
    "masked: an unknown setting": (
        "mlm_pretrain",
        {},
        ["--config_overrides", "hiden_size=16"],
        ["no setting 'hiden_size'", "did you mean hidden_size"],
    ),
    "masked: the vocabulary is too small": (
        "mlm_pretrain",
        {},
        ["--vocab_size", "9"],
        ["--vocab_size 9 is too small"],
    ),
    "causal: one byte too few": (
        "clm_pretrain",
        {},
        ["--vocab_size", "99"],
        ["256 bytes", "--vocab_size"],
    ),
    "causal: an architecture that mixes documents": (
        "clm_pretrain",
        {},
        [
            "--model_type",
            "bloom",
            "--config_overrides",
            "hidden_size=16,n_layer=1,n_head=2",
            "--packing_isolation",
        ],
        ["bloom does not keep", "--packing_isolation"],
    ),
    "causal: an encoder": (
        "clm_pretrain",
        {},
        ["--model_type", "distilbert", "--config_overrides", "dim=16"],
        ["distilbert"],
    ),
    "causal: a stream from the Hub without steps": (
        "clm_pretrain",
        {"hub/train.txt": TEXT},
        ["--dataset_name", "hub", "--streaming", "--max_steps", "-1"],
        ["the length of a stream", "--max_steps"],
    ),
    "causal: an unknown flag": (
        "clm_pretrain",
        {},
        ["--blok_size", "9"],
        ["--blok_size", "did you mean --block_size"],
    ),
    "causal: a text that fills no block": (
        "clm_pretrain",
        {"s.txt": "a\n"},
        "--train_file s.txt --validation_file text.txt --streaming --max_steps -1".split(),
        ["does not fill one block"],
    ),
    "causal: a stream cut to blocks": (
        "clm_pretrain",
        {},
        ["--streaming", "--max_train_samples", "5"],
        ["--max_train_samples", "say --max_steps N"],
    ),
    "translation: no language": ("translation", {}, ["--source_lang"], ["--source_lang"]),
    "translation: a language that is not there": (
        "translation",
        {},
        ["--target_lang", "fr"],
        ["no column 'fr'", "columns: en, de", "pairs.jsonl:1"],
    ),
    "translation: a row without its translation": (
        "translation",
        {
            "p.jsonl": rows({"translation": {"en": "a", "de": "b"}}, {"translation": {"en": "a"}})
            * 9
        },
        ["--train_file", "p.jsonl"],
        [],
    ),
    "translation: parallel files of different length": (
        "translation",
        {"c.en": "a\nb\n", "c.de": "a\n"},
        ["--train_file", "c.en", "c.de"],
        ["c.de ends before line 2", "c.de:2"],
    ),
    "translation: one file of a pair": (
        "translation",
        {"c.en": "a\nb\n"},
        ["--train_file", "c.en"],
        ["do not pair up", "0 in de", "--train_file"],
    ),
    "translation: a number as translation": (
        "translation",
        {"p.jsonl": rows({"en": "a", "de": 7})},
        ["--train_file", "p.jsonl"],
        ["'de' must be a text", "p.jsonl:1"],
    ),
    "translation: empty sides only": (
        "translation",
        {"p.jsonl": rows({"en": "a", "de": ""}, {"en": "", "de": "b"})},
        ["--train_file", "p.jsonl"],
        ["no usable row (2 empty text)"],
    ),
    "translation: an unknown first token": (
        "translation",
        {},
        ["--forced_bos_token", "klingonisch"],
        ["no token 'klingonisch'", "--forced_bos_token"],
    ),
    "translation: a causal model": (
        "translation",
        {},
        ["--model_type", "gpt2", "--config_overrides", "n_embd=16,n_layer=1,n_head=2"],
        ["gpt2"],
    ),
    "translation: a language the tokenizer lacks": (
        "translation",
        {"p.jsonl": rows(*[{"en": f"soup {n}", "tlh": f"chatlh {n}"} for n in range(20)])},
        ["--tokenizer_name", "nllb", "--train_file", "p.jsonl", "--target_lang", "tlh"],
        ["no language 'tlh'", "ace_Arab"],
    ),
    "summarization: no summary column": (
        "summarization",
        {"s.jsonl": rows(*[{"document": "It rained.", "gist": "rain"} for _ in range(20)])},
        ["--train_file", "s.jsonl"],
        ["no column 'summary'", "columns: document, gist", "--summary_column"],
    ),
    "summarization: a misspelt column": (
        "summarization",
        {},
        ["--text_column", "documnet"],
        ["no column 'documnet'", "did you mean 'document'"],
    ),
    "summarization: the same column twice": (
        "summarization",
        {},
        ["--text_column", "summary", "--summary_column", "summary"],
        ["no column 'summary'"],
    ),
    "summarization: no file": (
        "summarization",
        {},
        ["--train_file", "nwes.jsonl"],
        ["did you mean news.jsonl"],
    ),
    "summarization: adapters on nothing": (
        "summarization",
        {},
        ["--lora_rank", "4"],
        ["--lora_rank"],
    ),
    "summarization: malformed JSON": (
        "summarization",
        {"m.jsonl": NEWS + '{"document": }\n'},
        ["--train_file", "m.jsonl"],
        ["malformed JSON", "m.jsonl:31:"],
    ),
}
RUNS = {"translation: a row without its translation"}  # skipped with a count, not refused


def test_the_table_is_long_enough():
    assert len(CASES) - len(RUNS) >= 30


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_named_with_its_place_and_the_way_out(case, in_tmp_path):
    recipe, files, flags, expected = CASES[case]
    for name, content in {**DATA, **files}.items():
        (in_tmp_path / name).parent.mkdir(exist_ok=True)
        (in_tmp_path / name).write_bytes(
            content if isinstance(content, bytes) else content.encode()
        )
    if "nllb" in flags:
        nllb(in_tmp_path)[0].save_pretrained("nllb")
    if "plain" in flags:
        train_tokenizer([TEXT], "bpe", 300, "gpt2").save_pretrained("plain")
    words = merged(*TRAIN[recipe], *STEP, *flags)
    if "--dataset_name" in flags:
        words.remove("--train_file")
        words.remove("text.txt")
    if case in RUNS:
        load_recipe(recipe).main(words)
        assert (
            json.loads((in_tmp_path / "out/run.json").read_text())["rows"]["train"]["skipped"][
                "empty text"
            ]
            == 9
        )
        return
    with pytest.raises(Refusal) as refusal:
        load_recipe(recipe).main(words)
    message = str(refusal.value)
    assert refusal.value.exit_code == 2 and message.count("\n") <= 2
    assert refusal.value.where and refusal.value.fix
    for word in expected:
        assert word in message, message
