"""Hides access tokens, and passwords in addresses, in files and in all that is printed."""

import re
from typing import Any

SECRETS = {"token", "hub_token"}  # flags
VARIABLE = "HF_TOKEN"  # where huggingface_hub looks for a token that no flag gives
HIDDEN = "<secret>"
# https://user:password@host (pathlib leaves one slash of the two), s3://key:se/cret@bucket
ACCESS = re.compile(
    r"([a-z][a-z0-9+.-]*:/{1,2})(?:[^\s/'\"]*@|[^\s/:@'\"]*:(?!\d+/)[^\s@'\"]*@)", re.IGNORECASE
)
NAMES = (
    r"[\w.-]*(?:token|secret|passw|pwd|signature|credential|api_?key|access_?key)[\w.-]*|sig|key"
)
QUERY = re.compile(rf"([?&](?:{NAMES})=)[^&\s'\"]+", re.IGNORECASE)  # ?token=…
HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{20,}")


def without_passwords(value: Any) -> Any:
    """Replaces passwords and tokens in a text, or in the texts of a list or a dictionary.

    All other values stay as they are.
    """
    if isinstance(value, list):
        return list(map(without_passwords, value))
    if isinstance(value, dict):
        return {key: without_passwords(item) for key, item in value.items()}
    if not isinstance(value, str):
        return value
    shown = ACCESS.sub(rf"\g<1>{HIDDEN}@", value)
    shown = QUERY.sub(rf"\g<1>{HIDDEN}", shown)
    return HUB_TOKEN.sub(HIDDEN, shown)


def masked(words: list[str]) -> list[str]:
    """Returns the words of a command line with tokens, and passwords in addresses, replaced."""
    shown = without_passwords(words)
    for position, _ in _tokens(words):
        flag, equals, _ = words[position].partition("=")
        if equals and flag.startswith("--"):
            shown[position] = f"{flag}={HIDDEN}"
        else:
            shown[position] = HIDDEN
    return shown


def taken_out(words: list[str]) -> tuple[list[str], str]:
    """Returns the words without the flags that give a token, and the last token given, or ""."""
    left_out = set()
    token = ""
    for position, value in _tokens(words):
        token = value
        left_out.add(position)
        if not words[position].startswith("--"):  # the flag is the word before
            left_out.add(position - 1)
    return [word for position, word in enumerate(words) if position not in left_out], token


def _tokens(words: list[str]) -> list[tuple[int, str]]:
    """Returns the positions of words that hold a token, with the token.

    A flag may be shortened, as argparse allows.
    """
    found = []
    for position, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if not (word.startswith("--") and _is_secret(flag[2:].replace("-", "_"))):
            continue
        if equals:
            found.append((position, value))
        elif position + 1 < len(words) and not words[position + 1].startswith("--"):
            found.append((position + 1, words[position + 1]))
    return found


def _is_secret(flag: str) -> bool:
    if flag in SECRETS:
        return True
    return len(flag) > 2 and any(name.startswith(flag) for name in SECRETS)
