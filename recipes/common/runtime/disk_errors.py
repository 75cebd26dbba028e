"""Recognises errors of the disk: it is full, its quota is reached, or it is read-only."""

import errno
import os
import re

FREE_SPACE = "free some space, then run the same command: it continues from the last checkpoint"
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG}


def disk_error(error: BaseException) -> str:
    """Returns the system's words for a failed write, or "" where the error is another one.

    Looks at the errors before this one, too: a library may pass on the system's words as its own
    error, or fail again while it cleans up.
    """
    current: BaseException | None = error
    while current is not None:
        words = _system_words(current)
        if words:
            return words
        current = current.__cause__ or current.__context__
    return ""


def _system_words(error: BaseException) -> str:
    text = str(error)
    number = getattr(error, "errno", None)
    in_text = re.search(r"\(os error (\d+)\)", text)  # safetensors
    if in_text:
        number = int(in_text[1])
    # torch.save does not pass the number on. DeepSpeed and FSDP write their states with it.
    if "PytorchStreamWriter failed" in text or "iostream error" in text:
        number = errno.ENOSPC
    if re.fullmatch(r"\d+ requested and \d+ written", text):  # numpy's tofile
        number = errno.ENOSPC
    if number not in DISK_ERRORS:
        return ""
    return os.strerror(number)
