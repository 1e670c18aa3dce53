"""Which featlas wrote a row: the distribution's version, with the commit where the source is a checkout."""

from functools import cache
from pathlib import Path

DISTRIBUTION = "featlas-platform"


@cache
def code_version() -> str:
    """For example ``0.1.0+3f2a91c`` in a checkout and ``0.1.0`` in an installation."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version(DISTRIBUTION)
    except PackageNotFoundError:
        number = "0"
    commit = _head_commit(Path(__file__).resolve().parent.parent / ".git")
    return f"{number}+{commit[:7]}" if commit else number


def _head_commit(git: Path) -> str | None:
    head = git / "HEAD"
    if not head.is_file():
        return None
    text = head.read_text().strip()
    if not text.startswith("ref: "):
        return text
    name = text.removeprefix("ref: ")
    reference = git / name
    if reference.is_file():
        return reference.read_text().strip()
    packed = git / "packed-refs"
    lines = packed.read_text().splitlines() if packed.is_file() else []
    return next((line.split()[0] for line in lines if line.endswith(f" {name}")), None)
