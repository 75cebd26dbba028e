"""A document begins as its tokenizer begins it: packed, streamed, evaluated, and in a prompt."""

import itertools
import json
import math

import numpy
import pytest
import torch
from conftest import load_recipe
from test_packing import END, PAD, Letters, arguments, ids, splits, take, training
from tokenizers import processors
from transformers import AutoConfig, AutoModelForCausalLM

from recipes.common.model.special_tokens import start_of_text
from recipes.common.model.tokenizer_training import train_tokenizer
from recipes.common.predict.continuing import Continuer
from recipes.common.runtime.errors import Refusal
from recipes.common.tokens import packing, stream, tokenising
from recipes.common.tokens.blocks import Layout
from recipes.common.tokens.collators import CausalBlocks

DOCUMENTS = ["the soup was warm", "a cold room", "the staff was rude and the soup cold", "good"]
BEGIN = 7


def begun_with(*tokens, model_type="bart"):
    """A tokenizer that puts these before every text, as Llama's does with <s>."""
    tokenizer = train_tokenizer(DOCUMENTS * 5, "bpe", 320, model_type)
    written = [(token, tokenizer.convert_tokens_to_ids(token)) for token in tokens]
    template = {"single": " ".join([*tokens, "$A"]), "pair": " ".join([*tokens, "$A $B"])}
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        **template, special_tokens=written
    )
    return tokenizer


@pytest.mark.parametrize(
    ("tokenizer", "start"),
    [
        (lambda: begun_with("<s>"), ["<s>"]),
        (lambda: begun_with("<mask>", "<s>"), ["<mask>", "<s>"]),  # as GLM's: [gMASK]<sop>
        (lambda: train_tokenizer(DOCUMENTS, "bpe", 320, "gpt2"), []),
        (lambda: train_tokenizer(DOCUMENTS, "bpe", 320, "t5"), []),
        (lambda: train_tokenizer(DOCUMENTS, "wordpiece", 320, "bert"), ["[CLS]"]),
        (lambda: train_tokenizer(DOCUMENTS, "bpe", 320, "roberta"), ["<s>"]),
    ],
    ids=["llama", "glm", "gpt2", "t5", "bert", "roberta"],
)
def test_what_stands_before_a_text_is_what_its_tokenizer_puts_there(tokenizer, start):
    tokenizer = tokenizer()
    assert tokenizer.convert_ids_to_tokens(start_of_text(tokenizer)) == start


class Known(Letters):
    """Letters that a prepared folder knows again."""

    def get_vocab(self):
        return {}


def pack(texts, size=99, start=(BEGIN,), streaming=False, prepared_dir=None, **options):
    layout = Layout(size, END, PAD, start=start, **options)
    flags = arguments(streaming)
    flags.prepared_dir = prepared_dir
    return packing.pack(splits(texts), Known(), layout, flags, training(max_steps=9))


def test_every_document_begins_and_ends():
    assert ids(pack(["ab", "c"]).train) == [[BEGIN, 10, 11, END, BEGIN, 12, END]]
    assert ids(pack(["ab", "c"], start=(BEGIN, 8)).train) == [
        [BEGIN, 8, 10, 11, END, BEGIN, 8, 12, END]
    ]


@pytest.mark.parametrize("characters", [1, 2**20], ids=["a text a batch", "one batch"])
def test_a_document_of_several_texts_begins_once(characters, monkeypatch):
    monkeypatch.setattr(tokenising, "CHARACTERS", characters)
    found = pack(["a\n", "b", "c\n", "d\n"]).train
    assert ids(found) == [[BEGIN, 10, 9, 11, END, BEGIN, 12, 9, 13, 9, END]]


def test_where_a_text_ends_as_it_begins_one_token_does_both(monkeypatch):
    """OPT's </s>."""
    assert ids(pack(["ab", "c"], start=(END,)).train) == [[END, 10, 11, END, 12, END]]
    monkeypatch.setattr(stream, "WINDOW", 2)
    first, second = sorted(take(pack(["ab", "c"], size=3, start=(END,), streaming=True).train, 2))
    assert (first[2:], second[2:]) == ((END, 10, 11), (END, 12, END))


