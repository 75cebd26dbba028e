"""A folder or a name on the Hub -> a tokenizer that knows words and special tokens; an empty one is refused."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from recipes.common.model import model_folders
from recipes.common.model.tokenizer_training import add_template, wordpiece_tokenizer
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import did_you_mean, note, reason

FULL = 1000  # a vocabulary of so many tokens is no empty one
CAPITALS = (
    0.01  # of the tokens, at least, have one where the vocabulary was made of texts with capitals
)
CONFIG = "tokenizer_config.json"
# How special tokens are usually written, in small letters; a vocabulary with a mask is an encoder's.
USUAL = {
    "pad_token": ("<pad>", "[pad]", "<|pad|>", "<|padding|>"),
    "unk_token": ("<unk>", "[unk]", "<|unk|>"),
    "bos_token": ("<s>", "<bos>", "[bos]", "<|begin_of_text|>", "<|startoftext|>", "<|bos|>"),
    "eos_token": ("</s>", "<eos>", "[eos]", "<|endoftext|>", "<|end_of_text|>", "<|eos|>"),
    "mask_token": ("<mask>", "[mask]", "<|mask|>"),
    "cls_token": ("[cls]", "<cls>"),
    "sep_token": ("[sep]", "<sep>"),
}
HINT = "--special_tokens eos_token=TOKEN pad_token=TOKEN"


def load(
    name: str,
    flag: str,
    trust_remote_code: bool,
    named: Iterable[str] | None = None,
    **options: Any,
) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or of a name on the Hub; `named` are special tokens, each as role=TOKEN.

    A folder of one's own may hold tokenizer.json alone, or vocab.json and merges.txt, or vocab.txt: then no class of
    transformers is guessed, whose habits (lower case, another splitting) would not be those that it was trained with.
    """
    folder = Path(name)
    bare = folder.is_dir() and not (folder / CONFIG).is_file()
    reads_itself = bare and (
        (folder / "tokenizer.json").is_file() or not (folder / "config.json").is_file()
    )
    tokenizer = _from_files(folder, flag, options) if reads_itself else None
    if tokenizer is None:
        tokenizer = _from_transformers(name, flag, trust_remote_code, options)
    if is_empty(tokenizer):
        raise _nothing_there(name, flag)
    if not tokenizer.special_tokens_map:
        _find_special_tokens(tokenizer)
    _name_special_tokens(tokenizer, named or ())
    return tokenizer


def _from_transformers(
    name: str, flag: str, trust_remote_code: bool, options: dict[str, Any]
) -> Any:
    """What the class of the folder's model makes of its files, or else what they say by themselves."""
    folder = Path(name)
    options |= {} if _lower_cases(folder) else {"do_lower_case": False}
    try:
        tokenizer = model_folders.load(AutoTokenizer, name, flag, trust_remote_code, **options)
        wrong = _nothing_there(name, flag) if is_empty(tokenizer) else None
    except Refusal as refusal:
        if not folder.is_dir():
            raise
        wrong = _unreadable(folder, flag, refusal)
    if wrong:
        tokenizer = _from_files(folder, flag, options) if folder.is_dir() else None
    if tokenizer is None:
        raise wrong
    return tokenizer


def _nothing_there(name: str, flag: str) -> Refusal:
    """transformers makes a tokenizer of special tokens alone, without a word: every text becomes unknown tokens."""
    fix = "name the tokenizer that the model was trained with: --tokenizer_name NAME"
    if flag == "the folder":
        fix = "copy tokenizer.json and tokenizer_config.json of its tokenizer into it (training: --tokenizer_name)"
    return Refusal(f"{name} holds no tokenizer: no vocabulary, only special tokens", flag, fix)


def _unreadable(folder: Path, flag: str, refusal: Refusal) -> Refusal:
    files = _vocabulary_files(folder)
    if not files:
        return _nothing_there(str(folder), flag)
    if files[0].suffix == ".model":
        fix = f"rename {files[0].name} to tokenizer.model, or say in {CONFIG} which class reads it"
        return Refusal(f"{folder} does not say how its SentencePiece model is used", flag, fix)
    return Refusal(
        refusal.what,
        flag,
        "name another tokenizer, --tokenizer_name NAME, or mend that folder's files",
    )


