"""Nothing that is read from a file is executed, leaves its folder, bursts, or tells a secret."""

import bz2
import contextlib
import gzip
import json
import lzma
import os
import resource
import shutil
import subprocess
import sys
import time
import zipfile

import canaries
import psutil
import pyarrow
import pytest
import torch
from canaries import change, code, pickled, saved
from conftest import ROOT, SCRATCH, SHORT, as_if_killed, merged
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

import cli
from recipes.common import launch
from recipes.common.checkpoints import atomic_folder, retention
from recipes.common.data import readers
from recipes.common.model.tokenizer_training import train_tokenizer
from recipes.common.predict.continuing import Continuer
from recipes.common.predict.opening import open_folder
from recipes.common.report import run_record
from recipes.common.runtime.errors import Stop
from tools import generate as generation

STEPS = [
    *SHORT,
    *"--save_steps 1 --train_file train.csv --load_best_model_at_end false".split(),
]
TRAIN = merged(*SCRATCH, *STEPS, "--output_dir", "out")
ONCE = "--max_steps 1 --eval_strategy no --save_strategy no --do_train --max_seq_length 32".split()
ON = merged(*STEPS, *ONCE, "--output_dir", "new")
LORA = ["--lora_rank", "2"]
CAUSAL = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64}
ROWS = "text,label\n" + "".join(
    f"the soup number {n} was {('good', 'bad')[n % 2]},{'ab'[n % 2]}\n" for n in range(40)
)


@pytest.fixture(scope="module")
def made(tmp_path_factory, sentiment):
    """A folder with data, a classifier, the complete run that trained it, an adapter for it and a causal model."""
    folder, before = tmp_path_factory.mktemp("made"), os.getcwd()
    os.chdir(folder)
    try:
        (folder / "train.csv").write_text(ROWS, encoding="utf-8")
        sentiment.main(TRAIN)
        shutil.copytree(
            "out", "model", ignore=shutil.ignore_patterns("checkpoint-*", "run.*", "plots", ".*")
        )
        sentiment.main([*ON, "--model_name_or_path", "model", *LORA])
        (folder / "new").rename("adapter")
        tokenizer = train_tokenizer([ROWS], "bpe", 300, "gpt2")
        tokenizer.save_pretrained("causal")
        GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **CAUSAL)).save_pretrained("causal")
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    """A copy of `made` to spoil; the current folder is the one it lies in."""
    folder = tmp_path / "here"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def marker(tmp_path):
    """The file that a canary writes when it fires."""
    return tmp_path / "fired"


def attempt(action):
    """Runs what may be refused; the refusal's words, which are ours and at most three lines, or an empty string."""
    try:
        action()
    except Stop as stop:
        assert stop.exit_code == 2 and stop.where and stop.fix
        assert str(stop).count("\n") <= 2
        return str(stop)
    return ""


def train(sentiment, *flags):
    return lambda: sentiment.main(merged(*ON, *flags))


def from_folder(sentiment, *flags):
    """Trains on the data set in the folder `set`."""
    words = merged(*ON, "--dataset_name", "set", "--cache_dir", "cache", *SCRATCH, *flags)
    return lambda: sentiment.main(
        [word for word in words if word not in ("--train_file", "train.csv")]
    )


def predict(folder):
    return lambda: list(open_folder(str(folder)).answers(["the soup was good"]))


def generate(folder):
    return lambda: Continuer(str(folder)).write(
        "the soup", {"max_new_tokens": 2, "do_sample": False}
    )


