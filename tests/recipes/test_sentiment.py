"""The recipe from end to end, on tiny data: what a run leaves, and that the saved model answers as the run did."""

import json
import re

import numpy
import pytest
import yaml
from conftest import LEFT, ROOT, SCRATCH, SHORT, load_recipe, merged, predictions
from transformers import AutoModel, AutoTokenizer, pipeline

from recipes.common.predict.opening import open_folder

RECIPE = "sentiment"
FILES = ["--train_file", "train.csv", "--test_file", "test.csv", "--output_dir", "out"]


@pytest.fixture(scope="module")
def recipe():
    return load_recipe(RECIPE)


def test_a_run_leaves_the_whole_contract(recipe, reviews):
    metrics = recipe.main([*FILES, *SCRATCH, *SHORT])
    assert {path.name for path in (reviews / "out").iterdir()} >= LEFT | {"checkpoint-2"}
    assert {path.name for path in (reviews / "out/plots").iterdir()} == {
        "learning_curves.png",
        "confusion_matrix.png",
    }
    results = json.loads((reviews / "out/all_results.json").read_text())
    assert results["predict_accuracy"] == metrics["predict_accuracy"]
    assert results["predict_samples"] == 8
    record = json.loads((reviews / "out/run.json").read_text())
    assert record["status"] == "complete"
    assert record["rows"]["train"] == {
        "read": 40,
        "used": 36,
        "skipped": {"held out for validation": 4},
    }
    assert set(record["data_sha256"]) == {"train.csv", "test.csv"}


def test_every_row_is_predicted_in_order_with_scores_that_sum_to_one(recipe, reviews):
    metrics = recipe.main([*FILES, *SCRATCH, *SHORT])
    rows = predictions()
    assert [row["row_id"] for row in rows] == list(range(8))
    lines = (reviews / "test.csv").read_text().splitlines()[1:]
    assert [row["text"] for row in rows] == [line.rpartition(",")[0] for line in lines]
    assert [row["label"] for row in rows] == ["positive", "negative"] * 4
    assert numpy.allclose([sum(row["scores"].values()) for row in rows], 1, atol=1e-5)
    assert numpy.mean([row["prediction"] == row["label"] for row in rows]) == pytest.approx(
        metrics["predict_accuracy"]
    )
    losses = [-numpy.log(row["scores"][row["label"]]) for row in rows]
    assert numpy.mean(losses) == pytest.approx(metrics["predict_cross_entropy"], abs=1e-4)


def test_pipeline_gives_the_labels_and_scores_of_the_run(recipe, reviews):
    recipe.main([*FILES, *SCRATCH, *SHORT, "--bf16", "false"])
    rows = predictions()
    answers = pipeline("text-classification", model="out", device="cpu")(
        [row["text"] for row in rows]
    )
    assert [answer["label"] for answer in answers] == [row["prediction"] for row in rows]
    scores = [row["scores"][row["prediction"]] for row in rows]
    assert numpy.allclose([answer["score"] for answer in answers], scores, atol=1e-5)


def test_the_default_configuration_names_files_that_exist():
    settings = yaml.safe_load(
        (ROOT / "recipes" / RECIPE / "config.yaml").read_text(encoding="utf-8")
    )
    files = [
        settings[key] for key in ("train_file", "validation_file", "test_file") if key in settings
    ]
    assert files
    assert all((ROOT / name).is_file() for name in files)


