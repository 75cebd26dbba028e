"""What a model adds to its loss, or does otherwise with the labels, is in ours: routers, decoders of masked models."""

import pytest
import torch
import transformers
from conftest import SHORT, load_recipe
from datasets import Dataset
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, TrainingArguments

from recipes.common.metrics import language_modeling
from recipes.common.model import config_overrides
from recipes.common.train import losses
from recipes.common.train.trainer import Trainer

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 40,
}
SIZES |= {
    "num_local_experts": 4,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 8,
    "d_model": 16,
}
SIZES |= {
    "shared_expert_intermediate_size": 8,
    "d_kv": 8,
    "d_ff": 24,
    "num_heads": 2,
    "head_dim": 8,
    "num_layers": 4,
}
SIZES |= {
    "moe_num_experts": 4,
    "moe_k": 2,
    "n_group": 1,
    "topk_group": 1,
    "num_decoder_layers": 4,
    "dropout_rate": 0.0,
}
SIZES |= {
    "expert_capacity": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "router_jitter_noise": 0.0,
}
SIZES |= {
    "num_sparse_encoder_layers": 2,
    "num_sparse_decoder_layers": 2,
    "kv_channels": 8,
    "attention_dropout": 0.0,
}
SIZES |= {
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
}
CAUSAL = (
    "mixtral olmoe qwen2_moe qwen3_moe granitemoe jetmoe phimoe minimax_m2 ernie4_5_moe"
).split()


def build(name):
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    default = AutoConfig.for_model(name)
    shared = config_overrides.derived(default, {"num_attention_heads": 2})
    config = AutoConfig.for_model(name, **SIZES, **shared, output_router_logits=True)
    return (
        AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    ).from_config(config)


def batch():
    ids = torch.randint(3, 40, (3, 9), generator=torch.Generator().manual_seed(1))
    labels = ids.clone()
    labels[0, 5:] = labels[:, 0] = -100
    return ids, labels


@pytest.mark.parametrize("name", [*CAUSAL, "switch_transformers"])
def test_the_loss_is_the_model_s_own(name):
    model = build(name).eval()
    ids, labels = batch()
    paired = model.config.is_encoder_decoder
    inputs = {"input_ids": ids} | ({"decoder_input_ids": ids} if paired else {})
    plain = losses.TokenLoss(shift=not paired)
    whole = losses.WithRouters(plain, model)
    own = model(**inputs, labels=labels, **whole.asks_for).loss.item()
    outputs = model(**inputs, **whole.asks_for)
    assert whole(outputs, labels).item() == pytest.approx(own, abs=1e-5)
    assert own > plain(outputs, labels).item() + 1e-4
    with torch.no_grad():  # in an evaluation it is the cross entropy
        assert whole(outputs, labels).item() == plain(outputs, labels).item()


@pytest.mark.parametrize("splits", [[3], [1, 2], [1, 1, 1]])
def test_the_parts_of_a_step_weigh_as_their_labels_do(splits):
    """Labels 4, 8, 8 of 20: a routers' loss of 1 in every part is one in all."""
    outputs = {"logits": torch.zeros(3, 9, 40), "aux_loss": torch.tensor(1.0)}
    _, labels = batch()
    model = build("mixtral")
    model.router_aux_loss_coef = 0.5
    whole = losses.WithRouters(losses.TokenLoss(shift=True), model)
    number, total, start = losses.count(labels), 0.0, 0
    for rows in splits:
        part = slice(start, start + rows)
        total += whole(outputs | {"logits": outputs["logits"][part]}, labels[part], number).item()
        start += rows
    assert total == pytest.approx(torch.tensor(40.0).log().item() + 0.5, abs=1e-5)


