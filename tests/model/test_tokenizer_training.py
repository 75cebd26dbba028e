"""Training text -> a tokenizer: every character is known, and it is the same at every run and after saving."""

import json

import pytest
from transformers import AutoTokenizer

from recipes.common.model import tokenizer_training
from recipes.common.runtime.errors import Refusal

ENGLISH = [
    "the soup was warm and good",
    "the room was cold and the staff was rude",
    "a film that I liked",
] * 10
CHINESE = ["这家餐厅的汤很好喝", "房间太冷,服务员态度很差", "我喜欢这部电影。"] * 10
TEXTS = ENGLISH + CHINESE
ALGORITHMS = ["wordpiece", "bpe", "unigram"]


def train(algorithm="wordpiece", vocab_size=400, model_type="bert", texts=TEXTS, **options):
    return tokenizer_training.train_tokenizer(texts, algorithm, vocab_size, model_type, **options)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("model_type", ["bert", "roberta", "gpt2"])
def test_every_character_of_the_training_text_is_known(algorithm, model_type):
    tokenizer = train(algorithm, model_type=model_type)
    for text in TEXTS:
        assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"], text
    for character in set("".join(CHINESE)) - {" "}:
        assert tokenizer.unk_token_id not in tokenizer(character)["input_ids"], character


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("text", ENGLISH[:3])
def test_english_comes_back_as_it_was(algorithm, text):
    tokenizer = train(algorithm)
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, "char"])
def test_capitals_stay_unless_lower_case_was_asked_for(algorithm):
    texts = ["The Soup was GOOD and the Room was cold"] * 10
    for lower in (False, True):
        tokenizer = train(algorithm, texts=texts, do_lower_case=lower)
        given_back = tokenizer.decode(tokenizer(texts[0], add_special_tokens=False)["input_ids"])
        assert given_back == (texts[0].lower() if lower else texts[0])


CODE = [
    "class Soup:\n\tdef taste(self):\n        return 'Good'  # 你好\n",
    "if (Room == null) {\n  return;\n}\n",
] * 5
FAMILIES = [
    ("bert", "wordpiece"),
    ("modernbert", "wordpiece"),
    ("electra", "wordpiece"),
    ("deberta-v2", "wordpiece"),
]
FAMILIES += [
    (name, "bpe")
    for name in ("gpt2", "llama", "qwen3", "mistral", "gemma2", "mamba", "bloom", "xglm")
]
FAMILIES += [
    (name, "bpe")
    for name in ("roberta", "xlm-roberta-xl", "roberta-prelayernorm", "luke", "longformer")
]
FAMILIES += [
    (name, "bpe")
    for name in ("t5", "bart", "pegasus", "marian", "m2m_100", "led", "mvp", "prophetnet")
]


@pytest.mark.parametrize(("model_type", "algorithm"), FAMILIES)
def test_the_default_algorithm_follows_the_family_and_gives_code_back(model_type, algorithm):
    assert tokenizer_training.default_algorithm(model_type) == algorithm
    tokenizer = train(None, model_type=model_type, texts=CODE)
    assert (
        tokenizer_training.round_trip(tokenizer, CODE)
        == tokenizer_training.writes(model_type)
        == (algorithm == "bpe")
    )
    assert tokenizer_training.round_trip(tokenizer, CODE, spaces=False) == 1


SEQUENCES = sorted(tokenizer_training.ENCODER_DECODERS)


@pytest.mark.parametrize("model_type", SEQUENCES)
def test_the_answers_of_every_encoder_decoder_end_with_an_end_token(model_type):
    assert len(SEQUENCES) > 20
    tokenizer = train("bpe", model_type=model_type, texts=ENGLISH)
    assert tokenizer("soup")["input_ids"][-1] == tokenizer.eos_token_id is not None


def test_the_share_that_comes_back_is_of_pieces_of_500_characters():
    """Three of four: the third piece has a line break, which WordPiece forgets."""
    text = "good " * 200 + "go\nd " * 100 + "good " * 100
    texts = [text[:500].strip(), text[500:1000].strip(), text[1000:1500], text[1500:].strip()]
    assert tokenizer_training.round_trip(train(texts=texts), texts) == 0.75
    assert tokenizer_training.round_trip(train(texts=texts), texts, spaces=False) == 1
    assert tokenizer_training.round_trip(train(), []) == 0


@pytest.mark.parametrize(
    ("text", "share"), [("今天的湯很好，明天再來。", 1), ("good, soup!", 1), ("good 湯 soup", 0)]
)
def test_spaces_do_not_count_where_words_are_no_tokens_and_letters_do(text, share):
    """BERT's tokenizer puts spaces around every Chinese character; one that it has never seen is lost."""
    texts = ["今天的湯很好，明天再來。", "good, soup!"] if share else ["good soup"]
    tokenizer = train("wordpiece", model_type="bert", texts=texts * 5)
    assert tokenizer_training.round_trip(tokenizer, [text], spaces=False) == share


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("text", CHINESE[:3])
def test_chinese_comes_back_but_for_spaces(algorithm, text):
    tokenizer = train(algorithm)
    decoded = tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True)
    assert decoded.replace(" ", "") == text