def put(path, content):
    """Writes bytes or text, in the place of what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


# Files of a checkpoint that is named by --model_name_or_path: (folder, file, the weights it takes the place of).
MODEL_PICKLES = {
    "weights of torch": ("model", "pytorch_model.bin", "model.safetensors"),
    "weights that pretend to be safetensors": ("model", "model.safetensors", ""),
    "one shard of the weights": ("model", "pytorch_model-00001-of-00001.bin", "model.safetensors"),
    "training arguments beside a model": ("model", "training_args.bin", ""),
    "a tokenizer": ("model", "tokenizer.json", ""),
    "a tokenizer's configuration": ("model", "tokenizer_config.json", ""),
    "a vocabulary": ("model", "vocab.txt", "tokenizer.json"),
    "a SentencePiece model": ("model", "spiece.model", "tokenizer.json"),
    "a configuration": ("model", "config.json", ""),
    "a generation configuration": ("model", "generation_config.json", ""),
    "an adapter of torch": ("adapter", "adapter_model.bin", "adapter_model.safetensors"),
    "an adapter that pretends to be safetensors": ("adapter", "adapter_model.safetensors", ""),
}
# Files of a checkpoint from which a run goes on, listed in its manifest: (file, the one it takes the place of).
LISTED_PICKLES = {
    "an optimizer of torch": ("optimizer.pt", "optimizer.safetensors"),
    "an optimizer that pretends to be safetensors": ("optimizer.safetensors", ""),
    "a schedule of torch": ("scheduler.pt", "scheduler.safetensors"),
    "a scaler": ("scaler.pt", ""),
    "a random state": ("rng_state.pth", ""),
    "a process that pretends to be safetensors": ("process_0.safetensors", ""),
    "training arguments in a checkpoint": ("training_args.bin", ""),
    "weights of torch in a checkpoint": ("pytorch_model.bin", "model.safetensors"),
}
UNLISTED_PICKLES = [
    "rng_state_0.pth",
    "global_step1/mp_rank_00_model_states.pt",
    "global_step1/zero_pp_rank_0.pt",
]
# Data files, and files of a data set's folder.
DATA_PICKLES = {
    "train.pkl": pickled,
    "train.npy": pickled,
    "train.npz": saved,
    "train.pt": saved,
    "train.parquet": pickled,
    "typed.parquet": lambda marker: canaries.as_parquet(canaries.extension(marker)),
    "train.jsonl.gz": lambda marker: gzip.compress(pickled(marker)),
    "set/train.pkl": pickled,
    "set/train.arrow": lambda marker: canaries.as_arrow(canaries.extension(marker)),
    "set/train.tar": canaries.as_tar,
    "set/dataset_info.json": pickled,
}


def test_the_canary_fires_where_a_pickle_is_loaded(marker, tmp_path):
    put(tmp_path / "x.pt", saved(marker))
    torch.load(tmp_path / "x.pt", weights_only=False)
    assert marker.exists()


def test_pickles_lie_in_twenty_places():
    assert (
        len(MODEL_PICKLES) + len(LISTED_PICKLES) + len(UNLISTED_PICKLES) + len(DATA_PICKLES) >= 20
    )


@pytest.mark.parametrize("case", MODEL_PICKLES)
def test_no_pickle_of_a_model_is_loaded(case, here, marker, sentiment):
    folder, name, replaced = MODEL_PICKLES[case]
    (here / folder / replaced).unlink() if replaced else None
    put(here / folder / name, saved(marker) if name.endswith(".bin") else pickled(marker))
    if "-of-" in name:
        index = {"metadata": {}, "weight_map": {"classifier.weight": name}}
        (here / folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    if name == "spiece.model":
        change(here / folder / "tokenizer_config.json", tokenizer_class="T5Tokenizer")
    refused = attempt(train(sentiment, "--model_name_or_path", folder)), attempt(predict(folder))
    assert not marker.exists()
    assert all(refused) or name in ("training_args.bin", "generation_config.json")


@pytest.mark.parametrize("case", LISTED_PICKLES)
def test_no_pickle_of_a_checkpoint_is_loaded_although_the_manifest_lists_it(
    case, here, marker, sentiment
):
    name, replaced = LISTED_PICKLES[case]
    as_if_killed(here / "out", "checkpoint-1")
    checkpoint = here / "out/checkpoint-1"
    (checkpoint / replaced).unlink() if replaced else None
    put(checkpoint / name, pickled(marker) if name.endswith(".safetensors") else saved(marker))
    canaries.list_again(checkpoint)
    refused = attempt(lambda: sentiment.main(TRAIN))
    assert not marker.exists()
    assert bool(refused) == (
        bool(replaced or name.endswith(".safetensors")) and name != "scheduler.pt"
    )


@pytest.mark.parametrize("name", UNLISTED_PICKLES)
def test_a_checkpoint_with_a_pickle_that_its_manifest_does_not_list_is_passed_over(
    name, here, marker, sentiment
):
    as_if_killed(here / "out", "checkpoint-1")
    put(here / "out/checkpoint-1" / name, saved(marker))
    assert atomic_folder.damage(here / "out/checkpoint-1") == f"{name} is extra"
    named = ["--resume_from_checkpoint", "out/checkpoint-1"]
    assert f"{name} is extra" in attempt(lambda: sentiment.main([*TRAIN, *named]))
    assert not marker.exists()


@pytest.mark.parametrize("name", DATA_PICKLES)
def test_no_pickle_among_the_data_is_loaded(name, here, marker, sentiment):
    put(here / name, DATA_PICKLES[name](marker))
    run = (
        from_folder(sentiment)
        if name.startswith("set/")
        else train(sentiment, "--train_file", name, *SCRATCH)
    )
    refused = attempt(run)
    assert not marker.exists()
    assert refused or name in ("typed.parquet", "set/train.arrow")


def auto_map(folder, marker, **names):
    """Gives a model's folder code of its own, as the Hub's do."""
    put(folder / "canary.py", code(marker, *names.values()))
    return {"auto_map": {key: f"canary.{name}" for key, name in names.items()}}


def remote_config(here, marker, sentiment):
    change(
        "model/config.json",
        **auto_map(here / "model", marker, AutoConfig="A"),
        model_type="kanarienvogel",
    )
    return train(sentiment, "--model_name_or_path", "model")


def remote_model(here, marker, sentiment):
    names = {"AutoConfig": "A", "AutoModelForSequenceClassification": "B", "AutoModel": "C"}
    change("model/config.json", **auto_map(here / "model", marker, **names))
    return train(sentiment, "--model_name_or_path", "model")


def remote_tokenizer(here, marker, sentiment):
    found = auto_map(here / "model", marker, AutoTokenizer="A")["auto_map"]
    change(
        "model/tokenizer_config.json", auto_map={key: [None, name] for key, name in found.items()}
    )
    change("model/tokenizer_config.json", tokenizer_class="CanaryTokenizer")
    return train(sentiment, "--model_name_or_path", "model")


def remote_prediction(here, marker, sentiment):
    change(
        "model/config.json",
        **auto_map(here / "model", marker, AutoConfig="A"),
        model_type="kanarienvogel",
    )
    return predict("model")


def remote_base(here, marker, sentiment):
    change(
        "model/config.json",
        **auto_map(here / "model", marker, AutoConfig="A"),
        model_type="kanarienvogel",
    )
    return predict("adapter")


def remote_adapted(here, marker, sentiment):
    found = auto_map(here / "adapter/config", marker, AutoConfig="A")
    change("adapter/config/config.json", **found, model_type="kanarienvogel")
    return predict("adapter")


def remote_generation(here, marker, sentiment):
    change(
        "causal/config.json",
        **auto_map(here / "causal", marker, AutoConfig="A"),
        model_type="kanarienvogel",
    )
    return generate("causal")


def custom_generate(here, marker, sentiment):
    put(
        here / "causal/custom_generate/generate.py",
        code(marker) + "def generate(*a, **b):\n    pass\n",
    )
    change("causal/generation_config.json", custom_generate="causal", trust_remote_code=True)
    change("causal/config.json", custom_generate="causal")
    return generate("causal")


def hub_kernel(here, marker, sentiment):
    names = {"attn_implementation": "canary/kernel", "_attn_implementation": "canary/kernel"}
    change("model/config.json", **names, _attn_implementation_internal="canary/kernel")
    return train(sentiment, "--model_name_or_path", "model")


def loading_script(here, marker, sentiment):
    put(here / "set/set.py", code(marker))
    put(here / "set/train.csv", ROWS)
    return from_folder(sentiment)


def chat_template(here, marker, sentiment):
    reach = "{{ ''.__class__.__mro__[1].__subclasses__() }}{{ cycler.__init__.__globals__.os.system('touch MARKER') }}"
    change("causal/tokenizer_config.json", chat_template=reach.replace("MARKER", str(marker)))
    put(here / "causal/chat_template.jinja", reach.replace("MARKER", str(marker)))
    return generate("causal")


REMOTE = {
    "a configuration's class": (remote_config, True),
    "a model's class": (remote_model, False),
    "a tokenizer's class": (remote_tokenizer, False),
    "a class of a folder that predicts": (remote_prediction, True),
    "a class of the model under an adapter": (remote_base, False),
    "a class of the configuration beside an adapter": (remote_adapted, True),
    "a class of a folder that writes": (remote_generation, True),
    "a way to generate": (custom_generate, False),
    "a kernel of the Hub": (hub_kernel, True),
    "a data set's loading script": (loading_script, True),
    "a chat template": (chat_template, False),
}


def test_remote_code_lies_in_eight_places():
    assert len(REMOTE) >= 8


@pytest.mark.parametrize("case", REMOTE)
def test_no_code_that_comes_with_a_folder_is_run(case, here, marker, sentiment):
    """Where a class of the library's own does as well, that is taken; otherwise the run is refused."""
    spoil, is_refused = REMOTE[case]
    refused = attempt(spoil(here, marker, sentiment))
    assert not marker.exists()
    assert bool(refused) == is_refused, refused