def first_loss(tmp_path, rows, accumulated):
    """The logged loss of a step of eight equal rows, whose routers' loss is that of any part of them."""
    ids, _ = batch()
    row = ids[1].tolist()
    rows_of = [{"input_ids": row, "labels": [-100, *row[1:]]} for _ in range(8)]
    model = build("mixtral")
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            str(tmp_path / f"{rows}"),
            use_cpu=True,
            max_steps=1,
            logging_steps=1,
            report_to="none",
            per_device_train_batch_size=rows,
            gradient_accumulation_steps=accumulated,
            disable_tqdm=True,
            save_strategy="no",
        ),
        train_dataset=Dataset.from_list(rows_of),
        eval_dataset=Dataset.from_list(rows_of),
        compute_loss_func=losses.TokenLoss(shift=True),
        compute_metrics=lambda prediction: language_modeling.scores(prediction.predictions),
        preprocess_logits_for_metrics=language_modeling.token_sums(shift=True),
    )
    own = model(
        input_ids=torch.tensor([row]), labels=torch.tensor([rows_of[0]["labels"]])
    ).loss.item()
    trainer.train()
    (logged,) = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
    scores = trainer.evaluate()
    assert scores["eval_loss"] == pytest.approx(scores["eval_cross_entropy"])
    return logged["loss"], logged["grad_norm"], own


def test_the_logged_loss_and_its_gradient_are_the_same_however_a_step_is_split(tmp_path):
    found = [first_loss(tmp_path, rows, 8 // rows) for rows in (8, 4, 1)]
    for loss, norm, own in found:
        assert loss == pytest.approx(own, abs=1e-4)
        assert norm == pytest.approx(found[0][1], rel=1e-4)


def test_where_a_model_has_no_such_loss_it_is_said_once(capsys):
    model = build("deepseek_v3")
    whole = losses.WithRouters(losses.TokenLoss(shift=True), model)
    ids, labels = batch()
    for _ in range(2):
        whole(model(ids), labels).backward()
    assert capsys.readouterr().err.count("output_router_logits has no effect: deepseek_v3") == 1


def test_a_run_with_routers_is_evaluated_by_its_logits(texts):
    moe = "hidden_size=16,num_hidden_layers=1,num_attention_heads=2,num_key_value_heads=1,intermediate_size=16,"
    moe += "num_local_experts=2,max_position_embeddings=64,output_router_logits=true"
    flags = "--train_file text.txt --validation_file more.txt --output_dir out --model_type".split()
    flags += [
        "mixtral",
        "--config_overrides",
        moe,
        *"--vocab_size 300 --block_size 16".split(),
        *SHORT,
    ]
    scores = load_recipe("clm_pretrain").main(flags)
    assert scores["eval_loss"] == pytest.approx(scores["eval_cross_entropy"])
    assert 1 < scores["perplexity"] < 400


MASKED = {"bart": 1, "mbart": 1, "mvp": 1, "bert": 0, "xlm": 0, "luke": 0}  # 1: with a decoder
TINY = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "vocab_size": 40,
}
TINY |= {
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "hidden_size": 16,
    "emb_dim": 16,
}
TINY |= {
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "n_layers": 1,
    "n_heads": 2,
}
TINY |= {
    "entity_vocab_size": 9,
    "entity_emb_size": 16,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
}


@pytest.mark.parametrize("name", MASKED)
def test_a_masked_model_s_loss_is_its_own_too(name, tmp_path):
    """BART's own loss gives its decoder the shifted labels; a row without a label stands in the batch as well."""
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        name, **TINY | ({"decoder_start_token_id": 2} if MASKED[name] else {})
    )
    model = transformers.AutoModelForMaskedLM.from_config(config)
    ids, _ = batch()
    labels = torch.where(
        torch.rand(ids.shape, generator=torch.Generator().manual_seed(2)) < 0.4, ids, -100
    )
    trainer = Trainer(
        model=model,
        args=TrainingArguments(str(tmp_path), use_cpu=True, report_to="none"),
        compute_loss_func=losses.TokenLoss(),
    )
    assert trainer.label_names == ["labels"]  # LUKE has entity_labels as well
    model.eval()
    own = model(input_ids=ids, labels=labels).loss.item()
    with torch.no_grad():
        found = trainer.compute_loss(model, {"input_ids": ids, "labels": labels})
        labels[1] = -100
        trainer.compute_loss(model, {"input_ids": ids, "labels": labels})
    assert found.item() == pytest.approx(own, abs=1e-5)
