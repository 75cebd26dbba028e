"""Batches: masks that depend on seed, epoch and row alone; positions and labels of packed documents."""

import numpy
import pytest
import torch
from transformers import DataCollatorWithPadding, MBartConfig, MBartForConditionalGeneration

from recipes.common.model.tokenizer_training import train_tokenizer
from recipes.common.runtime.errors import Refusal
from recipes.common.tokens.collators import (
    CausalBlocks,
    MaskedBlocks,
    Pairs,
    never_empty,
    positions_in_documents,
    word_beginnings,
)

TEXTS = [
    "the waiter was friendly and the soup was cold",
    "unfriendly waiters and colder soups",
    "汤很冷 服务员很好",
] * 3


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, "wordpiece", 90, "bert")


def rows(tokenizer, count=400, length=100, epoch=0):
    generator = numpy.random.default_rng(0)
    ordinary = numpy.setdiff1d(numpy.arange(len(tokenizer)), tokenizer.all_special_ids)
    ids = generator.choice(ordinary, size=(count, length))
    return [{"input_ids": row, "row": number, "epoch": epoch} for number, row in enumerate(ids)]


def test_shares_are_those_asked_for(tokenizer):
    data = rows(tokenizer)
    batch = MaskedBlocks(tokenizer, 1, 0.3, 0.5, 0.25)(data)
    chosen = batch["labels"] != -100
    inputs = torch.from_numpy(numpy.stack([row["input_ids"] for row in data]))
    masked = batch["input_ids"] == tokenizer.mask_token_id
    changed = chosen & ~masked & (batch["input_ids"] != inputs)
    assert chosen.float().mean() == pytest.approx(0.3, abs=0.01)
    assert masked.sum() / chosen.sum() == pytest.approx(0.5, abs=0.02)
    assert changed.sum() / chosen.sum() == pytest.approx(0.25, abs=0.02)
    assert torch.equal(batch["labels"][chosen], inputs[chosen])
    assert torch.equal(batch["input_ids"][~chosen], inputs[~chosen])


def test_a_row_gets_its_mask_whatever_stands_beside_it(tokenizer):
    data, collator = rows(tokenizer, 6), MaskedBlocks(tokenizer, 1)
    torch.manual_seed(5)
    together = collator(data)
    torch.manual_seed(6)
    alone = [collator([row]) for row in reversed(data)][::-1]
    for name in together:
        assert torch.equal(together[name], torch.cat([batch[name] for batch in alone]))


def test_seed_and_epoch_change_the_masks_of_training_only(tokenizer):
    def labels(seed, epoch):
        return MaskedBlocks(tokenizer, seed)(rows(tokenizer, 4, epoch=epoch))["labels"]

    assert not torch.equal(labels(1, 0), labels(2, 0))
    assert not torch.equal(labels(1, 0), labels(1, 1))
    assert torch.equal(labels(1, None), labels(2, None))


def test_evaluation_is_masked_at_15_percent_whatever_the_training_rate(tokenizer):
    data = rows(tokenizer, epoch=None)
    high, low = (MaskedBlocks(tokenizer, 1, rate, 1.0, 0.0)(data) for rate in (0.5, 0.05))
    assert torch.equal(high["input_ids"], low["input_ids"])
    assert (high["labels"] != -100).float().mean() == pytest.approx(0.15, abs=0.01)


def test_special_tokens_are_never_chosen(tokenizer):
    ids = numpy.asarray(tokenizer(TEXTS[0])["input_ids"])
    batch = MaskedBlocks(tokenizer, 1, 1.0)([{"input_ids": ids, "row": 0, "epoch": 0}])
    assert batch["labels"][0, [0, -1]].tolist() == [-100, -100]
    assert (batch["labels"][0, 1:-1] == torch.from_numpy(ids[1:-1])).all()


def test_the_pieces_of_a_word_are_masked_together(tokenizer):
    ids = numpy.asarray(tokenizer("soupers coldness waiter unsoup friendlier")["input_ids"])
    begins = word_beginnings(tokenizer)[ids]
    words = numpy.cumsum(begins)
    assert len(set(words)) < len(ids)
    for row in range(20):
        batch = MaskedBlocks(tokenizer, 1, 0.3, whole_words=True)(
            [{"input_ids": ids, "row": row, "epoch": 0}]
        )
        chosen = (batch["labels"][0] != -100).numpy()
        for word in set(words[1:-1]):
            assert len(set(chosen[words == word])) == 1


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_words_begin_where_a_space_was(algorithm):
    tokenizer = train_tokenizer(TEXTS, algorithm, 330 if algorithm == "bpe" else 60, "roberta")
    ids = tokenizer(" soup waiters", add_special_tokens=False)["input_ids"]
    assert word_beginnings(tokenizer)[ids].sum() == 2


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_a_chinese_character_begins_a_word(algorithm):
    """Without spaces a whole line was one word, masked or not; Markdown's ## makes no vocabulary WordPiece's."""
    texts = ["## 早餐很好吃", "## 房间很小", "## soup"] * 20
    tokenizer = train_tokenizer(texts, algorithm, 330 if algorithm == "bpe" else 60, "roberta")
    ids = tokenizer("早餐很好吃房间很小", add_special_tokens=False)["input_ids"]
    assert word_beginnings(tokenizer)[ids].sum() >= 3
    assert not word_beginnings(tokenizer)[
        tokenizer("xsoup", add_special_tokens=False)["input_ids"][1:]
    ].any()