TEXTS = ["abc"[: 1 + number % 3] + "\n" * (number % 4 == 0) for number in range(40)]


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_a_stream_begins_documents_where_the_data_in_memory_does(batch, monkeypatch):
    monkeypatch.setattr(stream, "BATCH", batch)
    monkeypatch.setattr(stream, "WINDOW", 10)
    streamed = [
        row for row in sorted(take(pack(TEXTS, size=5, streaming=True).train, 60)) if row[1] == 0
    ]
    in_memory = ids(pack(TEXTS, size=5).train)
    assert len(streamed) > 20
    assert [list(row[2:]) for row in streamed] == in_memory[: len(streamed)]


@pytest.mark.parametrize("blocks", range(1, 30, 4))
def test_a_stream_goes_on_within_a_document_without_beginning_it_again(
    blocks, monkeypatch, tmp_path
):
    monkeypatch.setattr(stream, "WINDOW", 2)
    whole = take(pack(TEXTS, size=5, streaming=True).train, 40)
    first = pack(TEXTS, size=5, streaming=True).train
    take(first, blocks)
    first.save_position(tmp_path, blocks)
    again = pack(TEXTS, size=5, streaming=True).train
    again.load_position(tmp_path, 0, 99)
    assert take(again, 40 - blocks) == whole[blocks:]


def test_prepared_tokens_are_those_of_the_same_begin(tmp_path):
    begins = [(BEGIN,), (), (BEGIN, 8)]
    found = [ids(pack(["ab"], start=start, prepared_dir=str(tmp_path)).train) for start in begins]
    assert found == [[[BEGIN, 10, 11, END]], [[10, 11, END]], [[BEGIN, 8, 10, 11, END]]]
    assert ids(pack(["ab"], prepared_dir=str(tmp_path)).train) == found[0]


def test_what_is_given_is_not_predicted():
    row = {"input_ids": [10, END, BEGIN, 11, END], "context": 0}
    labels = CausalBlocks(PAD, END, start=(BEGIN,))([row])["labels"]
    assert labels.tolist() == [[-100, END, -100, 11, END]]
    assert CausalBlocks(PAD, END, start=(END,))([row])["labels"].tolist() == [
        [-100, END, BEGIN, 11, END]
    ]


def test_documents_without_a_visible_border_cannot_be_kept_apart():
    with pytest.raises(Refusal, match="same token"):
        CausalBlocks(PAD, END, isolate=True, start=(END,))


def test_overlapping_blocks_predict_all_but_the_begins():
    layout = Layout(4, END, PAD, stride=2, start=(BEGIN,))
    rows = packing.pack(
        splits(["x"], ["abc", "de"]), Letters(), layout, arguments(), training()
    ).validation
    labels = [CausalBlocks(PAD, END, start=(BEGIN,))([row])["labels"][0].tolist() for row in rows]
    assert [token for token in itertools.chain(*labels) if token != -100] == [
        10,
        11,
        12,
        END,
        13,
        14,
        END,
    ]