def test_run_yaml_repeats_the_run(recipe, reviews):
    first = recipe.main([*FILES, *SCRATCH, *SHORT])
    again = recipe.main(["--config", "out/run.yaml", "--output_dir", "again"])
    assert predictions("out") == predictions("again")
    assert again["predict_loss"] == first["predict_loss"]


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_several_labels_a_row(recipe, in_tmp_path):
    kinds = [["food"], ["service"], ["food", "service"], []]
    write_rows(
        in_tmp_path / "m.jsonl", [{"text": f"text {i}", "label": kinds[i % 4]} for i in range(40)]
    )
    recipe.main(
        [
            *"--train_file m.jsonl --test_file m.jsonl --output_dir out".split(),
            *SCRATCH,
            *SHORT,
        ]
    )
    config = json.loads((in_tmp_path / "out/config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert config["id2label"] == {"0": "food", "1": "service"}
    assert predictions()[3]["label"] == []


def test_ratings(recipe, in_tmp_path):
    write_rows(in_tmp_path / "r.jsonl", [{"text": f"text {i}", "label": i / 8} for i in range(40)])
    files = ["--train_file", "r.jsonl", "--test_file", "r.jsonl", "--output_dir", "out"]
    metrics = recipe.main([*files, *SCRATCH, *SHORT])
    rows = predictions()
    assert rows[5]["label"] == 0.625
    errors = [(row["prediction"] - row["label"]) ** 2 for row in rows]
    assert numpy.mean(errors) == pytest.approx(metrics["predict_mse"], rel=1e-4)


def test_several_numbers_a_row(recipe, in_tmp_path):
    """Each has its scores, their mean chooses the best model, and the trained folder answers with all of them."""
    rows = [{"text": f"text {i}", "joy": i / 8, "fear": 1 - i / 8} for i in range(40)]
    write_rows(in_tmp_path / "n.jsonl", rows)
    files = "--train_file n.jsonl --test_file n.jsonl --output_dir out --bf16 false".split()
    metrics = recipe.main([*files, "--label_column_names", "joy,fear", *SCRATCH, *SHORT])
    assert predictions()[5]["label"] == {"joy": 0.625, "fear": 0.375}
    errors = {
        name: [(row["prediction"][name] - row["label"][name]) ** 2 for row in predictions()]
        for name in ("joy", "fear")
    }
    for name in ("joy", "fear"):
        assert numpy.mean(errors[name]) == pytest.approx(metrics[f"predict_mse_{name}"], rel=1e-4)
    assert metrics["predict_mse"] == pytest.approx(
        (metrics["predict_mse_joy"] + metrics["predict_mse_fear"]) / 2
    )
    assert metrics["predict_loss"] == pytest.approx(metrics["predict_mse"], rel=1e-4)
    answers = list(open_folder("out").answers(row["text"] for row in rows))
    assert answers[5]["prediction"] == pytest.approx(predictions()[5]["prediction"], abs=1e-5)
    again = "--model_name_or_path out --do_predict --test_file n.jsonl --max_seq_length 32".split()
    evaluated = recipe.main(
        [*again, "--output_dir", "again", "--label_column_names", "joy,fear", "--bf16", "false"]
    )
    assert evaluated["predict_mse"] == pytest.approx(metrics["predict_mse"], rel=1e-4)


def test_one_column_per_label(recipe, in_tmp_path):
    lines = [f"text {i},{i % 2},{i % 3 // 2}" for i in range(40)]
    (in_tmp_path / "c.csv").write_text(
        "text,toxic,insult\n" + "\n".join(lines) + "\n", encoding="utf-8"
    )
    files = ["--train_file", "c.csv", "--test_file", "c.csv", "--output_dir", "out"]
    recipe.main([*files, "--label_column_names", "toxic,insult", *SCRATCH, *SHORT])
    config = json.loads((in_tmp_path / "out/config.json").read_text())
    assert config["id2label"] == {"0": "toxic", "1": "insult"}
    assert [row["label"] for row in predictions()[:3]] == [[], ["toxic"], ["insult"]]


def test_a_classifier_is_trained_further_with_its_own_ids(recipe, reviews):
    """Its names decide, case apart: with the data's own order the head would begin reversed."""
    flags = [
        *merged(*SHORT, "--learning_rate", "1e-9", "--bf16", "false"),
        "--test_file",
        "test.csv",
    ]
    recipe.main(
        [
            *FILES[:2],
            "--output_dir",
            "out",
            *SCRATCH,
            *flags,
            "--class_names",
            "positive",
            "negative",
        ]
    )
    text = (
        (reviews / "train.csv")
        .read_text()
        .replace(",positive", ",Positive")
        .replace(",negative", ",NEGATIVE")
    )
    (reviews / "other.csv").write_text(text, encoding="utf-8")
    flags += ["--model_name_or_path", "out", "--train_file", "other.csv", "--max_seq_length", "32"]
    recipe.main([*flags, "--output_dir", "further"])
    assert predictions("further")[0]["scores"] == pytest.approx(
        predictions("out")[0]["scores"], abs=1e-5
    )
    assert predictions("further")[0]["scores"]["positive"] != pytest.approx(0.5, abs=1e-4)
    config = json.loads((reviews / "further/config.json").read_text())
    assert config["id2label"] == {"0": "positive", "1": "negative"}


def test_pairs_are_found_by_the_known_names(recipe, in_tmp_path):
    rows = [{"sentence1": f"one {i}", "sentence2": f"two {i}", "label": i % 2} for i in range(40)]
    write_rows(in_tmp_path / "p.jsonl", rows)
    recipe.main(
        [
            *"--train_file p.jsonl --test_file p.jsonl --output_dir out".split(),
            *SCRATCH,
            *SHORT,
        ]
    )
    record = json.loads((in_tmp_path / "out/run.json").read_text())
    assert record["is_pair"] and record["text_columns"] == ["sentence1", "sentence2"]
    assert predictions()[7]["sentence2"] == "two 7"


def test_test_rows_without_labels_or_text_are_predicted_too(recipe, reviews):
    (reviews / "bare.jsonl").write_text(
        '{"text": "good soup"}\n{"text": ""}\n{"text": null}\n', encoding="utf-8"
    )
    metrics = recipe.main(
        [*FILES[:2], "--test_file", "bare.jsonl", "--output_dir", "out", *SCRATCH, *SHORT]
    )
    assert "predict_accuracy" not in metrics
    assert [row["label"] for row in predictions()] == [None, None, None]


def test_of_test_rows_only_some_may_have_labels(recipe, reviews):
    (reviews / "some.csv").write_text(
        "text,label\ngood soup,positive\ncold room,\n", encoding="utf-8"
    )
    metrics = recipe.main(
        [*FILES[:2], "--test_file", "some.csv", "--output_dir", "out", *SCRATCH, *SHORT]
    )
    assert metrics["predict_samples"] == 2
    assert [row["label"] for row in predictions()] == ["positive", None]
    assert ["loss" in row for row in predictions()] == [True, False]


def test_who_only_predicts_is_not_evaluated_on_the_sample(recipe, in_tmp_path, reviews):
    """The recipe's configuration names the sample's validation data, and evaluations in training."""
    recipe.main([*FILES, *SCRATCH, *SHORT])
    flags = "--model_name_or_path out --do_predict --test_file test.csv --max_seq_length 32".split()
    metrics = recipe.main([*flags, "--output_dir", "only", "--eval_strategy", "steps"])
    assert "predict_accuracy" in metrics
    assert not [name for name in metrics if name.startswith("eval_")]


def test_adapters_are_saved_alone_and_load_again(recipe, reviews):
    recipe.main([*FILES, *SCRATCH, *SHORT])
    files = [*FILES[:4], "--output_dir", "lora", "--bf16", "false"]
    recipe.main(
        [
            *files,
            *"--model_name_or_path out --lora_rank 2 --max_seq_length 32".split(),
            *SHORT,
        ]
    )
    assert (reviews / "lora/adapter_model.safetensors").exists()
    rows = predictions("lora")
    use = re.search(
        r"pipeline\(.*\)(?=\()", (reviews / "lora/README.md").read_text(encoding="utf-8")
    )[0]
    answers = eval(use, {"pipeline": pipeline})([row["text"] for row in rows])
    assert [answer["label"] for answer in answers] == [row["prediction"] for row in rows]
    scores = [row["scores"][row["prediction"]] for row in rows]
    assert numpy.allclose([answer["score"] for answer in answers], scores, atol=1e-5)


def test_streaming_trains_and_evaluates(recipe, reviews):
    metrics = recipe.main(
        [*FILES, *SCRATCH, *SHORT, "--streaming", "--validation_split_percentage", "20"]
    )
    assert metrics["eval_samples"] > 0 and metrics["predict_samples"] == 8


def test_a_trained_model_is_evaluated_with_its_own_label_ids(recipe, reviews):
    trained = recipe.main([*FILES, *SCRATCH, *SHORT])
    (reviews / "half.csv").write_text((reviews / "test.csv").read_text(), encoding="utf-8")
    flags = "--model_name_or_path out --do_predict --test_file half.csv --max_seq_length 32".split()
    again = recipe.main([*flags, "--output_dir", "only_predict"])
    assert again["predict_accuracy"] == trained["predict_accuracy"]
    assert [row["scores"] for row in predictions("only_predict")] == [
        row["scores"] for row in predictions()
    ]


def test_a_trained_model_predicts_rows_that_have_no_labels(recipe, reviews):
    recipe.main([*FILES, *SCRATCH, *SHORT])
    (reviews / "bare.txt").write_text("good soup\n\ncold room\n", encoding="utf-8")
    flags = "--model_name_or_path out --do_predict --test_file bare.txt --max_seq_length 32".split()
    recipe.main([*flags, "--output_dir", "only_predict"])
    assert [row["text"] for row in predictions("only_predict")] == ["good soup", "", "cold room"]
    assert {row["prediction"] for row in predictions("only_predict")} <= {"negative", "positive"}


def test_an_adapter_on_an_unlabelled_encoder_keeps_the_names_of_its_labels(recipe, reviews):
    recipe.main([*FILES, *SCRATCH, *SHORT])
    AutoModel.from_pretrained("out").save_pretrained("encoder")
    AutoTokenizer.from_pretrained("out").save_pretrained("encoder")
    files = [*FILES[:4], "--output_dir", "lora", "--max_seq_length", "32"]
    recipe.main([*files, "--model_name_or_path", "encoder", "--lora_rank", "2", *SHORT])
    rows = predictions("lora")
    ours = list(open_folder("lora").answers(row["text"] for row in rows))
    theirs = pipeline("text-classification", model="lora", config="lora/config", device="cpu")
    assert {row["prediction"] for row in ours} <= {"positive", "negative"}
    assert [row["label"] for row in theirs([row["text"] for row in rows])] == [
        row["prediction"] for row in ours
    ]


def test_a_question_is_read_beside_its_sentence_as_in_qnli(recipe, in_tmp_path):
    rows = [
        {"question": f"is it {n}", "sentence": f"it was {n}", "label": n % 2, "idx": n}
        for n in range(40)
    ]
    write_rows(in_tmp_path / "pairs.jsonl", rows)
    recipe.main(["--train_file", "pairs.jsonl", "--output_dir", "out", *SCRATCH, *SHORT])
    facts = json.loads((in_tmp_path / "out/run.json").read_text(encoding="utf-8"))
    assert (facts["text_columns"], facts["is_pair"]) == (["question", "sentence"], True)
