"""Loads the tokenizer of a folder or of a name on the Hub, with its special tokens.

Refuses an empty one.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from recipes.common.model import model_folders
from recipes.common.model.tokenizer_training import add_template, wordpiece_tokenizer
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import did_you_mean, note, reason

FULL = 1000  # a vocabulary of more tokens is not empty
# A vocabulary was made of texts with capitals if at least this share of its tokens has one.
CAPITALS = 0.01
CONFIG = "tokenizer_config.json"
# How special tokens are usually written, in small letters. Only an encoder has a mask token.
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
VOCABULARY_FILES = (
    "*.model",
    "*.spm",
    "*vocab*",
    "tokenizer.json",
    "*merges*",
    "*.codes",
    "*.tiktoken",
    "tekken.json",
)


def load(
    name: str,
    flag: str,
    trust_remote_code: bool,
    named: Iterable[str] | None = None,
    **options: Any,
) -> PreTrainedTokenizerBase:
    """Returns the tokenizer of a folder or of a name on the Hub.

    `named` are special tokens, each as role=TOKEN. The user's folder may hold tokenizer.json alone,
    or vocab.json and merges.txt, or vocab.txt. Then no class of transformers is guessed: its
    habits (lower case, another splitting) would not be those that the tokenizer was trained with.
    """
    folder = Path(name)
    tokenizer = None
    if _describes_itself(folder):
        tokenizer = _from_files(folder, flag, options)
    if tokenizer is None:
        tokenizer = _from_transformers(name, flag, trust_remote_code, options)
    if is_empty(tokenizer):
        raise _nothing_there(name, flag)
    if not tokenizer.special_tokens_map:
        _find_special_tokens(tokenizer)
    _name_special_tokens(tokenizer, named or ())
    return tokenizer


def _describes_itself(folder: Path) -> bool:
    """Whether a folder's files can be read without a class of transformers."""
    if not folder.is_dir() or (folder / CONFIG).is_file():
        return False
    return (folder / "tokenizer.json").is_file() or not (folder / "config.json").is_file()


def _from_transformers(
    name: str, flag: str, trust_remote_code: bool, options: dict[str, Any]
) -> PreTrainedTokenizerBase:
    """Returns the tokenizer that transformers' class for the model makes of the files.

    Where that fails, the files are read without a class.
    """
    folder = Path(name)
    if not _may_lower_case(folder):
        options["do_lower_case"] = False
    try:
        tokenizer = model_folders.load(AutoTokenizer, name, flag, trust_remote_code, **options)
        if not is_empty(tokenizer):
            return tokenizer
        failure = _nothing_there(name, flag)
    except Refusal as refusal:
        if not folder.is_dir():
            raise
        failure = _unreadable(folder, flag, refusal)
    tokenizer = None
    if folder.is_dir():
        tokenizer = _from_files(folder, flag, options)
    if tokenizer is None:
        raise failure
    return tokenizer


def _nothing_there(name: str, flag: str) -> Refusal:
    """Returns the refusal of an empty tokenizer.

    Where there is no vocabulary, transformers makes a tokenizer of special tokens alone. Every text
    would become unknown tokens.
    """
    fix = "name the tokenizer that the model was trained with: --tokenizer_name NAME"
    if flag == "the folder":
        fix = (
            "copy tokenizer.json and tokenizer_config.json of its tokenizer into it"
            " (training: --tokenizer_name)"
        )
    return Refusal(f"{name} holds no tokenizer: no vocabulary, only special tokens", flag, fix)


def _unreadable(folder: Path, flag: str, refusal: Refusal) -> Refusal:
    """Returns a refusal that says more about a folder than transformers' own error does."""
    files = _vocabulary_files(folder)
    if not files:
        return _nothing_there(str(folder), flag)
    if files[0].suffix == ".model":
        fix = f"rename {files[0].name} to tokenizer.model, or say in {CONFIG} which class reads it"
        return Refusal(f"{folder} does not say how its SentencePiece model is used", flag, fix)
    fix = "name another tokenizer, --tokenizer_name NAME, or repair that folder's files"
    return Refusal(refusal.what, flag, fix)


