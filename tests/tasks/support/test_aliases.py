"""A name means the dictionary that a pipeline uses now, with its history."""

from pathlib import Path

import catalog
from catalog.store import publish_rows
from tasks.support.aliases import alias_write, point_alias

NAME = "pico-a/blocks.2.resid_post/topk-x8-k16-s0"
OLD, NEW = f"{NAME}-00000000", f"{NAME}-11111111"


def meaning(root: Path) -> tuple[str, int]:
    with catalog.connect(root) as connection:
        query = "select dictionary_id, n_meanings from current_aliases where alias = ?"
        (row,) = connection.execute(query, [NAME]).fetchall()
    return row


def test_a_name_goes_back_to_the_dictionary_that_is_found_again(tmp_path: Path) -> None:
    for number, dictionary_id in enumerate((OLD, NEW)):
        publish_rows(tmp_path, [alias_write(NAME, dictionary_id)], fingerprint=f"{number:064x}")
    assert meaning(tmp_path) == (NEW, 2)
    assert point_alias(tmp_path, NAME, OLD)
    assert meaning(tmp_path) == (OLD, 3)
    assert not point_alias(tmp_path, NAME, OLD), "nothing is written when nothing changes"
    assert meaning(tmp_path) == (OLD, 3)


def test_a_name_that_nobody_has_is_left_alone(tmp_path: Path) -> None:
    assert not point_alias(tmp_path, NAME, OLD)
