"""Which folders may hold a catalogue, and what the table log says when it cannot."""

import errno
from pathlib import Path

import pytest
from deltalake.exceptions import CommitFailedError, DeltaError

from catalog.delta_log import plain_errors
from catalog.errors import CatalogueError, UserError
from catalog.settings import catalogue_root


@pytest.mark.parametrize("name", ["feature%20x", "a*b", "what?", "x[1]", "%2e%2E"])
def test_a_folder_whose_name_an_engine_would_read_differently_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="choose another folder"):
        catalogue_root(tmp_path / name)


@pytest.mark.parametrize("name", ["100%", "a b", "ä", "50%off", "it's"])
def test_other_names_are_fine(tmp_path: Path, name: str) -> None:
    from catalog.delta_log import DeltaLog

    assert DeltaLog(catalogue_root(tmp_path / name), "models").ensure() == 0


COLOURED = "\x1b[31mGeneric LocalFileSystem error: Unable to copy\x1b[0m\n\nCaused by: {}"


def test_a_full_disk_is_the_systems_error(tmp_path: Path) -> None:
    for kind in (OSError, DeltaError, CommitFailedError):
        with pytest.raises(OSError, match="No space left on device") as caught, plain_errors(tmp_path):
            raise kind(COLOURED.format("No space left on device (os error 28)"))
        assert caught.value.errno == errno.ENOSPC


def test_anything_else_is_one_line_without_colours(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError) as caught, plain_errors(tmp_path):
        raise DeltaError(COLOURED.format("something"))
    assert str(caught.value) == f"{tmp_path}: Generic LocalFileSystem error: Unable to copy"
    with pytest.raises(CommitFailedError), plain_errors(tmp_path):
        raise CommitFailedError("another writer")