def is_empty(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer knows nothing but special tokens.

    ByT5's and CANINE's are not empty: they know every character without any file.
    """
    if not tokenizer.vocab_files_names or len(tokenizer) > FULL:
        return False
    special = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab(), "▁"}
    return tokenizer.get_vocab().keys() <= special


def _vocabulary_files(folder: Path) -> list[Path]:
    files = []
    for pattern in VOCABULARY_FILES:
        files += folder.glob(pattern)
    return files


def _may_lower_case(folder: Path) -> bool:
    """False for a vocab.txt with capitals where no setting asks for lower case.

    BERT's class would lower-case every text, and then know no word with a capital.
    """
    file = folder / "vocab.txt"
    if (folder / CONFIG).is_file() or not file.is_file():
        return True
    return not _has_capitals(models.WordPiece.read_file(str(file)))


def _has_capitals(vocabulary: Iterable[str]) -> bool:
    words = [token for token in vocabulary if not token.startswith(("[", "<"))]
    return sum(token != token.lower() for token in words) > CAPITALS * len(words)


def _from_files(folder: Path, flag: str, options: dict[str, Any]) -> PreTrainedTokenizerFast | None:
    """Returns the tokenizer that a folder's files describe by themselves.

    Returns None where they are of another kind.
    """
    model_folders.check(folder, flag)
    if (folder / "tokenizer.json").is_file():
        return model_folders.load(PreTrainedTokenizerFast, str(folder), flag, False, **options)
    vocabularies = sorted(folder.glob("*vocab.json"))
    merges = sorted(folder.glob("*merges.txt"))
    pieces = sorted(folder.glob("*vocab.txt"))
    try:
        if len(vocabularies) == len(merges) == 1:
            return _fast(_byte_level(vocabularies[0], merges[0]))
        if len(pieces) == 1:
            return _fast(_word_pieces(pieces[0]))
    except Exception as error:  # tokenizers raises nothing more specific
        file = [*vocabularies, *pieces][0]
        fix = (
            "give the files as `tokenizers` saves them: tokenizer.json, or vocab.json and"
            " merges.txt, or vocab.txt"
        )
        raise Refusal(f"cannot read {file}: {reason(error)}", flag, fix) from None
    return None


def _byte_level(vocabulary: Path, merges: Path) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE.from_file(str(vocabulary), str(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _word_pieces(file: Path) -> Tokenizer:
    vocabulary = models.WordPiece.read_file(str(file))
    unknown = _usual_tokens(vocabulary).get("unk_token", "[UNK]")
    model = models.WordPiece(vocabulary, unk_token=unknown)
    return wordpiece_tokenizer(model, lower=not _has_capitals(vocabulary))


def _fast(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)


def _usual_tokens(vocabulary: Iterable[str]) -> dict[str, str]:
    """Returns the special tokens of a vocabulary that are written as usual, by their roles."""
    known = {token.lower(): token for token in vocabulary}
    found = {}
    for role, names in USUAL.items():
        present = [name for name in names if name in known]
        if present:
            found[role] = known[present[0]]
    return found


def _find_special_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    """Gives the tokens with the usual names their roles, and prints a note.

    The texts of an encoder get [CLS] and [SEP].
    """
    found = _usual_tokens(tokenizer.get_vocab())
    if "mask_token" in found:
        # RoBERTa and its relatives: the tokens that start and end a text stand for [CLS] and [SEP].
        ends = {}
        if "bos_token" in found:
            ends["cls_token"] = found["bos_token"]
        if "eos_token" in found:
            ends["sep_token"] = found["eos_token"]
        found = ends | found
    if not found:
        return
    tokenizer.add_special_tokens(found)
    shown = ", ".join(f"{role.removesuffix('_token')} {token}" for role, token in found.items())
    note(f"special tokens by their usual names: {shown} (--special_tokens names others)")
    if {"cls_token", "sep_token"} <= found.keys() and not _frames_texts(tokenizer):
        add_template(tokenizer.backend_tokenizer, found)


def _frames_texts(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer puts special tokens around a text."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    return tokenizer("a")["input_ids"] != plain


def _name_special_tokens(tokenizer: PreTrainedTokenizerBase, named: Iterable[str]) -> None:
    """Gives tokens of the vocabulary the roles that the user names."""
    for item in named:
        role, equals, token = item.partition("=")
        if not equals or role not in USUAL:
            usage = f"write {HINT.partition(' ')[2]}; roles: {', '.join(USUAL)}"
            fix = did_you_mean(role, USUAL, usage)
            raise Refusal(f"no special token has the role {role!r}", "--special_tokens", fix)
        vocabulary = tokenizer.get_vocab()
        if token not in vocabulary:
            fix = did_you_mean(token, vocabulary, "name a token of its vocabulary")
            raise Refusal(f"the tokenizer has no token {token!r}", "--special_tokens", fix)
        tokenizer.add_special_tokens({role: token})
