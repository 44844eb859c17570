"""What the operating system refuses, said so that somebody can act on it."""

from __future__ import annotations

import errno

# What stays refused whoever asks again: the words have to change, not the machine.
REFUSED = {
    errno.EACCES: "give a place that you may use, or have its owner let you in",
    errno.EISDIR: "that is a folder; give the name of a file",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENOTDIR: "a file stands where a folder should be; give another place",
    errno.EPERM: "give a place that you may use, or have its owner let you in",
    errno.EROFS: "the disk is read-only; give another place",
}
FULL = "make room and type the same command again, or give --out another disk"
FAILED = {
    errno.EDQUOT: f"your share of the disk is used up: {FULL}",
    errno.EMFILE: "too many files are open: raise `ulimit -n`",
    errno.ENOSPC: f"the disk is full: {FULL}",
}


def told(error: OSError) -> str:
    """Name the file, the reason and what to do."""
    code = error.errno or 0
    advice = REFUSED.get(code) or FAILED.get(code) or "look at the disk, then try again"
    return f"{error.filename or 'a file'}: {error.strerror or error}: {advice}"


def exit_status(error: OSError) -> int:
    """Give 2 where what was typed has to change, else 1."""
    return 2 if error.errno in REFUSED else 1
