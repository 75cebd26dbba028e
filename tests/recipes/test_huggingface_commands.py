"""The example commands of Hugging Face's own scripts run unchanged, local models and files in place of Hub names."""

import json
import shlex

import pytest
from conftest import load_recipe
from huggingface import MODELS, RECIPES, save_model

TEXT = [f"the soup number {n} was {('good', 'cold')[n % 2]}" for n in range(40)]
# Commands of examples/pytorch/*/README.md and test_pytorch_examples.py. Their Hub names stand for local ones:
# gpt2, roberta, t5, marian and mbart are tiny models, text.txt, pairs.json, news.csv, news.json and hub/ are data.
COMMANDS = [
    "run_clm --model_name_or_path gpt2 --dataset_name hub --per_device_train_batch_size 8 "
    "--per_device_eval_batch_size 8 --do_train --do_eval --output_dir test-clm",
    "run_clm --model_name_or_path gpt2 --train_file text.txt --validation_file text.txt "
    "--per_device_train_batch_size 8 --per_device_eval_batch_size 8 --do_train --do_eval --output_dir test-clm",
    "run_clm --model_name_or_path gpt2 --train_file text.txt --validation_file text.txt --do_train --do_eval "
    "--block_size 16 --per_device_train_batch_size 5 --per_device_eval_batch_size 5 --num_train_epochs 2 "
    "--output_dir tmp --use_cpu",
    "run_clm --model_type gpt2 --tokenizer_name gpt2 --train_file text.txt --output_dir tmp "
    "--config_overrides n_embd=10,n_head=2 --use_cpu",
    'run_clm --model_type gpt2 --tokenizer_name gpt2 --config_overrides="n_embd=16,n_head=4,n_layer=2,n_positions=102" '
    "--train_file text.txt --do_train --output_dir tmp",
    "run_clm --model_name_or_path gpt2 --train_file text.txt --validation_file text.txt --streaming --max_steps 2 "
    "--do_train --do_eval --output_dir tmp",
    "run_clm --model_name_or_path gpt2 --train_file text.txt --dtype float32 --keep_linebreaks False "
    "--validation_split_percentage 20 --preprocessing_num_workers 1 --do_train --do_eval --output_dir tmp",
    "run_mlm --model_name_or_path roberta --dataset_name hub --per_device_train_batch_size 8 "
    "--per_device_eval_batch_size 8 --do_train --do_eval --output_dir test-mlm",
    "run_mlm --model_name_or_path roberta --train_file text.txt --validation_file text.txt "
    "--per_device_train_batch_size 8 --per_device_eval_batch_size 8 --do_train --do_eval --output_dir test-mlm",
    "run_mlm --model_name_or_path roberta --train_file text.txt --validation_file text.txt --output_dir tmp "
    "--do_train --do_eval --prediction_loss_only --num_train_epochs=1 --use_cpu",
    "run_mlm --model_name_or_path roberta --train_file text.txt --line_by_line --pad_to_max_length "
    "--max_seq_length 24 --mlm_probability 0.2 --do_train --do_eval --output_dir tmp",
    "run_translation --model_name_or_path marian --do_train --do_eval --source_lang en --target_lang ro "
    "--dataset_name hub_pairs --output_dir tst-translation --per_device_train_batch_size=4 "
    "--per_device_eval_batch_size=4 --predict_with_generate",
    "run_translation --model_name_or_path t5 --do_train --do_eval --source_lang en --target_lang ro --source_prefix "
    '"translate English to Romanian: " --train_file pairs.json --validation_file pairs.json '
    "--output_dir tst-translation --per_device_train_batch_size=4 --per_device_eval_batch_size=4 "
    "--predict_with_generate",
    "run_translation --model_name_or_path marian --source_lang en --target_lang ro --train_file pairs.json "
    "--validation_file pairs.json --output_dir tmp --max_steps=5 --warmup_steps=1 --do_train --learning_rate=3e-3 "
    "--per_device_train_batch_size=2 --per_device_eval_batch_size=1 --predict_with_generate",
    "run_translation --model_name_or_path t5 --source_lang en_XX --target_lang ro_RO --train_file pairs.json "
    "--test_file pairs.json --max_source_length 32 --max_target_length 32 --val_max_target_length 16 --num_beams 2 "
    "--max_train_samples 8 --max_predict_samples 4 --pad_to_max_length --do_train --do_predict "
    "--predict_with_generate --output_dir tmp",
    "run_summarization --model_name_or_path t5 --do_train --do_eval --dataset_name hub_news --source_prefix "
    '"summarize: " --output_dir tst-summarization --per_device_train_batch_size=4 --per_device_eval_batch_size=4 '
    "--predict_with_generate",
    "run_summarization --model_name_or_path t5 --do_train --do_eval --train_file news.csv --validation_file news.csv "
    '--source_prefix "summarize: " --output_dir tst-summarization --per_device_train_batch_size=4 '
    "--per_device_eval_batch_size=4 --predict_with_generate",
    "run_summarization --model_name_or_path t5 --do_train --do_eval --train_file news.json --validation_file news.json "
    '--text_column text --summary_column summary --source_prefix "summarize: " --output_dir tmp '
    "--per_device_train_batch_size=4 --per_device_eval_batch_size=4 --predict_with_generate",
    "run_summarization --model_name_or_path t5 --train_file news.json --validation_file news.json --output_dir tmp "
    "--max_steps=5 --warmup_steps=1 --do_train --do_eval --learning_rate=2e-3 --per_device_train_batch_size=2 "
    "--per_device_eval_batch_size=1 --predict_with_generate",
    "run_glue --model_name_or_path bert --output_dir tmp --train_file glue.csv --validation_file glue.csv --do_train "
    "--do_eval --per_device_train_batch_size=2 --per_device_eval_batch_size=1 --learning_rate=1e-4 --max_steps=10 "
    "--warmup_steps=2 --seed=42 --max_seq_length=128",
    "run_ner --model_name_or_path bert --train_file words.json --validation_file words.json --output_dir tmp "
    "--do_train --do_eval --warmup_steps=2 --learning_rate=2e-4 --per_device_train_batch_size=2 "
    "--per_device_eval_batch_size=2 --num_train_epochs=2 --seed 7",
    # Theirs names each language twice, the second time as en_XX, of which Marian knows nothing.
    "run_translation --model_name_or_path marian --source_lang en --target_lang ro --train_file pairs.json "
    "--validation_file pairs.json --output_dir tmp --max_steps=5 --warmup_steps=1 --do_train --do_eval "
    "--learning_rate=3e-3 --per_device_train_batch_size=2 --per_device_eval_batch_size=1 --predict_with_generate "
    "--source_lang en --target_lang ro --max_source_length 512",
]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A folder with the models and data that the commands name."""
    folder = tmp_path_factory.mktemp("hub")
    for name in MODELS:
        save_model(folder / name, name, TEXT)
    pairs = [{"translation": {"en": text, "ro": text.replace("soup", "supa")}} for text in TEXT]
    news = [{"text": f"{text}. We left.", "summary": f"{text}."} for text in TEXT]
    words = [{"tokens": text.split(), "ner_tags": [*"OBOOOO"]} for text in TEXT]
    for name, rows in (("pairs.json", pairs), ("news.json", news), ("words.json", words)):
        (folder / name).write_text(
            "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
        )
    csv = "".join(f"{row['text']},{row['summary']}\n" for row in news)
    (folder / "news.csv").write_text("text,summary\n" + csv, encoding="utf-8")
    sentences = "".join(
        f"{('equivalent', 'not_equivalent')[n % 2]},{text},{TEXT[-n]}\n"
        for n, text in enumerate(TEXT)
    )
    (folder / "glue.csv").write_text("label,sentence1,sentence2\n" + sentences, encoding="utf-8")
    (folder / "text.txt").write_text("\n".join(TEXT) + "\n", encoding="utf-8")
    for data, source in (
        ("hub", "text.txt"),
        ("hub_pairs", "pairs.json"),
        ("hub_news", "news.json"),
    ):
        (folder / data).mkdir()
        (folder / data / f"train{source[source.rindex('.') :]}").write_text(
            (folder / source).read_text("utf-8"), "utf-8"
        )
    return folder


def test_there_are_commands_for_every_script():
    assert {command.split()[0] for command in COMMANDS} == set(RECIPES)
    assert len(COMMANDS) >= 20


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_runs_unchanged(command, hub, tmp_path, monkeypatch):
    folder = run(command, hub, tmp_path, monkeypatch)
    assert json.loads((folder / "run.json").read_text())["status"] == "complete"


@pytest.mark.slow
@pytest.mark.parametrize("strategies", ["--save_strategy no", "--eval_strategy no"])
@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_says_when_to_save_and_evaluate(
    command, strategies, hub, tmp_path, monkeypatch
):
    folder = run(f"{command} {strategies}", hub, tmp_path, monkeypatch)
    assert json.loads((folder / "run.json").read_text())["status"] == "complete"
    assert (folder / "model.safetensors").exists()
    if "save" in strategies:
        assert not list(folder.glob("checkpoint-*"))
    else:
        history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
        assert not [entry for entry in history if "eval_loss" in entry]


def run(command, hub, tmp_path, monkeypatch):
    """Runs one command; its output folder."""
    for path in hub.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    script, *flags = shlex.split(command)
    load_recipe(RECIPES[script]).main(flags)
    return tmp_path / flags[flags.index("--output_dir") + 1]