@pytest.fixture
def checkpoint(in_tmp_path):
    """A tiny Llama whose tokenizer begins every text with <s>; rows.jsonl holds DOCUMENTS."""
    tokenizer = begun_with("<s>")
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = AutoConfig.for_model(
        "llama", **sizes, intermediate_size=32, vocab_size=len(tokenizer), **ends
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        parameter.data *= 8  # or all words were as likely as each other
    model.save_pretrained("model")
    tokenizer.save_pretrained("model")
    with open("rows.jsonl", "w", encoding="utf-8") as stream:
        stream.writelines(json.dumps({"text": text}) + "\n" for text in DOCUMENTS)
    return model.eval(), tokenizer


@torch.inference_mode()
def loss(model, rows):
    """Summed loss in nats, and the number of predicted tokens, of rows of ids of which the first is given."""
    found = [model(torch.tensor([row])).logits[0, :-1].log_softmax(-1) for row in rows]
    sums = [
        -logs[range(len(row) - 1), row[1:]].sum() for logs, row in zip(found, rows, strict=True)
    ]
    return float(sum(sums)), sum(len(row) - 1 for row in rows)


EVALUATE = (
    "--model_name_or_path model --do_eval --validation_file rows.jsonl --output_dir out"
).split()
EVALUATE += ["--bf16", "false", "--block_size", "1024"]


def test_perplexity_is_that_of_the_documents_as_the_tokenizer_writes_them(checkpoint):
    model, tokenizer = checkpoint
    rows = [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in DOCUMENTS]
    assert {row[0] for row in rows} == {tokenizer.bos_token_id}
    nats, tokens = loss(model, rows)
    found = load_recipe("clm_pretrain").main([*EVALUATE, "--packing_isolation"])
    assert found["perplexity"] == pytest.approx(math.exp(nats / tokens), rel=1e-4)
    size = sum(len(text) for text in DOCUMENTS)
    assert found["eval_bits_per_byte"] == pytest.approx(nats / math.log(2) / size, rel=1e-4)


def test_the_unigram_model_predicts_no_begin_either(checkpoint):
    _, tokenizer = checkpoint
    rows = [
        [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        for text in DOCUMENTS
    ]
    tokens = [token for row in rows for token in row]
    counts = numpy.bincount(tokens, minlength=len(tokenizer)) + 1
    expected = math.exp(-numpy.log(counts / counts.sum())[tokens].mean())
    found = load_recipe("clm_pretrain").main(EVALUATE)
    assert found["eval_baseline_perplexity"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("prompt", ["", "the soup", "<s>the soup"])
def test_a_prompt_begins_as_a_text_does(prompt, checkpoint):
    _, tokenizer = checkpoint
    asked = tokenizer(prompt.removeprefix("<s>"))["input_ids"]
    model = Continuer("model")
    assert model._ids(prompt) == asked
    assert asked[0] == tokenizer.bos_token_id
    (text,) = model.write(prompt, {"max_new_tokens": 4, "do_sample": False})
    written = model.model.generate(torch.tensor([asked]), max_new_tokens=4, do_sample=False)
    assert text == tokenizer.decode(written[0], skip_special_tokens=True)


def test_where_nothing_begins_a_text_an_empty_prompt_is_the_end_of_another(checkpoint):
    model, _ = checkpoint
    tokenizer = train_tokenizer(DOCUMENTS * 5, "bpe", 320, "gpt2")
    model.save_pretrained("other")
    tokenizer.save_pretrained("other")
    assert Continuer("other")._ids("") == [tokenizer.eos_token_id]


class SeenError(Exception):
    """Ends a recipe where the layout of its blocks is known."""


def test_blocks_of_a_masked_model_begin_as_its_tokenizer_begins_a_text(in_tmp_path, monkeypatch):
    """XLM's begins with <s>, although its [CLS] is </s>."""
    tokenizer = begun_with("<s>")
    tokenizer.cls_token = "</s>"
    tokenizer.save_pretrained("own")
    (in_tmp_path / "text.txt").write_text("\n".join(DOCUMENTS * 9), encoding="utf-8")

    def pack(splits, tokenizer, layout, *_):
        raise SeenError(layout.prefix)

    monkeypatch.setattr(packing, "pack", pack)
    tiny = "hidden_size=16,num_hidden_layers=1,num_attention_heads=2,intermediate_size=32"
    flags = [
        "--model_type",
        "bert",
        "--config_overrides",
        tiny,
        *"--tokenizer_name own --max_seq_length 32".split(),
    ]
    with pytest.raises(SeenError) as seen:
        load_recipe("mlm_pretrain").main(
            [*flags, "--train_file", "text.txt", "--output_dir", "out"]
        )
    assert seen.value.args == (tokenizer.bos_token_id,)
