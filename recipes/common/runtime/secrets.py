"""Access tokens, and passwords in addresses, stand in no file and in no line that is printed."""

import re
from typing import Any

SECRETS = {"token", "hub_token"}  # flags
VARIABLE = "HF_TOKEN"  # where huggingface_hub looks for a token that no flag gives
HIDDEN = "<secret>"
# https://user:password@host (of a path one slash is left), s3://key:se/cret@bucket, ?token=…, a token of the Hub.
ACCESS = re.compile(
    r"([a-z][a-z0-9+.-]*:/{1,2})(?:[^\s/'\"]*@|[^\s/:@'\"]*:(?!\d+/)[^\s@'\"]*@)", re.IGNORECASE
)
NAMES = (
    r"[\w.-]*(?:token|secret|passw|pwd|signature|credential|api_?key|access_?key)[\w.-]*|sig|key"
)
QUERY = re.compile(rf"([?&](?:{NAMES})=)[^&\s'\"]+", re.IGNORECASE)
HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{20,}")


def without_passwords(value: Any) -> Any:
    """The text, or the texts in a list or in values, with what opens an address replaced; all else as it is."""
    if isinstance(value, list):
        return [without_passwords(item) for item in value]
    if isinstance(value, dict):
        return {key: without_passwords(item) for key, item in value.items()}
    if not isinstance(value, str):
        return value
    shown = QUERY.sub(rf"\g<1>{HIDDEN}", ACCESS.sub(rf"\g<1>{HIDDEN}@", value))
    return HUB_TOKEN.sub(HIDDEN, shown)


def masked(words: list[str]) -> list[str]:
    """The words of a command line with tokens, and passwords in addresses, replaced."""
    shown = without_passwords(list(words))
    for position, _ in _values(words):
        flag, equals, _ = words[position].partition("=")
        shown[position] = f"{flag}={HIDDEN}" if equals and flag.startswith("--") else HIDDEN
    return shown


def taken_out(words: list[str]) -> tuple[list[str], str]:
    """The words without the flags that give a token, and the token: the last one given, or an empty string."""
    left_out, token = set(), ""
    for position, value in _values(words):
        token = value
        left_out |= {position} if words[position].startswith("--") else {position - 1, position}
    return [word for position, word in enumerate(words) if position not in left_out], token


def _values(words: list[str]) -> list[tuple[int, str]]:
    """Where the words hold a token, and the token; a flag may be shortened, as argparse allows."""
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
    return any(name == flag or (name.startswith(flag) and len(flag) > 2) for name in SECRETS)