def link(path, target):
    """Puts a link in the place of a file or folder, which moves to the link's target."""
    target.parent.mkdir(exist_ok=True)
    path.rename(target)
    path.symlink_to(target)


def weight_map(here, name, index="model.safetensors.index.json"):
    """Lists the model's weights, which lie outside, under this name."""
    (here.parent / "outside").mkdir()
    (here / "model/model.safetensors").rename(here.parent / "outside/model.safetensors")
    weights = dict.fromkeys(
        ["classifier.weight", "bert.pooler.dense.bias"], name.replace("OUTSIDE", str(here.parent))
    )
    change(here / "model" / index, metadata={}, weight_map=weights)


def shards_in_a_linked_folder(here):
    weight_map(here, "shards/model.safetensors")
    (here / "model/shards").symlink_to(here.parent / "outside")


def linked(folder, name):
    return folder, lambda here: link(here / folder / name, here.parent / "outside" / name)


LEADING_OUT = {
    "a list of weights: ..": ("model", lambda here: weight_map(here, "../../outside/model.safetensors")),
    "a list of weights: /": ("model", lambda here: weight_map(here, "OUTSIDE/outside/model.safetensors")),
    "a list of weights: a linked folder": ("model", shards_in_a_linked_folder),
    "a list of torch's weights": ("model", lambda here: weight_map(here, "../x", "pytorch_model.bin.index.json")),
    "linked weights": linked("model", "model.safetensors"),
    "a linked configuration": linked("model", "config.json"),
    "a linked tokenizer": linked("model", "tokenizer.json"),
    "a linked tokenizer configuration": linked("model", "tokenizer_config.json"),
    "a linked adapter": linked("adapter", "adapter_model.safetensors"),
    "a linked adapter configuration": linked("adapter", "adapter_config.json"),
    "a linked folder beside an adapter": linked("adapter", "config"),
}  # fmt: skip


