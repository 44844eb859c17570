"""Weights that others publish: where a file is, how it is known, and whose it is.

Nothing is downloaded here. A file is known by its hash: the first digits, where its publisher puts
those into its name, or all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loupe_models.bundle import file_sha256
from loupe_trainer.errors import WeightsError

NOBODY_SAYS = "NOASSERTION"  # SPDX's word for a licence that is not told
SAY_LICENCE = (
    f"say their licence with --set licence=NAME (in a recipe: licence): its SPDX name, or "
    f"{NOBODY_SAYS} where nobody knows"
)
PLACE = Path("weights")


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """One file that can be fetched.

    Attributes:
        name: What it holds; told in the origin of what learns from it.
        file: Its name.
        url: Its address, or that of the archive it lies in.
        sha256: Of the file, at least 8 digits.
        licence: SPDX name.
    """

    name: str
    file: str
    url: str
    sha256: str
    licence: str

    def how_to_fetch(self, place: Path | None = None) -> str:
        """Say what to fetch, from where, with which hash, and where to put it."""
        digits = "sha256" if len(self.sha256) == 64 else "sha256 begins with"
        known, put = f"({digits} {self.sha256})", place or PLACE / self.file
        if self.url.endswith(f"/{self.file}"):
            return f"{self.url} {known} to {put}"
        return f"{self.file} {known} out of {self.url} to {put}"


@dataclass(frozen=True, slots=True)
class Whose:
    """Whose weights a file holds.

    Attributes:
        name: With its version.
        licence: SPDX name.
        sha256: Of the file; None where there is none.
    """

    name: str
    licence: str
    sha256: str | None


def tell_whose(
    file: Path, what: str, published: Sequence[PublishedFile], licence: str | None = None
) -> Whose:
    """Tell whose weights a file holds.

    Args:
        file: Any file.
        what: The network, in the name of a file that is not known.
        published: The files that are known.
        licence: The user's word on it, which wins.

    Raises:
        WeightsError: Cannot be read, or the file is not known and nobody says its licence.
    """
    try:
        sha256 = file_sha256(file)
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read ({error.strerror})") from error
    for known in published:
        if sha256.startswith(known.sha256):
            return Whose(known.name, licence or known.licence, sha256)
    return Whose(f"{what}, {file.name}", licence or _ask(file, sha256, published), sha256)


def fetch(published: Sequence[PublishedFile], place: Path | None = None) -> str:
    """Say what to fetch where there is a choice of files; a place's name may say which."""
    meant = [known for known in published if place is not None and known.file == place.name]
    return "fetch " + ", or ".join(known.how_to_fetch(place) for known in meant or published)


def _ask(file: Path, sha256: str, published: Sequence[PublishedFile]) -> str:
    known = ", ".join(f"{p.file} ({p.sha256[:8]}…)" for p in published)
    raise WeightsError(
        f"{file}: its sha256 {sha256[:8]}… is not that of {known}. If it should be, fetch it "
        f"again; if these are other weights, {SAY_LICENCE}"
    )
