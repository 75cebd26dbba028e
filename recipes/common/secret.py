"""Access tokens stand in no file, in no line that is printed, and in no command line of a process that is started."""

SECRETS = {"token", "hub_token"}  # flags
VARIABLE = "HF_TOKEN"  # where huggingface_hub looks for a token that no flag gives
HIDDEN = "<secret>"


def masked(words: list[str]) -> list[str]:
    """The words of a command line with the values of tokens replaced."""
    shown = list(words)
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