@pytest.mark.parametrize("case", LEADING_OUT)
def test_a_model_s_folder_that_leads_out_is_refused(case, here, sentiment):
    folder, spoil = LEADING_OUT[case]
    spoil(here)
    assert f"leads out of {folder}" in attempt(train(sentiment, "--model_name_or_path", folder))
    assert f"leads out of {folder}" in attempt(predict(folder))


def test_the_hub_s_cache_may_link_to_its_own_blobs(here, sentiment):
    snapshot = here / "hub/models--a--b/snapshots/0123"
    shutil.copytree("model", snapshot)
    (here / "hub/models--a--b/blobs").mkdir()
    for number, path in enumerate(list(snapshot.iterdir())):
        blob = here / f"hub/models--a--b/blobs/{number}"
        path.rename(blob)
        path.symlink_to(f"../../blobs/{number}")
    assert attempt(predict(snapshot)) == ""


VOCABULARY_KEYS = ["vocab_file", "tokenizer_file"]


@pytest.mark.parametrize("key", VOCABULARY_KEYS)
def test_no_vocabulary_outside_of_the_folder_is_read(key, here):
    outside = here.parent / "outside"
    outside.mkdir()
    (here / "model/tokenizer.json").rename(outside / "tokenizer.json")
    (outside / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nsecret\n")
    path = outside / ("vocab.txt" if key == "vocab_file" else "tokenizer.json")
    change("model/tokenizer_config.json", **{key: str(path)}, tokenizer_class="BertTokenizer")
    loaded = []
    attempt(lambda: loaded.extend(open_folder("model").tokenizer.get_vocab()))
    assert not {"secret", "soup"} & set(loaded)


def data_outside(here):
    (here.parent / "outside").mkdir()
    put(here.parent / "outside/train.csv", ROWS)
    return here.parent / "outside/train.csv"


def named_data(pattern):
    def spoil(here):
        pattern_here = pattern.replace("OUTSIDE", str(data_outside(here).parent))
        header = f"---\nconfigs:\n- config_name: default\n  data_files: {pattern_here}\n---\n"
        put(here / "set/README.md", header)

    return spoil


def linked_data(here):
    (here / "set").mkdir()
    (here / "set/train.csv").symlink_to(data_outside(here))


DATA_OUTSIDE = {
    "a data set's README: ..": named_data("../../outside/*.csv"),
    "a data set's README: /": named_data("OUTSIDE/train.csv"),
    "a data set's linked file": linked_data,
}


@pytest.mark.parametrize("case", DATA_OUTSIDE)
def test_a_data_set_that_leads_out_is_refused(case, here, sentiment):
    DATA_OUTSIDE[case](here)
    assert attempt(from_folder(sentiment))


def listed_outside(name):
    def spoil(checkpoint, outside):
        found = json.loads((checkpoint / "manifest.json").read_text(encoding="utf-8"))["files"]
        put(outside / "x", "x")
        entry = atomic_folder.entry(outside / "x")
        change(
            checkpoint / "manifest.json",
            files={**found, name.replace("OUTSIDE", str(outside)): entry},
        )

    return spoil


DAMAGED = {
    "a manifest that names ../": listed_outside("../../../outside/x"),
    "a manifest that names /": listed_outside("OUTSIDE/x"),
    "a linked manifest": lambda checkpoint, outside: link(
        checkpoint / "manifest.json", outside / "manifest.json"
    ),
    "linked states": lambda checkpoint, outside: link(
        checkpoint / "optimizer.safetensors", outside / "o"
    ),
    "a linked folder": lambda checkpoint, outside: (checkpoint / "global_step1").symlink_to(
        checkpoint.parent
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_checkpoint_that_leads_out_is_no_whole_one(case, here):
    DAMAGED[case](here / "out/checkpoint-2", here.parent / "outside")
    assert atomic_folder.damage(here / "out/checkpoint-2")
    assert retention.newest(here / "out") == here / "out/checkpoint-1"


def test_the_best_model_is_one_of_the_run_s_own(here, sentiment):
    """trainer_state.json names it by its path."""
    as_if_killed(here / "out", "checkpoint-2")
    shutil.copytree("model", "../outside")
    weights = load_file("../outside/model.safetensors")
    save_file(
        {name: torch.zeros_like(value) for name, value in weights.items()},
        "../outside/model.safetensors",
    )
    best = {
        "best_model_checkpoint": str(here.parent / "outside"),
        "best_global_step": 2,
        "best_metric": 9.0,
    }
    change("out/checkpoint-2/trainer_state.json", **best)
    canaries.list_again(here / "out/checkpoint-2")
    changed = ["load_best_model_at_end", "metric_for_best_model", "greater_is_better"]
    flags = ["--load_best_model_at_end", "true", "--save_steps", "2", "--allow_changed", *changed]
    sentiment.main(merged(*TRAIN, *flags))
    assert load_file("out/model.safetensors")["classifier.weight"].any()


OUTSIDE_FILES = {
    "keep.txt": "keep",
    "checkpoint-7/manifest.json": "{}",
    "checkpoint-7/keep.txt": "keep",
}


def rotated(here):
    retention.rotate(here / "out", 1, None)


def begun_anew(here):
    run_record.remove(here / "out")


def gone_on(here):
    retention.newest(here / "out")


# A link in the output folder, to a folder with checkpoint-7 in it or to that itself; what is then deleted.
DELETED = {
    "a linked checkpoint is rotated": ("checkpoint-0", "checkpoint-7", rotated),
    "a linked checkpoint, a link that a crash left": (
        ".removing-checkpoint-1",
        "checkpoint-7",
        rotated,
    ),
    "a linked checkpoint is overwritten": ("checkpoint-9", "checkpoint-7", begun_anew),
    "linked plots are overwritten": ("plots", "", begun_anew),
    "a linked configuration is overwritten": ("config", "", begun_anew),
    "a linked staging folder is overwritten": (".saving-7", "", begun_anew),
    "a linked staging folder is cleared": (".saving-7", "", gone_on),
    "a linked outgoing folder is cleared": (".removing-7", "", gone_on),
}


@pytest.mark.parametrize("case", DELETED)
def test_nothing_is_deleted_through_a_link(case, here):
    name, target, delete = DELETED[case]
    for path, content in OUTSIDE_FILES.items():
        put(here.parent / "outside" / path, content)
    canaries.list_again(here.parent / "outside/checkpoint-7")
    before = sorted((here.parent / "outside").rglob("*"))
    shutil.rmtree(here / "out" / name, ignore_errors=True)
    (here / "out" / name).symlink_to(here.parent / "outside" / target)
    delete(here)
    assert sorted((here.parent / "outside").rglob("*")) == before
    assert not (here / "out" / name).is_symlink()


def test_of_a_linked_output_folder_only_what_a_run_wrote_is_deleted(here):
    (here / "linked").symlink_to("out")
    put(here / "out/mine.txt", "mine")
    run_record.remove(here / "linked")
    assert {path.name for path in (here / "out").iterdir()} <= {"mine.txt", ".lock"}


def test_paths_lead_out_in_twenty_places():
    assert len([*LEADING_OUT, *VOCABULARY_KEYS, *DATA_OUTSIDE, *DAMAGED, *DELETED]) + 1 >= 20


def read(name):
    def action(here, sentiment):
        for _ in readers.read(here / name):
            pass

    return action


def configured(here, sentiment):
    train(sentiment, "--config", "bomb.yaml")()


def loaded(here, sentiment):
    train(sentiment, "--model_name_or_path", "model")()


def written(name, content):
    return lambda here: put(here / name, content)


def long_line(here):
    with (here / "long.txt").open("wb") as stream:
        stream.write(b"soup " * 2000)
        stream.truncate(1 << 30)


def parquet(**options):
    def write(here):
        table = pyarrow.table(
            {"text": pyarrow.array(["a" * 1_000_000] * 100), "label": ["a"] * 100}
        )
        pyarrow.parquet.write_table(table, here / "bomb.parquet", **options)

    return write


def zstandard(data):
    return pyarrow.compress(data, "zstd", asbytes=True)


def packed(name, pack):
    """A file that unpacks to 300 MB of short lines."""
    return lambda here: put(here / name, pack(b"text,label\n") + pack(b"a,b\n" * 1_000_000) * 75)


def archive(name, member):
    def write(here):
        with (
            zipfile.ZipFile(here / name, "w", zipfile.ZIP_DEFLATED) as opened,
            opened.open(member, "w") as stream,
        ):
            for _ in range(300):
                stream.write(b"a" * 1_000_000)

    return write


def arrow(here):
    """One value in every row, and batches packed."""
    options = pyarrow.ipc.IpcWriteOptions(compression="zstd")
    values = pyarrow.DictionaryArray.from_arrays(
        pyarrow.array([0] * 1000, "int32"), ["a" * 1_000_000]
    )
    table = pyarrow.table({"text": values})
    with pyarrow.ipc.new_stream(str(here / "bomb.arrow"), table.schema, options=options) as writer:
        writer.write_table(table)


def safetensors_header(here):
    claim = json.dumps(
        {"classifier.weight": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}
    )
    put(here / "model/model.safetensors", len(claim).to_bytes(8, "little") + claim.encode())


def packed_folder(pack):
    return lambda here: put(
        here / "set/train.csv", pack(b"text,label\n") + pack(b"a,b\n" * 100_000) * 500
    )


def from_set(here, sentiment):
    from_folder(sentiment)()


ALIASES = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{'abcdefghi'[n]}: &{'abcdefghi'[n]} [{', '.join(['*' + 'abcdefghi'[n - 1]] * 9)}]\n"
    for n in range(1, 9)
)
BOMBS = {
    "gzip of short lines": (
        written("b.csv.gz", canaries.gz_bomb(b"text,label\n")),
        read("b.csv.gz"),
    ),
    "gzip of one line": (written("b.txt.gz", canaries.gz_bomb(b"a")), read("b.txt.gz")),
    "gzip of UTF-16": (
        written("b.txt.gz", gzip.compress(b"\xff\xfe") + canaries.gz_bomb(b"a\0")),
        read("b.txt.gz"),
    ),
    "gzip of a JSON array": (written("b.json.gz", canaries.gz_bomb(b"[ ")), read("b.json.gz")),
    "gzip of parquet": (written("b.parquet.gz", canaries.gz_bomb(b"a")), read("b.parquet.gz")),
    "parquet, packed pages": (
        parquet(compression="zstd", use_dictionary=False),
        read("bomb.parquet"),
    ),
    "parquet, one value in every row": (parquet(use_dictionary=True), read("bomb.parquet")),
    "bz2": (packed("b.csv.bz2", bz2.compress), read("b.csv.bz2")),
    "xz": (packed("b.csv.xz", lzma.compress), read("b.csv.xz")),
    "Zstandard": (packed("b.csv.zst", zstandard), read("b.csv.zst")),
    "zip": (archive("b.zip", "b.txt"), read("b.zip")),
    "Excel": (archive("b.xlsx", "xl/sharedStrings.xml"), read("b.xlsx")),
    "Arrow, one value in every row": (arrow, read("bomb.arrow")),
    "one long line": (long_line, read("long.txt")),
    "gzip in a data set's folder": (packed_folder(gzip.compress), from_set),
    "bz2 in a data set's folder": (packed_folder(bz2.compress), from_set),
    "xz in a data set's folder": (packed_folder(lzma.compress), from_set),
    "deep JSON": (written("deep.jsonl", '{"text": ' + "[" * 1_000_000), read("deep.jsonl")),
    "a long number in JSON": (
        written("long.jsonl", '{"text": ' + "9" * 1_000_000 + "}"),
        read("long.jsonl"),
    ),
    "deep YAML": (written("bomb.yaml", "seed: " + "[" * 100_000), configured),
    "YAML that is deep and whole": (
        written("bomb.yaml", f"seed: {'[' * 900}{']' * 900}"),
        configured,
    ),
    "YAML aliases": (written("bomb.yaml", ALIASES), configured),
    "a long number in YAML": (written("bomb.yaml", f"seed: {'9' * 1_000_000}"), configured),
    "a number to the base of 60": (written("bomb.yaml", f"seed: 1{':59' * 30_000}"), configured),
    "a day that is none": (written("bomb.yaml", "seed: 2001-99-99"), configured),
    "a deep configuration": (written("model/config.json", "[" * 1_000_000), loaded),
    "a deep tokenizer": (written("model/tokenizer.json", "[" * 1_000_000), loaded),
    "a safetensors header that claims terabytes": (safetensors_header, loaded),
}


def test_there_are_twelve_bombs():
    assert len(BOMBS) >= 12


@pytest.mark.parametrize("case", BOMBS)
def test_a_bomb_is_refused_within_seconds_and_little_memory(case, here, sentiment):
    write, action = BOMBS[case]
    write(here)
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert attempt(lambda: action(here, sentiment))
    assert time.process_time() - began < 30  # of a busy host; a bomb that is unpacked takes minutes
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kilobytes


RECORDS = {
    "run.yaml": ALIASES,
    "run.json": "[" * 1_000_000,
    "checkpoint-2/manifest.json": "[" * 1_000_000,
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_bomb_among_a_run_s_records_is_damage(name, here):
    put(here / "out" / name, RECORDS[name])
    assert retention.newest(here / "out").name == (
        "checkpoint-1" if "manifest" in name else "checkpoint-2"
    )
    assert (run_record.earlier(here / "out") is None) == name.startswith("run.")
    assert bool(attempt(predict("out"))) == name.startswith("run.")


SECRET = "hf_NobodyMayReadThis0123456789"
VARIABLES = [
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "WANDB_API_KEY",
    "COMET_API_KEY",
    "MLFLOW_TRACKING_TOKEN",
]
GIVEN = {
    "a flag": ["--hub_token", SECRET],
    "a flag and its value in one word": [f"--token={SECRET}"],
    "a flag that is shortened": ["--hub_tok", SECRET],
    "a configuration": ["--config", "secret.yaml"],
    "the environment": [],
}


def told(folder):
    """The files below a folder in which the secret stands."""
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and SECRET.encode() in path.read_bytes()
    ]


@pytest.mark.parametrize("case", GIVEN)
def test_no_file_and_no_line_of_a_run_holds_a_token(case, here, sentiment, capfd, monkeypatch):
    for name in VARIABLES:
        monkeypatch.setenv(name, SECRET)
    put(here / "secret.yaml", f"hub_token: {SECRET}\ntoken: {SECRET}\n")
    words = [*TRAIN[:-1], "told", "--test_file", "train.csv", *GIVEN[case]]
    sentiment.main(words)
    assert (here / "told/README.md").exists() and (here / "told/checkpoint-2").exists()
    assert told(here / "told") == []
    assert SECRET not in "".join(capfd.readouterr())


def test_a_token_that_is_a_list_is_refused_without_showing_it(here, sentiment):
    put(here / "secret.yaml", f"hub_token: [{SECRET}, x]\n")
    assert SECRET not in attempt(train(sentiment, "--config", "secret.yaml"))


@pytest.mark.parametrize("flags", [flags for flags in GIVEN.values() if SECRET in "".join(flags)])
def test_no_command_line_that_is_printed_or_written_holds_a_token(flags, here, capfd, monkeypatch):
    started, recipe = [], ROOT / "recipes/sentiment/run.py"
    monkeypatch.setattr(
        os, "execve", lambda program, words, environment: started.extend([words, environment])
    )
    monkeypatch.setattr(
        subprocess, "call", lambda *words, **options: 0
    )  # nobody comes back from execve
    launch.run(launch.command(recipe, ["--seed", "1", *flags, "--fp16"]))
    launch.write_slurm(recipe, flags, launch.World("ddp", 2, slurm="job.sh"))
    words, environment = started
    assert words[-3:] == ["--seed", "1", "--fp16"] and environment["HF_TOKEN"] == SECRET
    assert told(here) == []
    assert SECRET not in "".join(capfd.readouterr())


MODULES = "evaluate accuracy tiktoken sentencepiece yaml torch numpy transformers datasets".split()
NO_NETWORK = """import socket
def refuse(*arguments):
    open({marker!r}, "w").close()
    raise OSError("no network")
socket.socket.connect = socket.getaddrinfo = refuse
"""


def test_a_run_of_the_command_line_imports_nothing_from_here_tells_nothing_and_calls_nobody(
    here, marker
):
    for name in MODULES:
        put(here / f"{name}.py", code(marker))
        put(here / f"recipes/{name}/{name}.py", code(marker))
    put(here.parent / "guard/sitecustomize.py", NO_NETWORK.format(marker=str(marker)))
    environment = {name: value for name, value in os.environ.items() if "OFFLINE" not in name}
    environment |= dict.fromkeys(VARIABLES, SECRET) | {"PYTHONPATH": str(here.parent / "guard")}
    flags = merged(
        *TRAIN, "--output_dir", "told", "--max_steps", "1", "--save_steps", "1", "--eval_steps", "1"
    )
    words = [
        sys.executable,
        ROOT / "cli.py",
        "finetune",
        "sentiment",
        *flags,
        "--hub_token",
        SECRET,
    ]
    process = subprocess.Popen(
        words, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    commands = set()
    while process.poll() is None and "README.md" not in os.listdir(
        "told" if os.path.isdir("told") else "."
    ):
        for one in [
            psutil.Process(process.pid),
            *psutil.Process(process.pid).children(recursive=True),
        ]:
            with contextlib.suppress(psutil.Error):
                commands.add(" ".join(one.cmdline()))
        time.sleep(0.05)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0, printed
    assert not marker.exists()
    assert SECRET not in printed and told(here / "told") == []
    assert any("recipes/sentiment/run.py" in command for command in commands)
    assert not [command for command in commands if SECRET in command and "cli.py" not in command]


def test_telemetry_is_off_although_a_recipe_imports_transformers_first():
    from huggingface_hub import constants

    assert constants.HF_HUB_DISABLE_TELEMETRY
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"


NASTY = "\x1b]0;owned\x07\x1b[2J\rEVIL\u202egnp\x9b"
QUOTED = json.dumps(NASTY)


def nasty_data(here, sentiment):
    rows = [{"text": f"{NASTY} {n}", "label": f"{NASTY}{n % 2}", NASTY: n} for n in range(40)]
    put(here / "nasty.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    train(sentiment, "--train_file", "nasty.jsonl", *SCRATCH)()


def nasty_value(here, sentiment):
    put(here / "nasty.jsonl", json.dumps({"text": [NASTY], "label": "a"}))
    train(sentiment, "--train_file", "nasty.jsonl", *SCRATCH)()


def nasty_name(here, sentiment):
    put(here / f"{NASTY}.csv", ROWS + "one cell\n")
    train(sentiment, "--train_file", "*EVIL*.csv", *SCRATCH)()


def nasty_folder(here, sentiment):
    shutil.copytree("model", NASTY)
    train(sentiment, "--model_name_or_path", NASTY, "--output_dir", f"new{NASTY}")()


def nasty_key(here, sentiment):
    put(here / "nasty.yaml", f"{QUOTED}: 1\n")
    train(sentiment, "--config", "nasty.yaml")()


def nasty_setting(here, sentiment):
    put(here / "nasty.yaml", f"seed: {QUOTED}\n")
    train(sentiment, "--config", "nasty.yaml")()


def nasty_architecture(here, sentiment):
    change("model/config.json", model_type=NASTY)
    train(sentiment, "--model_name_or_path", "model")()


def nasty_record(here, sentiment):
    change("out/run.json", table=NASTY)
    sentiment.main(TRAIN)


def nasty_labels(here, sentiment):
    change(
        "model/config.json",
        id2label={"0": NASTY, "1": NASTY + "1"},
        label2id={NASTY: 0, NASTY + "1": 1},
    )
    cli.predict("model", [NASTY])


def nasty_texts(here, sentiment):
    tokenizer = json.loads((here / "causal/tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    escape = next(token for token, number in vocabulary.items() if number == 10)
    tokenizer["added_tokens"].append(
        {"id": 10, "content": NASTY, "special": False, **dict.fromkeys(FLAGS, False)}
    )
    vocabulary[NASTY] = vocabulary.pop(escape)
    put(here / "causal/tokenizer.json", json.dumps(tokenizer))
    options = {"max_new_tokens": 3, "do_sample": False, "num_beams": 1, "num_return_sequences": 1}
    generation.run(generation.Settings("causal", [NASTY], None, None, None, 1, False, options))


FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


def nasty_command(here, sentiment):
    launch.run(
        launch.command(ROOT / "recipes/sentiment/run.py", ["--train_file", NASTY]), dry_run=True
    )


PRINTED = [
    nasty_data,
    nasty_value,
    nasty_name,
    nasty_folder,
    nasty_key,
    nasty_setting,
    nasty_architecture,
]
PRINTED += [nasty_record, nasty_labels, nasty_texts, nasty_command]


@pytest.mark.parametrize("action", PRINTED)
def test_what_is_printed_commands_no_terminal(action, here, sentiment, capfd):
    refused = attempt(lambda: action(here, sentiment))
    printed = "".join(capfd.readouterr()) + refused
    assert "owned" in printed
    assert not [word for word in ("\x1b", "\x07", "\rEVIL", "\u202e", "\x9b") if word in printed]
