"""The recipe from end to end, on tiny data: what a run leaves, and that the saved model answers as the run did."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import LEFT, ROOT, SCRATCH, SHORT, load_recipe, merged, predictions
from transformers import pipeline

from recipes.common.config import parsing
from recipes.common.data import readers
from recipes.common.predict.opening import open_folder
from recipes.common.runtime.errors import Refusal

RECIPE = "token_classification"
FILES = ["--train_file", "train.conll", "--test_file", "test.conll", "--output_dir", "out"]
NAMES, TOWNS = ["Ada", "Bruno", "Florence"], ["Rome", "Florence"]
LONGER = ["--num_train_epochs", "12", "--learning_rate", "1e-2", "--save_strategy", "no"]
LONGER += ["--load_best_model_at_end", "false", "--eval_strategy", "no", "--bf16", "false"]


@pytest.fixture(scope="module")
def recipe():
    return load_recipe(RECIPE)


@pytest.fixture
def sentences(in_tmp_path):
    """train.conll and test.conll with 36 and 6 sentences; Florence is a person or a town."""
    for name, number in (("train", 36), ("test", 6)):
        lines = []
        for row in range(number):
            person, town = NAMES[row % 3], TOWNS[row % 2]
            lines += [f"{person} B-PER", "lives O", "in O", "old B-LOC", f"{town} I-LOC", ". O", ""]
        (in_tmp_path / f"{name}.conll").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return in_tmp_path


def test_a_run_leaves_the_whole_contract(recipe, sentences):
    metrics = recipe.main([*FILES, *SCRATCH, *SHORT])
    assert {path.name for path in Path("out").iterdir()} >= LEFT | {"checkpoint-2"}
    assert {path.name for path in Path("out/plots").iterdir()} == {
        "learning_curves.png",
        "confusion_matrix.png",
    }
    results = json.loads(Path("out/all_results.json").read_text())
    assert results["predict_f1"] == metrics["predict_f1"] and results["predict_samples"] == 6
    record = json.loads(Path("out/run.json").read_text())
    assert (record["status"], record["task"]) == ("complete", "token-classification")
    config = json.loads(Path("out/config.json").read_text())
    assert config["id2label"] == {"0": "B-LOC", "1": "B-PER", "2": "I-LOC", "3": "O"}
    assert "problem_type" not in config


def test_it_learns_what_a_word_alone_does_not_tell(recipe, sentences):
    """The baseline takes Florence for one of the two."""
    metrics = recipe.main([*FILES, *SCRATCH, *LONGER])
    assert metrics["predict_f1"] == metrics["predict_accuracy"] == 1.0
    assert metrics["predict_baseline_f1"] < 0.95
    (row,) = predictions()[2:3]
    assert row["tokens"] == ["Florence", "lives", "in", "old", "Rome", "."]
    assert row["prediction"] == row["label"] == ["B-PER", "O", "O", "B-LOC", "I-LOC", "O"]
    assert all(0.5 < score <= 1 for score in row["scores"])


def test_predict_and_pipeline_give_the_same_entities(recipe, sentences):
    recipe.main([*FILES, *SCRATCH, *LONGER])
    text = "Florence lives in old Florence."
    (answer,) = open_folder("out").answers([text])
    entities = [(one["label"], one["start"], one["end"]) for one in answer["prediction"]]
    assert entities == [("PER", 0, 8), ("LOC", 18, 30)]
    assert answer["prediction"][1]["text"] == "old Florence"
    piped = pipeline("token-classification", model="out", aggregation_strategy="first")(text)
    assert entities == [(one["entity_group"], one["start"], one["end"]) for one in piped]


@pytest.mark.parametrize(("model_type", "algorithm"), [("bert", "unigram"), ("roberta", "bpe")])
def test_predict_takes_words_as_the_training_data_does(model_type, algorithm, recipe, sentences):
    """Not as SentencePiece or byte-level BPE part a text."""
    words = merged(*SCRATCH, "--model_type", model_type, "--tokenizer_algorithm", algorithm)
    recipe.main([*FILES, *words, *LONGER])
    text = "Florence lives in old Florence."
    (answer,) = open_folder("out").answers([text])
    found = [(one["label"], one["start"], one["end"]) for one in answer["prediction"]]
    assert found == [("PER", 0, 8), ("LOC", 18, 30)]


def test_predict_labels_all_words_of_a_long_text(recipe, sentences):
    """40 sentences of 6 words, with 32 tokens at once; a short text has one window and the same answer as before."""
    recipe.main([*FILES, *SCRATCH, *LONGER])
    folder = open_folder("out")
    sentence = "Florence lives in old Rome .".split()
    short, long = folder.answers([sentence, sentence * 40])
    assert short["prediction"] == ["B-PER", "O", "O", "B-LOC", "I-LOC", "O"]
    assert long["prediction"][0] == "B-PER" and long["prediction"][-2] == "I-LOC"
    assert len(long["prediction"]) == 240 and long["prediction"].count("O") < 160
    (text,) = folder.answers([" ".join(sentence * 40)])
    assert text["prediction"][-1]["end"] == 40 * 29 - 3
    assert text["prediction"][-1]["text"] == "old Rome"


def test_of_two_windows_the_one_that_holds_more_around_a_word_labels_it(recipe, sentences):
    recipe.main([*FILES, *SCRATCH, *SHORT])
    folder = open_folder("out")
    windows = list(folder._windows(0, ["soup"] * 60, []))
    assert [len(window.words) for window in windows][0] == 32 and len(windows) > 2
    found = [{}]
    folder._label(windows, found)
    assert sorted(found[0]) == list(range(60))
    assert min(label.around for word, label in found[0].items() if 4 < word < 56) >= 4


def test_predict_reads_the_words_of_a_file_and_answers_with_a_label_for_each(recipe, sentences):
    recipe.main([*FILES, *SCRATCH, *LONGER])
    folder = open_folder("out")
    found = [row["prediction"] for row in folder.answers(folder.texts(Path("test.conll")))]
    assert found == [row["prediction"] for row in predictions()]
    Path("texts.jsonl").write_text('{"text": "Ada lives in Rome"}\n')
    assert list(folder.texts(Path("texts.jsonl"))) == ["Ada lives in Rome"]
    Path("mixed.txt").write_text("Ada lives in Rome\n\nso so\n")
    assert list(folder.texts(Path("mixed.txt"))) == ["Ada lives in Rome", "", "so so"]
    Path("sentences.txt").write_text("Ada B-PER\nlives O\n\nso O\n")
    assert list(folder.texts(Path("sentences.txt"))) == [["Ada", "lives"], ["so"]]
    Path("lists.csv").write_text("tokens\n\"['Ada', 'lives']\"\n")
    assert list(folder.texts(Path("lists.csv"))) == [["Ada", "lives"]]
    Path("five.jsonl").write_text('{"tokens": ["Ada", 5]}\n')
    with pytest.raises(Refusal, match="one is a int: 5"):
        list(folder.texts(Path("five.jsonl")))
    Path("other.jsonl").write_text('{"name": "Ada"}\n')
    with pytest.raises(Refusal, match="no column 'tokens'"):
        list(folder.texts(Path("other.jsonl")))


def test_the_command_line_names_the_entities(recipe, sentences):
    recipe.main([*FILES, *SCRATCH, *LONGER])
    command = [sys.executable, str(ROOT / "cli.py"), "predict", "out", "Ada lives in old Rome."]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "Ada (PER), old Rome (LOC)\tAda lives in old Rome.\n"


def test_words_that_are_cut_off_have_the_most_frequent_label_and_no_score(recipe, sentences):
    recipe.main([*FILES, *SCRATCH[:-1], "5", *SHORT])
    (row, *_) = predictions()
    assert row["prediction"][3:] == ["O", "O", "O"] and row["scores"][3:] == [None, None, None]


def test_a_test_set_without_labels_is_predicted(recipe, sentences):
    words = [row["tokens"] for _, row in readers.read(Path("test.conll"))]
    Path("test.conll").write_text("".join("\n".join(row) + "\n\n" for row in words))
    metrics = recipe.main([*FILES, *SCRATCH, *SHORT])
    assert "predict_f1" not in metrics and [row["label"] for row in predictions()] == [None] * 6


def test_adapters_label_words_and_answer(recipe, sentences):
    recipe.main([*FILES[:4], "--output_dir", "base", *SCRATCH, *LONGER])
    words = ["--model_name_or_path", "base", "--lora_rank", "2", "--max_seq_length", "32"]
    recipe.main([*FILES, *words, *SHORT])
    answers = open_folder("out").answers(["Ada lives in old Rome."])
    assert [one["label"] for one in next(answers)["prediction"]] == ["PER", "LOC"]


def test_a_trained_folder_is_evaluated_alone_with_its_own_labels(recipe, sentences):
    metrics = recipe.main([*FILES, *SCRATCH, *LONGER])
    words = ["--do_predict", "--model_name_or_path", "out", "--test_file", "test.conll"]
    again = recipe.main([*words, "--output_dir", "again", "--bf16", "false"])
    assert again["predict_f1"] == metrics["predict_f1"] == 1.0


def test_a_classifier_of_texts_labels_no_words(recipe, sentences, sentiment, reviews):
    sentiment.main(["--train_file", "train.csv", "--output_dir", "reviews", *SCRATCH, *SHORT])
    words = ["--do_predict", "--model_name_or_path", "reviews", "--test_file", "test.conll"]
    with pytest.raises(Refusal, match="no classifier but a BertForSequenceClassification"):
        recipe.main([*words, "--output_dir", "out"])


def test_a_stream_trains_as_well(recipe, sentences):
    words = [*FILES, "--validation_file", "test.conll", "--streaming"]
    metrics = recipe.main([*words, *SCRATCH, *SHORT])
    assert metrics["predict_accuracy"] > 0


def test_a_map_merges_types_and_leaves_others_out(recipe, sentences):
    """The word "in" has another label than in the map: it is neither learned nor scored."""
    for name in ("train", "test"):
        text = Path(f"{name}.conll").read_text()
        Path(f"{name}.conll").write_text(text.replace("in O", "in X"))
    words = [*FILES, "--label_map", "B-PER,B-LOC=B-NAME I-LOC=I-NAME O=O"]
    metrics = recipe.main([*words, *SCRATCH, *LONGER])
    config = json.loads(Path("out/config.json").read_text())
    assert config["label2id"].keys() == {"B-NAME", "I-NAME", "O"}
    assert predictions()[0]["label"] == ["B-NAME", "O", None, "B-NAME", "I-NAME", "O"]
    assert metrics["predict_f1"] == 1.0 and "predict_f1_NAME" in metrics


@pytest.mark.parametrize(
    ("task", "column"), [("ner", "ner_tags"), ("pos", "pos_tags"), ("chunk", "chunk_tags")]
)
def test_task_name_chooses_the_column_as_in_run_ner(task, column, recipe, sentences):
    rows = [row for _, row in readers.read(Path("train.conll"))]
    lines = []
    for row in rows:
        pairs = zip(row["tokens"], row["tags"], strict=True)
        lines += [f"{word} {word[0]} {len(word)} {tag}" for word, tag in pairs] + [""]
    Path("train.txt").write_text("\n".join(lines) + "\n")
    words = ["--train_file", "train.txt", "--output_dir", "out", "--task_name", task]
    recipe.main([*words, "--return_entity_level_metrics", *SCRATCH, *SHORT])
    names = json.loads(Path("out/config.json").read_text())["label2id"].keys()
    assert names == {label for row in readers_of(column) for label in row}


def test_task_name_keeps_the_data_that_a_configuration_names(recipe, sentences):
    """Of GLUE's recipe --task_name names a data set; here it only chooses a column."""
    Path("mine.yaml").write_text("train_file: [train.conll]\ntask_name: pos\n")
    words = ["--config", "mine.yaml", "--task_name", "ner", "--output_dir", "out"]
    arguments, _ = parsing.parse(recipe.Arguments, recipe.__file__, words)
    assert arguments.train_file == ["train.conll"]
    assert arguments.label_column_name == "ner_tags"


def readers_of(column):
    options = readers.Options(words=True)
    return [row[column] for _, row in readers.read(Path("train.txt"), options)]


def test_all_tokens_may_be_labelled(recipe, sentences):
    metrics = recipe.main([*FILES, *SCRATCH, *LONGER, "--label_all_tokens"])
    assert metrics["predict_f1"] > 0.9
    assert [row["prediction"] for row in predictions()] == [row["label"] for row in predictions()]


def test_the_default_configuration_names_files_that_exist():
    path = ROOT / "recipes" / RECIPE / "config.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    files = [settings[key] for key in ("train_file", "validation_file", "test_file")]
    assert all((ROOT / name).is_file() for name in files)
