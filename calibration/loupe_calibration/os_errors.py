"""What the operating system refuses, as something a person can act on."""

from __future__ import annotations

import errno
from typing import Final

from loupe_calibration.errors import BadInputError, FaultError, LoupeError

# What is wrong with a name or place that the user gave: the same command elsewhere would work.
ADVICE: Final = {
    errno.ENOENT: "no such file or folder; give one that is there",
    errno.EEXIST: "exists already; name another place, or remove it",
    errno.ENOTDIR: "a file stands where a folder must be; name another place, or remove the file",
    errno.EISDIR: "a folder stands where a file must be; name another place, or remove the folder",
    errno.ENAMETOOLONG: "the name is too long for this disk; give a shorter one",
    errno.EACCES: "no permission; name another place, or change whose it is",
    errno.EPERM: "no permission; name another place, or change whose it is",
    errno.EROFS: "this disk can only be read; name another place",
}
DISK_IS_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def explained(error: OSError) -> LoupeError:
    """Say of an error which file it is about, and what to do."""
    where = f"{error.filename}: " if error.filename is not None else ""
    if error.errno in DISK_IS_FULL:
        full = error.filename2 or error.filename  # of a copy, it is the target's disk
        where = f"{full}: " if full is not None else ""
        return FaultError(f"{where}the disk is full; free some space, or name another place")
    if where and error.errno in ADVICE:
        return BadInputError(f"{where}{ADVICE[error.errno]}")
    return FaultError(f"{where}{error.strerror or error}")
