"""--config_overrides: values in their settings' types, and the settings that follow from others."""

import pytest
from transformers import AutoConfig

from recipes.common.model import config_overrides
from recipes.common.runtime.errors import Refusal


@pytest.mark.parametrize(
    ("name", "overrides", "expected"),
    [
        ("bert", "hidden_size=32, hidden_dropout_prob=0,hidden_act=relu", (32, 0.0, "relu")),
        ("bert", "is_decoder=True", (True,)),
        ("bert", "is_decoder=no", (False,)),
        ("gpt2", "n_inner=64", (64,)),  # its default is None
        ("gpt2", "n_inner=none", (None,)),
        ("xmod", "default_language=en_XX", ("en_XX",)),
        ("bert", "classifier_dropout=0.5", (0.5,)),
        ("gpt2", "hidden_size=32", (32,)),  # n_embd by its common name
    ],
)
def test_a_value_has_its_setting_s_type_and_one_without_a_default_is_what_it_looks_like(
    name, overrides, expected
):
    found = tuple(config_overrides.parse(AutoConfig.for_model(name), overrides).values())
    assert found == expected
    assert list(map(type, found)) == list(map(type, expected))


@pytest.mark.parametrize(
    ("name", "overrides", "said"),
    [
        ("bert", "hiden_size=8", "no setting 'hiden_size'"),
        ("bert", "hidden_size", "no setting 'hidden_size'"),
        ("bert", "model_type=gpt2", "which --model_type chooses"),
        ("bert", "to_dict=1", "no setting 'to_dict'"),
        ("bert", "hidden_size=many", "hidden_size=many: not a whole number"),
        ("bert", "hidden_size=1.5", "not a whole number"),
        ("bert", "is_decoder=maybe", "not true or false"),
        ("gpt_neo", "attention_types=1", "no single value"),
        ("dots3_note_text", "num_attention_heads=4", "per-layer attribute"),
        *[("bert", f"hidden_size={value}", "leaves nothing") for value in (0, -1)],
        ("bert", "num_hidden_layers=0", "leaves nothing"),
        ("bert", "num_attention_heads=0", "leaves nothing"),
        ("bert", "max_position_embeddings=0", "leaves nothing"),
        ("gpt2", "n_layer=0", "leaves nothing"),
        ("t5", "num_heads=0", "leaves nothing"),
        ("t5", "d_ff=0", "leaves nothing"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(name, overrides, said):
    with pytest.raises(Refusal, match=said) as caught:
        config_overrides.parse(AutoConfig.for_model(name), overrides)
    assert caught.value.where == "--config_overrides"


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("qwen3", {"num_attention_heads": 4}, 4),  # 32 of 32
        ("mistral", {"num_attention_heads": 8}, None),  # its 8 of 32 fit 8 heads
        ("mistral", {"num_attention_heads": 4}, 1),  # an eighth of the default
        ("mistral", {"num_attention_heads": 12}, 3),
        (
            "qwen3",
            {"num_attention_heads": 4, "num_key_value_heads": 2},
            None,
        ),  # what a user says wins
        ("qwen3", {"hidden_size": 64}, None),
        ("gpt2", {"n_head": 2}, None),
    ],
)
def test_key_and_value_heads_follow_from_the_attention_heads(name, changes, expected):
    found = config_overrides.derived(AutoConfig.for_model(name), changes)
    assert found == ({"num_key_value_heads": expected} if expected else {})


def test_a_refusal_names_what_has_no_default_among_experts():
    assert "num_experts_per_tok=None" in config_overrides.fitting(
        AutoConfig.for_model("deepseek_v2")
    )


def test_a_refusal_names_the_sizes_that_must_fit_first_the_heads():
    named = config_overrides.fitting(AutoConfig.for_model("gptj"))
    assert named.startswith("n_head=16")
    assert "rotary_dim=64" in named