def test_rows_are_padded_to_the_longest_or_as_asked(tokenizer):
    data = [{"input_ids": numpy.full(size, 7), "row": size, "epoch": 0} for size in (2, 5)]
    assert MaskedBlocks(tokenizer, 1)(data)["attention_mask"].tolist() == [[1, 1, 0, 0, 0], [1] * 5]
    assert MaskedBlocks(tokenizer, 1, pad_to=8)(data)["input_ids"].shape == (2, 8)


def test_rows_without_padding_need_no_mask(tokenizer):
    data = [{"input_ids": numpy.full(5, 7), "row": row, "epoch": 0} for row in range(2)]
    assert MaskedBlocks(tokenizer, 1)(data).keys() == {"input_ids", "labels"}
    assert MaskedBlocks(tokenizer, 1, pad_to=8)(data)["attention_mask"].sum().item() == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probability": 0.0}, "mlm_probability"),
        ({"mask_share": 0.9, "random_share": 0.2}, "exceed 1"),
    ],
)
def test_impossible_shares_are_refused(options, message, tokenizer):
    with pytest.raises(Refusal, match=message):
        MaskedBlocks(tokenizer, 1, **options)


def test_a_tokenizer_without_mask_is_refused():
    with pytest.raises(Refusal, match="no mask token"):
        MaskedBlocks(train_tokenizer(TEXTS, "bpe", 300, "gpt2"), 1)


def test_positions_begin_anew_after_every_end():
    assert positions_in_documents(numpy.array([5, 6, 1, 7, 1, 1, 8, 9]), end=1).tolist() == [
        0,
        1,
        2,
        0,
        1,
        0,
        0,
        1,
    ]


def block(ids, context=0):
    return {"input_ids": numpy.array(ids), "context": context}


def test_causal_labels_are_the_inputs_but_for_the_first_token_and_padding():
    batch = CausalBlocks(pad=0, end=1)([block([5, 6, 7]), block([8, 1])])
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 1, 0]]
    assert batch["labels"].tolist() == [[-100, 6, 7], [-100, 1, -100]]


def test_context_is_read_but_not_predicted():
    assert CausalBlocks(0, 1)([block([5, 6, 7, 8], context=3)])["labels"].tolist() == [
        [-100, -100, -100, 8]
    ]


def test_isolated_documents_begin_at_position_0_and_are_not_predicted_from_each_other():
    batch = CausalBlocks(0, 1, isolate=True)([block([5, 6, 1, 7, 8])])
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1]]
    assert batch["labels"].tolist() == [[-100, 6, 1, -100, 8]]


def test_a_row_without_an_answer_stands_beside_others_in_every_family(tokenizer):
    """mBART shifts an answer's last token to its front."""
    sizes = {"vocab_size": len(tokenizer), "d_model": 8, "encoder_layers": 1, "decoder_layers": 1}
    sizes |= {
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 8,
        "decoder_ffn_dim": 8,
    }
    model = MBartForConditionalGeneration(MBartConfig(pad_token_id=tokenizer.pad_token_id, **sizes))
    prompt = {"input_ids": [5, 6], "attention_mask": [1, 1]}
    batch = Pairs(tokenizer, model)([{**prompt, "labels": [7, 8, 9]}, {**prompt, "labels": [-100]}])
    assert batch["labels"].tolist() == [[7, 8, 9], [-100, -100, -100]]
    assert batch["decoder_input_ids"][0].tolist() == [9, 7, 8]


@pytest.mark.parametrize("padding", ["<|pad|>", "<|endoftext|>"])
def test_a_text_without_tokens_is_one_token_that_does_not_pad(padding):
    tokenizer = train_tokenizer(TEXTS, "bpe", 300, "gpt2")
    tokenizer.pad_token = padding
    collate = never_empty(DataCollatorWithPadding(tokenizer), tokenizer)
    rows = [{**tokenizer(text), "labels": 1} for text in ("", "the soup")]
    batch = collate(rows)
    length = len(rows[1]["input_ids"])
    assert batch["attention_mask"].tolist() == [[1] + [0] * (length - 1), [1] * length]
    assert batch["input_ids"][0, 0] != tokenizer.pad_token_id
    assert batch["labels"].tolist() == [1, 1]
    assert rows[0]["input_ids"] == []
    assert collate(rows[:1])["input_ids"].shape == (1, 1)


def test_a_tokenizer_that_adds_tokens_to_an_empty_text_keeps_its_collator(tokenizer):
    collator = DataCollatorWithPadding(tokenizer)
    assert never_empty(collator, tokenizer) is collator
    assert never_empty(collator, None) is collator
