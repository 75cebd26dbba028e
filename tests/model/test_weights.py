"""A checkpoint under other weight names is loaded whole; missing weights are named or refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from conftest import load_recipe
from safetensors.torch import load_file, save_file
from trainers import losses_of, tokenizer, trainer  # noqa: F401
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    MixtralConfig,
    MixtralForSequenceClassification,
    NomicBertConfig,
    NomicBertForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

from recipes.common.model import weights
from recipes.common.model.tokenizer_training import train_tokenizer
from recipes.common.predict.continuing import Continuer
from recipes.common.predict.labelling import Classifier
from recipes.common.predict.mask_filling import MaskFiller
from recipes.common.predict.writing import Writer
from recipes.common.runtime.errors import Refusal

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
MOE = {"num_key_value_heads": 2, "num_local_experts": 2, "pad_token_id": 0}
EVERY_STEP = {
    "eval_strategy": "steps",
    "eval_steps": 1,
    "save_strategy": "steps",
    "save_steps": 1,
    "max_steps": 4,
}
OLDER = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}


def rewrite(folder, change):
    """Writes a folder's weights again; `change` turns a name and a weight into a pair, or None."""
    path = Path(folder, "model.safetensors")
    pairs = [change(name, value) for name, value in load_file(path).items()]
    save_file(
        {name: value.clone() for name, value in filter(None, pairs)},
        path,
        metadata={"format": "pt"},
    )


def older(name, value):
    """A norm's weight under the name that it has in Google's checkpoints of BERT."""
    for new, old in OLDER.items():
        name = name.replace(new, old)
    return name, value


# 1. Other names in the file than in memory


def gamma_and_beta(folder, size):
    BertForSequenceClassification(BertConfig(vocab_size=size, **SIZES)).save_pretrained(folder)
    rewrite(folder, older)
    return BertForSequenceClassification.from_pretrained(folder)


def an_expert_a_weight(folder, size):
    return MixtralForSequenceClassification(MixtralConfig(vocab_size=size, **SIZES, **MOE))


def layers_under_other_names(folder, size):
    return NomicBertForSequenceClassification(
        NomicBertConfig(vocab_size=size, **SIZES, pad_token_id=0)
    )


@pytest.fixture(params=[gamma_and_beta, an_expert_a_weight, layers_under_other_names])
def model(request, tmp_path, tokenizer):  # noqa: F811
    """A classifier of two classes that save_pretrained writes under other names."""
    torch.manual_seed(0)
    return request.param(tmp_path / "base", len(tokenizer))


class Weights(transformers.TrainerCallback):
    """Keeps the weights after every step."""

    def __init__(self):
        self.after = {}

    def on_step_end(self, args, state, control, model, **options):
        self.after[state.global_step] = copied(model)


def copied(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(found, expected):
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], expected[name]) for name in found
    )


