"""What a user can do wrong, and what he reads then: exit code 2, at most three lines, the place, the way out."""

import gzip
import json
import subprocess
import sys

import pytest
from conftest import ROOT, SCRATCH, SHORT

from recipes.common.runtime.errors import Refusal

GOOD = "text,label\n" + "".join(
    f"soup {row} was {w},{label}\n" for row in range(20) for w, label in [("ok", "a"), ("no", "b")]
)
ROWS = [{"text": f"soup {row}", "label": ("a", "b")[row % 2]} for row in range(20)]


def json_lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


# name of the case: (files to write, flags, what the message must name)


def labelled(*labels):
    """JSON lines of 20 texts that have these labels in turn."""
    rows = [{"text": f"soup {n}", "label": labels[n % len(labels)]} for n in range(20)]
    return "".join(json.dumps(row) + "\n" for row in rows)


FILES = {
    "no such file": (
        {},
        ["--train_file", "trian.csv"],
        ["trian.csv", "--train_file", "did you mean train.csv"],
    ),
    "a glob that matches nothing": (
        {},
        ["--train_file", "parts-*.jsonl"],
        ["parts-*.jsonl", "--train_file"],
    ),
    "a folder of two kinds": (
        {"folder/x.csv": GOOD, "folder/y.jsonl": "{}"},
        ["--train_file", "folder"],
        ["several kinds (csv, jsonl)", "folder/*.csv"],
    ),
    "a folder of all splits": (
        {"folder/train.csv": GOOD, "folder/test.csv": GOOD},
        ["--train_file", "folder"],
        ["several purposes", "folder/t"],
    ),
    "a folder of other files": (
        {"folder/x.bin": GOOD},
        ["--train_file", "folder"],
        ["no file that can be read"],
    ),
    "an unknown type": ({"data.bin": GOOD}, ["--train_file", "data.bin"], ["data.bin", "csv"]),
    "an old Excel file": (
        {"data.xls": GOOD},
        ["--train_file", "data.xls"],
        ["data.xls", "save it as .xlsx"],
    ),
    "Excel in name only": (
        {"data.xlsx": GOOD},
        ["--train_file", "data.xlsx"],
        ["not a readable Excel file"],
    ),
    "files in one word": (
        {"b.csv": GOOD},
        ["--train_file", "train.csv,b.csv"],
        ["no such file", "put spaces between files, not commas: train.csv b.csv"],
    ),
    "an address": (
        {},
        ["--train_file", "https://x.org/a.csv"],
        ["no such file", "download it", "curl -LO"],
    ),
    "an empty file": ({"e.csv": ""}, ["--train_file", "e.csv"], ["empty", "e.csv"]),
    "a header only": ({"h.csv": "text,label\n"}, ["--train_file", "h.csv"], ["no rows", "h.csv"]),
    "a renamed text column": (
        {"r.csv": GOOD.replace("text", "review", 1)},
        ["--train_file", "r.csv"],
        ["no column 'text'", "r.csv:2", "--text_column_names review"],
    ),
    "a renamed label column": (
        {"l.csv": GOOD.replace("label", "labels", 1)},
        ["--train_file", "l.csv"],
        ["no column 'label'", "l.csv", "--label_column_name labels"],
    ),
    "a misspelt column flag": (
        {},
        ["--text_column_names", "txet"],
        ["no column 'txet'", "did you mean 'text'"],
    ),
    "a cell too many": (
        {"c.csv": GOOD + "good, but cold,a\n"},
        ["--train_file", "c.csv"],
        ["3 cells", "2 columns", "c.csv:42", "quotes"],
    ),
    "a cell too few": (
        {"c.csv": GOOD + "good\n"},
        ["--train_file", "c.csv"],
        ["1 cells", "c.csv:42"],
    ),
    "an open quote": (
        {"q.csv": GOOD + '"never closed,a\n'},
        ["--train_file", "q.csv"],
        ["malformed CSV", "q.csv:42"],
    ),
    "a column twice": (
        {"d.csv": GOOD.replace("text,label", "text,text", 1)},
        ["--train_file", "d.csv"],
        ["'text' appears twice", "d.csv:1"],
    ),
    "a tab missing": (
        {"t.tsv": GOOD.replace(",", "\t") + "no tab here\n"},
        ["--train_file", "t.tsv"],
        ["1 cells", "t.tsv:42", "tab"],
    ),
    "malformed JSON": (
        {"j.jsonl": json_lines(ROWS) + '{"text": "x", "label": }\n'},
        ["--train_file", "j.jsonl"],
        ["malformed JSON", "j.jsonl:21:24"],
    ),
    "a JSON row that is a list": (
        {"j.jsonl": json_lines(ROWS) + '["x", "a"]\n'},
        ["--train_file", "j.jsonl"],
        ["JSON object", "j.jsonl:21"],
    ),
    "a key missing in one row": (
        {"j.jsonl": json_lines([*ROWS, {"txt": "x", "label": "a"}])},
        ["--train_file", "j.jsonl"],
        ["no 'text'", "j.jsonl:21"],
    ),
    "a text that is a number": (
        {"j.jsonl": json_lines([*ROWS, {"text": 7, "label": "a"}])},
        ["--train_file", "j.jsonl"],
        ["must be a text, not int", "j.jsonl:21"],
    ),
    "half a character": (
        {"j.jsonl": json_lines(ROWS) + '{"text": "x\\ud83d", "label": "a"}\n'},
        ["--train_file", "j.jsonl"],
        ["half a character", "j.jsonl:21"],
    ),
    "broken UTF-8": (
        {"b.csv": GOOD.encode() + "味道很好,a\n".encode("gb18030")},
        ["--train_file", "b.csv"],
        ["byte 0x", "UTF-8", "b.csv:42", "gb18030"],
    ),
    "a binary file": (
        {"b.csv": b"PK\x03\x04\0\0\0\0"},
        ["--train_file", "b.csv"],
        ["not text", "b.csv"],
    ),
    "broken gzip": (
        {"g.csv.gz": gzip.compress(GOOD.encode())[:40]},
        ["--train_file", "g.csv.gz"],
        ["gzip", "g.csv.gz"],
    ),
    "gzip in name only": ({"g.csv.gz": GOOD}, ["--train_file", "g.csv.gz"], ["gzip", "g.csv.gz"]),
    "no parquet": ({"p.parquet": GOOD}, ["--train_file", "p.parquet"], ["parquet", "p.parquet"]),
    "only empty texts": (
        {"e.jsonl": json_lines([{"text": " ", "label": "a"}] * 3)},
        ["--train_file", "e.jsonl"],
        ["no usable row", "3 empty text"],
    ),
    "no labels": (
        {"u.jsonl": json_lines([{"text": "x", "label": None}] * 3)},
        ["--train_file", "u.jsonl"],
        ["no usable row", "3 no label"],
    ),
    "one class": (
        {"o.csv": "text,label\nx,a\ny,a\nz,a\n"},
        ["--train_file", "o.csv"],
        ["all labels are 'a'", "two classes"],
    ),
    "labels of mixed types": (
        {"m.jsonl": json_lines([*ROWS, {"text": "x", "label": 1}])},
        ["--train_file", "m.jsonl"],
        ["mixed types", "m.jsonl:21"],
    ),
    "a label that is an object": (
        {"m.jsonl": json_lines([{"text": "x", "label": {"a": 1}}] * 3)},
        ["--train_file", "m.jsonl"],
        ["a label is a dict", "m.jsonl:1"],
    ),
    "a label unknown to training": (
        {"v.csv": GOOD.replace(",b\n", ",bb\n")},
        ["--validation_file", "v.csv"],
        ["label 'bb' in validation", "v.csv:3", "did you mean 'b'"],
    ),
    "no set of classes": (
        {"n.csv": "text,label\n" + "".join(f"x{i},name {i}\n" for i in range(50))},
        ["--train_file", "n.csv"],
        ["50 different labels in 50 rows"],
    ),
    "regression on words": (
        {},
        ["--do_regression"],
        ["'a' is not a number", "train.csv:2", "--do_regression False"],
    ),
    "lists of different lengths": (
        {"x.jsonl": labelled([1.5, 2.5], [0.5])},
        ["--train_file", "x.jsonl"],
        ["2 numbers per row, but here 1: [0.5]", "x.jsonl:2"],
    ),
    "a number beside lists": (
        {"x.jsonl": labelled(5, [1.5, 2.5])},
        ["--train_file", "x.jsonl", "--do_regression"],
        ["2 numbers per row, but here 5", "x.jsonl:1"],
    ),
    "infinity beside names of classes": (
        {"x.jsonl": labelled(float("inf"), 0.0)},
        ["--train_file", "x.jsonl", "--class_names", "bad", "good"],
        ["label inf in train is unknown", "x.jsonl:1"],
    ),
    "lists of nothing": (
        {"x.jsonl": labelled([])},
        ["--train_file", "x.jsonl", "--do_regression"],
        ["no row has a label", "name the label's column"],
    ),
}
FLAGS = {
    "an architecture among its own settings": (
        ["--config_overrides", "model_type=gpt2"],
        [],
        ["model_type cannot be overridden", "--config_overrides"],
    ),
    "labels among the settings of the model": (
        ["--config_overrides", "num_labels=7"],
        [],
        ["num_labels cannot be overridden", "the labels in the data"],
    ),
    "outputs without names": (
        ["--config_overrides", "return_dict=false"],
        [],
        ["return_dict cannot be overridden"],
    ),
    "a name of transformers' own": (
        ["--config_overrides", "_auto_class=x"],
        [],
        ["no setting '_auto_class'"],
    ),
    "an unknown flag": (
        [],
        ["--learning_rat3", "1"],
        ["unknown argument --learning_rat3", "did you mean --learning_rate"],
    ),
    "a flag twice": ([], ["--seed", "1", "--seed", "2"], ["--seed is given twice"]),
    "a word for a number": ([], ["--num_train_epochs", "three"], ["num_train_epochs", "three"]),
    "a choice that is none": (
        [],
        ["--tokenizer_algorithm", "wordpeace"],
        ["wordpeace", "wordpiece"],
    ),
    "a strategy that is none": ([], ["--lr_scheduler_type", "linaer"], ["linaer"]),
    "a metric that is none": (
        [],
        ["--metric_name", "acuracy"],
        ["acuracy", "did you mean accuracy"],
    ),
    "a regression metric for classes": (
        [],
        ["--metric_name", "pearsonr"],
        ["pearsonr", "single label"],
    ),
    "two sources of data": ([], ["--dataset_name", "imdb"], ["two sources", "--dataset_name"]),
    "no samples": ([], ["--max_train_samples", "0"], ["--max_train_samples is 0"]),
    "a split of nothing": (
        [],
        ["--validation_split_percentage", "100"],
        ["100 %", "--validation_split_percentage"],
    ),
    "predictions of no model": (
        [],
        ["--do_predict"],
        ["nothing is trained", "--model_name_or_path"],
    ),
    "fp16 without a GPU": ([], ["--fp16"], ["fp16", "GPU"]),
    "an output folder that is a file": (
        [],
        ["--output_dir", "train.csv"],
        ["train.csv is a file", "--output_dir"],
    ),
    "class names twice": ([], ["--class_names", "x", "x"], ["'x' is named twice"]),
    "an unknown architecture": (["--model_type", "brt"], [], ["'brt'", "did you mean bert"]),
    "an unknown setting": (
        ["--config_overrides", "hiden_size=8"],
        [],
        ["hiden_size", "did you mean hidden_size"],
    ),
    "sizes that do not fit": (
        ["--config_overrides", "hidden_size=30,num_attention_heads=4"],
        [],
        ["hidden", "heads"],
    ),
    "a vocabulary of nothing": (["--vocab_size", "20"], [], ["--vocab_size 20", "too small"]),
    "adapters on random weights": (
        [],
        ["--lora_rank", "4"],
        ["adapters need a trained model", "--lora_rank"],
    ),
}
CONFIGS = {
    "no such configuration": (None, ["cannot read", "absent.yaml"]),
    "malformed YAML": ("seed: [1\n", ["malformed YAML", "c.yaml:2"]),
    "an unknown key": (
        "learning_rat: 1\n",
        ["unknown key learning_rat", "c.yaml:1", "did you mean learning_rate"],
    ),
    "a key twice": ("seed: 1\nseed: 2\n", ["seed is set twice", "c.yaml:2"]),
    "a value of another type": ("seed: 1\nmax_steps: many\n", ["many", "c.yaml:2"]),
    "an alias": ("seed: &a 1\ndata_seed: *a\n", ["aliases", "c.yaml:2"]),
    "a tag": (
        "seed: 1\nrun_name: !!python/name:os.system x\n",
        ["run_name", "python/name:os.system", "c.yaml:2"],
    ),
    "a date that is none": ("run_name: 2001-99-99\n", ["run_name", "month", "c.yaml:1"]),
    "a number of thousands of digits": (f"seed: {'9' * 5000}\n", ["too long", "c.yaml:1"]),
    "brackets without end": ("class_names: " + "[" * 9000, ["nested too deeply", "c.yaml"]),
    "a key that is a list": ("? [seed]\n: 1\n", ["unknown key ['seed']", "c.yaml:1"]),
    "no value in a list": ("seed: []\n", ["seed takes one value, not an empty list", "c.yaml:1"]),
    "a set": ("!!set {seed}\n", ["flag: value", "c.yaml"]),
    "a file of another kind": ("seed: 1\n" * 200_000, ["larger than 1 MB", "c.yaml"]),
    "a list at the top": ("- seed\n", ["flag: value", "c.yaml"]),
}
CHECKPOINTS = {
    "no such folder": ({}, "./absent", ["./absent", "--model_name_or_path"]),
    "a name that the Hub does not have here": ({}, "no-such/model", ["no-such/model", "network"]),
    "a file": ({}, "train.csv", ["train.csv is a file", "--model_name_or_path"]),
    "a folder without a model": ({"m/readme.txt": "x"}, "./m", ["cannot load ./m", "config.json"]),
    "a broken configuration": ({"m/config.json": "{"}, "./m", ["cannot load ./m", "config.json"]),
    "a tokenizer that is missing": (
        {"m/config.json": '{"model_type": "bert"}'},
        "./m",
        ["./m holds no tokenizer"],
    ),
    "weights that are missing": (
        {
            "m/config.json": '{"model_type": "bert"}',
            "m/vocab.txt": "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nsoup\n",
        },
        "./m",
        ["cannot load ./m", "weights"],
    ),
}