def is_empty(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether it knows nothing but special tokens; ByT5's and CANINE's need no file to know every character."""
    if not tokenizer.vocab_files_names or len(tokenizer) > FULL:
        return False
    return not {*tokenizer.get_vocab()} - {
        *tokenizer.all_special_tokens,
        *tokenizer.get_added_vocab(),
        "▁",
    }


def _vocabulary_files(folder: Path) -> list[Path]:
    kinds = (
        "*.model",
        "*.spm",
        "*vocab*",
        "tokenizer.json",
        "*merges*",
        "*.codes",
        "*.tiktoken",
        "tekken.json",
    )
    return [path for kind in kinds for path in folder.glob(kind)]


def _lower_cases(folder: Path) -> bool:
    """False for a vocab.txt with capitals of which nothing says that texts are lower-cased: BERT's class would do it,
    and know no word with a capital any more."""
    file = folder / "vocab.txt"
    return (
        (folder / CONFIG).is_file()
        or not file.is_file()
        or not _has_capitals(models.WordPiece.read_file(str(file)))
    )


def _has_capitals(vocabulary: Iterable[str]) -> bool:
    words = [token for token in vocabulary if not token.startswith(("[", "<"))]
    return sum(token != token.lower() for token in words) > CAPITALS * len(words)


def _from_files(folder: Path, flag: str, options: dict[str, Any]) -> PreTrainedTokenizerFast | None:
    """The tokenizer that a folder's files describe by themselves; None where they are of another kind."""
    model_folders.check(folder, flag)
    if (folder / "tokenizer.json").is_file():
        return model_folders.load(PreTrainedTokenizerFast, str(folder), flag, False, **options)
    vocabularies, merges = sorted(folder.glob("*vocab.json")), sorted(folder.glob("*merges.txt"))
    pieces = sorted(folder.glob("*vocab.txt"))
    try:
        if len(vocabularies) == len(merges) == 1:
            return _fast(_byte_level(vocabularies[0], merges[0]))
        if len(pieces) == 1:
            return _fast(_word_pieces(pieces[0]))
    except Exception as error:  # tokenizers raises nothing more specific
        fix = "give the files as `tokenizers` saves them: tokenizer.json, or vocab.json and merges.txt, or vocab.txt"
        raise Refusal(
            f"cannot read {[*vocabularies, *pieces][0]}: {reason(error)}", flag, fix
        ) from None
    return None


def _byte_level(vocabulary: Path, merges: Path) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE.from_file(str(vocabulary), str(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _word_pieces(file: Path) -> Tokenizer:
    vocabulary = models.WordPiece.read_file(str(file))
    model = models.WordPiece(vocabulary, unk_token=_written(vocabulary).get("unk_token", "[UNK]"))
    return wordpiece_tokenizer(model, lower=not _has_capitals(vocabulary))


def _fast(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)


def _written(vocabulary: Iterable[str]) -> dict[str, str]:
    """The special tokens of a vocabulary that are written as usual, by their roles."""
    known = {token.lower(): token for token in vocabulary}
    found = {}
    for role, names in USUAL.items():
        token = next((known[name] for name in names if name in known), None)
        if token:
            found[role] = token
    return found


def _find_special_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    """Gives the tokens with the usual names their roles, and says so; an encoder's texts get [CLS] and [SEP]."""
    found = _written(tokenizer.get_vocab())
    if (
        "mask_token" in found
    ):  # RoBERTa's kin: what begins and ends a text stands for [CLS] and [SEP]
        ends = {"cls_token": found.get("bos_token"), "sep_token": found.get("eos_token")}
        found = {role: token for role, token in ends.items() if token} | found
    if not found:
        return
    tokenizer.add_special_tokens(found)
    shown = ", ".join(f"{role.removesuffix('_token')} {token}" for role, token in found.items())
    note(f"special tokens by their usual names: {shown} (--special_tokens names others)")
    frames = {"cls_token", "sep_token"} <= found.keys()
    if (
        frames
        and tokenizer("a")["input_ids"] == tokenizer("a", add_special_tokens=False)["input_ids"]
    ):
        add_template(tokenizer.backend_tokenizer, found)


def _name_special_tokens(tokenizer: PreTrainedTokenizerBase, named: Iterable[str]) -> None:
    """Gives tokens of the vocabulary the roles that the user names."""
    for item in named:
        role, equals, token = item.partition("=")
        if not equals or role not in USUAL:
            fix = did_you_mean(
                role, USUAL, f"write {HINT.partition(' ')[2]}; roles: {', '.join(USUAL)}"
            )
            raise Refusal(f"no special token has the role {role!r}", "--special_tokens", fix)
        vocabulary = tokenizer.get_vocab()
        if token not in vocabulary:
            fix = did_you_mean(token, vocabulary, "name a token of its vocabulary")
            raise Refusal(f"the tokenizer has no token {token!r}", "--special_tokens", fix)
        tokenizer.add_special_tokens({role: token})
