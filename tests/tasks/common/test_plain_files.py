"""Files that somebody else wrote: plain values or one sentence, whatever is in them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from catalog.errors import UserError
from tasks.common.plain_files import LARGEST_BYTES, parse_yaml, read_json_object, read_toml, read_yaml
from tests.searching import examples

PIECES = (
    "a",
    "k",
    "b: 1",
    ":",
    " ",
    "\n",
    "\t",
    "[",
    "]",
    "{",
    "}",
    '"',
    "'",
    ",",
    "&x ",
    "*x",
    "<<: ",
    "? ",
    "!!",
)
PIECES += (
    "!!set",
    "!!int ''",
    "!!float x",
    "!!binary",
    "!!timestamp 2020-01-01",
    "2024-13-45",
    "- ",
    "# ",
    "%",
    "\\",
    "|",
)
PIECES += (
    "1e9999",
    "NaN",
    "0x",
    "9" * 40,
    "9" * 5_000,
    "[" * 3_000,
    "{" * 3_000,
    "\x00",
    "\ufeff",
    "\u2028",
    "\ud800",
    "---\n",
    "...",
)
texts = st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(max_size=60)


def readers(path: Path) -> list[Callable[[], Any]]:
    return [lambda: read_yaml(path), lambda: read_json_object(path, "look at it"), lambda: read_toml(path)]


def said_by(read: Callable[[], Any]) -> str:
    """What the user is told; a dot where the file is read."""
    try:
        read()
    except UserError as error:
        return str(error)
    return "."


@given(text=texts)
@example(text="a: !!int ''")
@example(text="a: &x [*x]")
@example(text="? {a: 1}\n: 2")
@settings(
    max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_text_is_a_value_or_one_sentence(text: str, tmp_path: Path) -> None:
    path = tmp_path / "any"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    for read in (lambda: parse_yaml(text, "it"), *readers(path)):
        assert len(said_by(read).splitlines()) == 1


@given(content=st.binary(max_size=80))
@settings(
    max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_bytes_are_a_value_or_one_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "any"
    path.write_bytes(content)
    for read in readers(path):
        assert len(said_by(read).splitlines()) == 1


@pytest.mark.parametrize("name", ["none", ".", "x" * 300, "nul\x00"])
def test_a_file_that_cannot_be_opened_is_one_sentence(name: str, tmp_path: Path) -> None:
    for read in readers(tmp_path / name):
        with pytest.raises(UserError, match="cannot be read"):
            read()


def test_a_file_larger_than_a_configuration_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b" " * (LARGEST_BYTES + 1))
    for read in readers(path):
        with pytest.raises(UserError, match="larger than a configuration"):
            read()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("score: 1\nname: x\nscore: 2", "line 3 writes 'score' a second time"),
        ("a: {b: 1, b: 2}", "writes 'b' a second time"),
        (f"a: {2**63}", "larger than 64 bits"),
        ("[" * 70 + "]" * 70, "nested too deeply"),
        ("a: !!set {x}", "of the type set"),
    ],
)
def test_yaml_that_means_something_else_is_refused(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_yaml(text, "the file")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2024-01-01", "2024-01-01"),
        ("12:30", "12:30"),
        ("1e-4", 1e-4),
        ("2.5E+3", 2500.0),
        ("-7", -7),
        ("0x1f", 31),
        ("010", "010"),
        ("yes", True),
        ("~", None),
        (str(2**63 - 1), 2**63 - 1),
    ],
)
def test_yaml_scalars(text: str, value: object) -> None:
    assert parse_yaml(text, "it") == value


def test_a_merged_mapping_may_be_overridden() -> None:
    assert parse_yaml("x: &x {a: 1, b: 2}\ny: {<<: *x, a: 3}", "it")["y"] == {"a": 3, "b": 2}


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    path = tmp_path / "marked"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json_object(path, "") == read_yaml(path) == {"a": 1}
    path.write_bytes(b"\xef\xbb\xbfa = 1")
    assert read_toml(path) == {"a": 1}


def test_json_keeps_large_numbers_and_refuses_a_key_that_stands_twice(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"model_max_length": 1000000000000000019884624838656}')
    assert read_json_object(path, "")["model_max_length"] > 2**63
    path.write_text('{"k": 1, "k": 2}')
    with pytest.raises(UserError, match="'k' occurs twice"):
        read_json_object(path, "fetch it again")