def refuse(sentiment, folder, flags):
    """The refusal that these flags meet; base flags are left out where the case gives its own."""
    base = {"--train_file": ["train.csv"], "--output_dir": ["out"]}
    given = {flag: words for flag, words in base.items() if flag not in flags}
    argv = [word for flag, words in given.items() for word in (flag, *words)]
    with pytest.raises(Refusal) as caught:
        sentiment.main([*argv, *flags])
    return caught.value


def check(refusal, expected):
    message = str(refusal)
    assert refusal.exit_code == 2
    assert len(message.splitlines()) <= 3, message
    assert message.startswith("error: ")
    assert "fix: " in message
    for words in expected:
        assert words in message, message


def write(folder, contents):
    for name, content in {"train.csv": GOOD, **contents}.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def test_the_table_is_long_enough():
    assert len(FILES) + len(FLAGS) + len(CONFIGS) + len(CHECKPOINTS) >= 60


@pytest.mark.parametrize("case", FILES)
def test_files(case, sentiment, in_tmp_path):
    contents, flags, expected = FILES[case]
    write(in_tmp_path, contents)
    check(refuse(sentiment, in_tmp_path, [*flags, *SCRATCH, *SHORT]), expected)


@pytest.mark.parametrize("case", FLAGS)
def test_flags(case, sentiment, in_tmp_path):
    model, flags, expected = FLAGS[case]
    write(in_tmp_path, {})
    kept = [
        word
        for pair in zip(SCRATCH[::2], SCRATCH[1::2], strict=True)
        if pair[0] not in model
        for word in pair
    ]
    check(refuse(sentiment, in_tmp_path, [*kept, *model, *flags, *SHORT]), expected)


@pytest.mark.parametrize("case", CONFIGS)
def test_configurations(case, sentiment, in_tmp_path):
    content, expected = CONFIGS[case]
    write(in_tmp_path, {} if content is None else {"c.yaml": content})
    path = "absent.yaml" if content is None else "c.yaml"
    check(refuse(sentiment, in_tmp_path, ["--config", path, *SCRATCH, *SHORT]), expected)


@pytest.mark.parametrize("case", CHECKPOINTS)
def test_checkpoints(case, sentiment, in_tmp_path):
    contents, name, expected = CHECKPOINTS[case]
    write(in_tmp_path, contents)
    check(refuse(sentiment, in_tmp_path, ["--model_name_or_path", name, *SHORT]), expected)


def test_the_process_ends_with_code_2_and_without_a_traceback(in_tmp_path):
    command = [sys.executable, str(ROOT / "recipes/sentiment/run.py"), "--train_file", "absent.csv"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert ended.stderr.count("\n") <= 3