def test_the_kinds_have_other_names_on_disk_than_in_memory(model, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    assert load_file(tmp_path / "saved/model.safetensors").keys() - model.state_dict().keys()


def test_the_best_model_is_the_best_checkpoint(model, trainer, tmp_path):  # noqa: F811
    """The run ended in "the checkpoint cannot be read: it lacks the weight …LayerNorm.bias"."""
    built = trainer(**EVERY_STEP, learning_rate=0.5, load_best_model_at_end=True)
    seen = Weights()
    built.add_callback(seen)
    built.train()
    best = built.state.best_global_step
    assert same(copied(model), seen.after[best])
    assert not same(seen.after[1], seen.after[4])
    checkpoint = type(model).from_pretrained(tmp_path / f"out/checkpoint-{best}")
    assert same(copied(checkpoint), seen.after[best])


def test_a_run_goes_on_from_the_weights_that_it_saved(model, trainer, tmp_path):  # noqa: F811
    start = copied(model)
    whole = trainer(save_strategy="steps", save_steps=2, max_steps=4)
    whole.train()
    expected = copied(model)
    model.load_state_dict(start)
    resumed = trainer(save_strategy="steps", save_steps=2, max_steps=4)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-2"))
    assert losses_of(resumed) == losses_of(whole)
    assert same(copied(model), expected)


@pytest.fixture
def published(model, trainer, tmp_path):  # noqa: F811
    """A Trainer after one step, and its checkpoint, saved again under the published names."""
    built = trainer(save_strategy="steps", save_steps=1, max_steps=1)
    built.train()
    checkpoint = tmp_path / "out/checkpoint-1"
    assert load_file(checkpoint / "model.safetensors").keys() <= model.state_dict().keys()
    model.save_pretrained(checkpoint)
    assert load_file(checkpoint / "model.safetensors").keys() - model.state_dict().keys()
    return built, checkpoint


def test_a_checkpoint_under_the_published_names_is_loaded_too(published, model):
    built, checkpoint = published
    expected = copied(model)
    with torch.no_grad():
        for value in model.parameters():
            value.zero_()
    built._load_from_checkpoint(str(checkpoint))
    assert same(copied(model), expected)


def test_a_weight_that_is_really_missing_is_refused_all_the_same(published):
    built, checkpoint = published
    lost = next(name for name in load_file(checkpoint / "model.safetensors") if ".1." in name)
    rewrite(checkpoint, lambda name, value: None if name == lost else (name, value))
    with pytest.raises(
        Refusal, match="the checkpoint cannot be read: LostWeight: it lacks (the|a) weight "
    ):
        built._load_from_checkpoint(str(checkpoint))


def words():
    return train_tokenizer(
        ["the soup was warm and good", "the room was cold and rude"] * 20, "wordpiece", 300, "bert"
    )


SHORT = ["--max_seq_length", "32", "--bf16", "false"]


@pytest.mark.parametrize(
    "recipe", ["sentiment", pytest.param("mlm_pretrain", marks=pytest.mark.slow)]
)
def test_a_run_on_gamma_and_beta_ends_and_its_folder_scores_the_same(recipe, reviews):
    BertForMaskedLM(
        BertConfig(vocab_size=len(words()), max_position_embeddings=64, **SIZES)
    ).save_pretrained("base")
    words().save_pretrained("base")
    rewrite(reviews / "base", older)
    data = ["--train_file", "train.csv", *SHORT]
    best = ["--load_best_model_at_end", "--eval_strategy", "epoch", "--save_strategy", "epoch"]
    run = load_recipe(recipe).main
    trained = run(
        [
            *data,
            *best,
            *"--model_name_or_path base --output_dir out --num_train_epochs 2".split(),
        ]
    )
    again = run([*data, "--model_name_or_path", "out", "--output_dir", "again", "--do_eval"])
    assert again["eval_loss"] == pytest.approx(trained["eval_loss"], abs=1e-6)


# 2. Weights that a folder lacks, or that are no numbers


def bert(model_class):
    return model_class(
        BertConfig(vocab_size=len(words()), max_position_embeddings=64, **SIZES)
    ), words()


def gpt2():
    found = train_tokenizer(["the soup was warm and good"] * 20, "bpe", 300, "gpt2")
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
    ends = {"bos_token_id": found.eos_token_id, "eos_token_id": found.eos_token_id}
    return GPT2LMHeadModel(GPT2Config(vocab_size=len(found), **sizes, **ends)), found


def t5():
    found = train_tokenizer(["the soup was warm and good"] * 20, "bpe", 300, "t5")
    sizes = {
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 32,
        "num_layers": 2,
        "num_heads": 2,
        "tie_word_embeddings": False,
    }
    ends = {"decoder_start_token_id": found.pad_token_id, "eos_token_id": found.eos_token_id}
    return T5ForConditionalGeneration(T5Config(vocab_size=len(found), **sizes, **ends)), found


FAMILIES = {  # the recipe, its model and tokenizer, who answers, where the head and a layer begin
    "classifier": (
        "sentiment",
        lambda: bert(BertForSequenceClassification),
        Classifier,
        "classifier.",
        "layer.1.",
    ),
    "masked": (
        "mlm_pretrain",
        lambda: bert(BertForMaskedLM),
        MaskFiller,
        "cls.predictions.transform.",
        "layer.1.",
    ),
    "causal": ("clm_pretrain", gpt2, Continuer, "", "h.1.mlp"),
    "seq2seq": ("summarization", t5, Writer, "", "decoder.block.1."),
}
DAMAGES = ["head", "layer", "final norm", "not finite"]
CASES = [(family, damage) for family in FAMILIES for damage in DAMAGES]
CASES = [(family, damage) for family, damage in CASES if damage != "head" or FAMILIES[family][3]]
CASES = [
    (family, damage)
    for family, damage in CASES
    if damage != "final norm" or family in ("causal", "seq2seq")
]


def damaged(family, damage, folder):
    """The folder of a model of the family whose weights lack something, or are not finite."""
    _, build, _, head, layer = FAMILIES[family]
    model, found = build()
    model.save_pretrained(folder)
    found.save_pretrained(folder)
    lost = {
        "head": head,
        "layer": layer,
        "final norm": "ln_f." if family == "causal" else "final_layer_norm",
    }
    if damage == "not finite":
        rewrite(
            folder, lambda name, value: (name, value * float("nan") if layer in name else value)
        )
    else:
        rewrite(folder, lambda name, value: None if lost[damage] in name else (name, value))
    return folder


@pytest.fixture
def data(in_tmp_path):
    """data.jsonl with twenty rows that every recipe can read."""
    rows = [{"text": f"the soup was {n} and good", "label": f"LABEL_{n % 2}"} for n in range(20)]
    rows = [row | {"document": row["text"], "summary": "good"} for row in rows]
    (in_tmp_path / "data.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
    )
    return in_tmp_path


def run(family, folder, *flags):
    """The family's recipe on the folder."""
    data = (
        "--train_file data.jsonl --validation_file data.jsonl --bf16 false --output_dir out"
    ).split()
    return load_recipe(FAMILIES[family][0]).main([*data, "--model_name_or_path", folder, *flags])


@pytest.mark.parametrize(("family", "damage"), CASES)
def test_a_folder_that_lacks_weights_answers_nothing(family, damage, in_tmp_path):
    """It answered at random, with exit code 0."""
    said = (
        "not finite"
        if damage == "not finite"
        else "lacks weights of the model: .*: its output would be random"
    )
    with pytest.raises(Refusal, match=f"base .*{said}"):
        FAMILIES[family][2](damaged(family, damage, "base"))


@pytest.mark.parametrize("family", ["classifier", "masked"])
def test_a_model_without_a_head_is_not_evaluated_either(family, data):
    with pytest.raises(
        Refusal, match="base lacks weights of the model: c.*: its output would be random"
    ):
        run(family, damaged(family, "head", "base"), "--do_eval")
    assert not (data / "out/all_results.json").exists()


@pytest.mark.parametrize(("family", "damage"), [case for case in CASES if case[1] != "head"])
@pytest.mark.parametrize("flags", [["--do_eval"], ["--max_steps", "1"]])
def test_a_body_that_is_not_whole_is_neither_evaluated_nor_trained(flags, family, damage, data):
    with pytest.raises(
        Refusal, match="is not finite" if damage == "not finite" else "lacks weights of the model"
    ):
        run(family, damaged(family, damage, "base"), *flags)


@pytest.mark.parametrize("family", [family for family, damage in CASES if damage == "head"])
def test_a_new_head_is_trained_and_said_in_the_summary(family, data, capsys):
    run(family, damaged(family, "head", "base"), "--max_steps", "1")
    part = FAMILIES[family][3].split(".")[0]
    assert f"head        new, the checkpoint has none: {part}\n" in capsys.readouterr().out


def test_a_pooler_that_masked_language_models_have_not_is_part_of_a_new_head(data, capsys):
    model, found = bert(BertForMaskedLM)
    model.save_pretrained("base")
    found.save_pretrained("base")
    run("classifier", "base", "--max_steps", "1")
    assert (
        "head        new, the checkpoint has none: bert.pooler, classifier\n"
        in capsys.readouterr().out
    )
    with pytest.raises(Refusal, match="base holds no classifier but a BertForMaskedLM"):
        run("classifier", "base", "--do_eval", "--overwrite_output_dir")


def test_a_body_without_a_head_is_trained_but_fills_no_masks(data, capsys):
    model, found = bert(BertModel)
    model.save_pretrained("base")
    found.save_pretrained("base")
    with pytest.raises(Refusal, match="base lacks weights of the model: cls"):
        run("masked", "base", "--do_eval")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_whole_folder_answers_without_a_word_about_its_weights(family, in_tmp_path, capsys):
    model, found = FAMILIES[family][1]()
    model.save_pretrained("base")
    found.save_pretrained("base")
    assert same(copied(FAMILIES[family][2]("base").model.to("cpu")), copied(model))
    assert "LOAD REPORT" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "prefix", ["module.", pytest.param("module._orig_mod.", marks=pytest.mark.slow)]
)
def test_names_of_a_wrapped_model_are_read_without_their_prefix(prefix, data, capsys):
    """Every weight became random again.

    The names are those of torch.save(model.state_dict()) of a DistributedDataParallel or compiled
    model.
    """
    model, found = bert(BertForSequenceClassification)
    model.save_pretrained("base")
    found.save_pretrained("base")
    rewrite(data / "base", lambda name, value: (prefix + name, value))
    assert same(copied(Classifier("base").model.to("cpu")), copied(model))
    assert f"begin with {prefix}" in capsys.readouterr().err
    run("classifier", "base", "--max_steps", "1", "--learning_rate", "0")
    assert same(load_file("out/model.safetensors"), copied(model))