def test_bpe_knows_and_gives_back_any_string():
    tokenizer = train("bpe")
    for text in ("naïve 😀 коты", "  two  spaces ", "tab\tand\nline"):
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_special_tokens_of_roberta_s_kin_have_roberta_s_ids():
    """Their positions are counted from the padding's id."""
    for model_type in (
        "roberta",
        "xlm-roberta-xl",
        "roberta-prelayernorm",
        "luke",
        "ibert",
        "xmod",
    ):
        tokenizer = train(None, model_type=model_type, texts=ENGLISH)
        assert (tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id) == (
            0,
            1,
            2,
        ), model_type


def test_wordpiece_sets_every_chinese_character_apart():
    assert train().tokenize("好汤good") == ["好", "汤", "good"]


def test_unigram_never_joins_chinese_and_latin():
    tokens = train("unigram").tokenize("汤good汤")
    assert tokens.count("汤") + tokens.count("▁汤") == 2


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("vocab_size", [300, 330])
def test_the_vocabulary_is_not_larger_than_asked(algorithm, vocab_size):
    varied = [
        f"{first}{second} {second}{first}"
        for first in "abcdefghij"
        for second in "klmnopqrstuvwxyz"
    ]
    assert 60 < len(train(algorithm, vocab_size, texts=TEXTS + varied)) <= vocab_size


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_same_text_trains_the_same_tokenizer(algorithm):
    assert len({train(algorithm).backend_tokenizer.to_str() for _ in range(5)}) == 1


ALPHABET = ["".join(chr(0x4E00 + 10 * row + column) for column in range(10)) for row in range(30)]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_vocabulary_smaller_than_the_alphabet_is_refused_or_kept_to_its_size(algorithm):
    try:
        assert len(train(algorithm, 150, texts=ALPHABET)) <= 150
    except Refusal as refusal:
        assert refusal.where == "--vocab_size"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    ("model_type", "one", "two"),
    [
        ("bert", "[CLS] x [SEP]", "[CLS] x [SEP] y [SEP]"),
        ("modernbert", "[CLS] x [SEP]", "[CLS] x [SEP] y [SEP]"),
        ("roberta", "<s> x </s>", "<s> x </s> y </s>"),
        ("gpt2", "x", "x y"),
    ],
)
def test_special_tokens_stand_where_the_architecture_has_them(algorithm, model_type, one, two):
    tokenizer = train(algorithm, model_type=model_type)
    x, y = (tokenizer("soup", add_special_tokens=False)["input_ids"] for _ in "xy")

    def expected(pattern):
        ids = [
            x if word == "x" else y if word == "y" else [tokenizer.convert_tokens_to_ids(word)]
            for word in pattern
        ]
        return [token for part in ids for token in part]

    assert tokenizer("soup")["input_ids"] == expected(one.split())
    assert tokenizer("soup", "soup")["input_ids"] == expected(two.split())


@pytest.mark.parametrize(
    ("model_type", "tokens"),
    [
        (
            "bert",
            {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"},
        ),
        (
            "roberta",
            {
                "bos": "<s>",
                "eos": "</s>",
                "pad": "<pad>",
                "unk": "<unk>",
                "cls": "<s>",
                "mask": "<mask>",
            },
        ),
        (
            "gpt2",
            {
                "bos": "<|endoftext|>",
                "eos": "<|endoftext|>",
                "pad": "<|pad|>",
                "mask": None,
                "cls": None,
            },
        ),
    ],
)
def test_each_architecture_has_its_own_special_tokens(model_type, tokens):
    tokenizer = train(model_type=model_type)
    assert {name: getattr(tokenizer, f"{name}_token") for name in tokens} == tokens
    assert all(tokenizer.convert_tokens_to_ids(token) < 5 for token in tokens.values() if token)


def test_the_second_text_of_a_pair_has_its_own_type():
    assert train()("soup", "room", return_token_type_ids=True)["token_type_ids"] == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("model_type", ["bert", "roberta", "gpt2"])
@pytest.mark.parametrize("beside", [True, False])
def test_a_saved_tokenizer_gives_the_same_ids_also_beside_a_model(
    algorithm, model_type, beside, tmp_path
):
    tokenizer = train(algorithm, model_type=model_type)
    tokenizer.save_pretrained(tmp_path)
    if beside:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    again = AutoTokenizer.from_pretrained(tmp_path)
    for text in (*ENGLISH[:3], *CHINESE[:3], "Good SOUP 汤 good", "an unseen wörd 😀"):
        assert again(text, text)["input_ids"] == tokenizer(text, text)["input_ids"], text
    assert again.special_tokens_map == tokenizer.special_tokens_map
    assert (again.padding_side, len(again)) == (tokenizer.padding_side, len(tokenizer))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_saved_tokenizer_gives_back_the_same_text(algorithm, tmp_path):
    tokenizer = train(algorithm)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    ids = tokenizer("the soup , was good . 汤")["input_ids"]
    assert again.decode(ids) == tokenizer.decode(ids)
