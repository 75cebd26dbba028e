"""What the system says where writing failed."""

import errno
import os
import re
from collections.abc import Iterator

FREE_SPACE = "free some space, then run the same command: it goes on from the last checkpoint"
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG}


def disk_error(error: BaseException) -> str:
    """What the system says where writing failed, also through a library that passes it on in words, or that fails again
    while it tidies up; otherwise ""."""
    found = (_disk_error(one) for one in _chain(error))
    return next(filter(None, found), "")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and those that it followed from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _disk_error(error: BaseException) -> str:
    number = getattr(error, "errno", None)
    if found := re.search(r"\(os error (\d+)\)", str(error)):  # safetensors
        number = int(found[1])
    # torch.save, by which DeepSpeed and FSDP write their states, keeps the number for itself.
    if any(words in str(error) for words in ("PytorchStreamWriter failed", "iostream error")):
        number = errno.ENOSPC
    if re.fullmatch(r"\d+ requested and \d+ written", str(error)):  # numpy's tofile
        number = errno.ENOSPC
    return os.strerror(number) if number in DISK_ERRORS else ""