# 3. Every architecture


SMALL = SIZES | {
    "d_model": 16,
    "n_embd": 16,
    "dim": 16,
    "emb_dim": 16,
    "embedding_size": 16,
    "vocab_size": 64,
    "unpadded_vocab_size": 64,
}
SMALL |= dict.fromkeys(("num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers"), 2)
SMALL |= dict.fromkeys(
    ("num_decoder_layers", "n_head", "n_heads", "num_heads", "num_key_value_heads"), 2
)
SMALL |= dict.fromkeys(
    ("encoder_attention_heads", "decoder_attention_heads", "num_experts_per_tok"), 2
)
SMALL |= dict.fromkeys(("num_local_experts", "num_experts", "n_routed_experts"), 4)
SMALL |= dict.fromkeys(
    ("d_ff", "d_inner", "hidden_dim", "encoder_ffn_dim", "decoder_ffn_dim", "ffn_dim"), 32
)
SMALL |= dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 32)
SMALL |= dict.fromkeys(
    ("q_lora_rank", "kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), 8
)
SMALL |= {
    "head_dim": 8,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "pad_token_id": 0,
}
AUTO = [
    "AutoModelForMaskedLM",
    "AutoModelForCausalLM",
    "AutoModelForSeq2SeqLM",
    "AutoModelForSequenceClassification",
]


def tiny(auto_class, config_class):
    """A tiny model of an architecture, or None where these sizes are none for it."""
    try:
        usual = config_class()
        known = {
            name: size
            for name, size in SMALL.items()
            if isinstance(getattr(usual, name, None), int)
        }
        config = config_class(**known)
        with torch.device("meta"):
            number = sum(value.numel() for value in auto_class.from_config(config).parameters())
        return auto_class.from_config(config) if number < 3e7 else None
    except Exception:
        return None


@pytest.mark.slow
@pytest.mark.parametrize("name", AUTO)
def test_every_architecture_comes_back_from_a_checkpoint_as_it_was(name, tmp_path):
    """Under the names in memory, which Trainer loads, and under the published ones."""
    auto_class, tried, renamed = getattr(transformers, name), 0, 0
    for config_class in auto_class._model_mapping:
        model = tiny(auto_class, config_class)
        if model is None:
            continue
        expected, tried = copied(model), tried + 1
        for own_names in (False, True):
            folder = tmp_path / f"{config_class.__name__}-{own_names}"
            model.save_pretrained(folder, save_original_format=own_names)
            found = load_file(folder / "model.safetensors")
            missing = model.load_state_dict(found, strict=False).missing_keys
            assert own_names or not weights.lost_weight(model, missing), config_class
            renamed += own_names and bool(weights.lost_weight(model, missing))
            weights.reload(model, folder)
            assert same(copied(model), expected), config_class
            shutil.rmtree(folder)
    assert tried > 15
    assert renamed > 2 or name == "AutoModelForSeq2SeqLM"
