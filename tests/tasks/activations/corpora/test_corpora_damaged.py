"""Corpora that are damaged, odd or not what they seem: read as they stand, or one sentence."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from catalog.errors import UserError
from flows.boundary import one_line
from tasks.activations.corpora import CorpusConfig, CorpusTable, corpus_table
from tests.searching import examples

ADAPTER: TypeAdapter[CorpusConfig] = TypeAdapter(CorpusConfig)
BOUNDED = settings(
    max_examples=examples(80), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
TEXTS = [f"Document {i} tells of {'rain ' * (i % 9)}and nothing else." for i in range(60)]


def read(**config: object) -> CorpusTable:
    return corpus_table(ADAPTER.validate_python({"near_duplicates": None, **config}), 0.1)


def told(**config: object) -> str:
    """What the user is told of a corpus; a dot where it is read."""
    try:
        read(**config)
    except UserError as error:
        return one_line(error)
    except ValidationError as error:
        return one_line(error)
    return "."


def parquet(path: Path, compression: str) -> Path:
    columns = {"text": TEXTS, "name": [f"d{i}" for i in range(60)], "topic": [f"t{i % 3}" for i in range(60)]}
    pq.write_table(pa.table(columns), path, compression=compression, row_group_size=20)
    return path


def flipped(content: bytes, place: float, bit: int) -> bytes:
    changed = bytearray(content)
    changed[int(place * (len(content) - 1))] ^= 1 << bit
    return bytes(changed)


@given(
    place=st.floats(0, 1),
    bit=st.integers(0, 7),
    cut=st.booleans(),
    compression=st.sampled_from(["none", "snappy", "zstd"]),
)
@example(place=0.001, bit=0, cut=False, compression="snappy")
@example(place=0.5, bit=3, cut=False, compression="none")
@BOUNDED
def test_parquet_with_a_flipped_bit_is_read_or_named(
    place: float, bit: int, cut: bool, compression: str, tmp_path: Path
) -> None:
    path = parquet(tmp_path / "texts.parquet", compression)
    content = path.read_bytes()
    path.write_bytes(content[: int(place * len(content))] if cut else flipped(content, place, bit))
    said = told(
        source="parquet", path=str(path), text_column="text", id_column="name", label_columns=["topic"]
    )
    assert said == "." or str(path) in said or "corpus" in said


def test_a_damaged_page_is_told_with_the_name_of_its_file(tmp_path: Path) -> None:
    for number in range(3):
        parquet(tmp_path / f"part-{number}.parquet", "snappy")
    path = tmp_path / "part-1.parquet"
    content = path.read_bytes()
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    path.write_bytes(
        content[:start]
        + b"\xff" * column.total_compressed_size
        + content[start + column.total_compressed_size :]
    )
    with pytest.raises(UserError, match=r"part-1\.parquet is damaged"):
        read(source="parquet", path=str(tmp_path), text_column="text")


def test_text_in_parquet_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    binary = pa.array([b"good", b"\xff\xfe bad"]).view(pa.string())
    pq.write_table(pa.table({"text": binary}), tmp_path / "x.parquet")
    with pytest.raises(UserError, match=r"x\.parquet is damaged"):
        read(source="parquet", path=str(tmp_path / "x.parquet"), text_column="text")


@pytest.mark.parametrize("role", ["text_column", "id_column", "label_columns"])
def test_two_columns_of_one_name_are_refused_where_one_is_read(role: str, tmp_path: Path) -> None:
    path = tmp_path / "double.parquet"
    arrays = [pa.array(["a", "b"]), pa.array(["c", "d"]), pa.array(["e", "f"])]
    pq.write_table(pa.Table.from_arrays(arrays, names=["text", "double", "double"]), path)
    config = {"text_column": "text", role: ["double"] if role == "label_columns" else "double"}
    assert "several columns named 'double'" in told(source="parquet", path=str(path), **config)
    assert told(source="parquet", path=str(path), text_column="text") == "."


@given(content=st.binary(max_size=60), blank_lines=st.booleans())
@BOUNDED
def test_any_bytes_as_text_are_kept_or_named(content: bytes, blank_lines: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    said = told(source="text", path=str(path), split_on_blank_lines=blank_lines)
    assert len(said.splitlines()) == 1
    if said == "." and not blank_lines:
        (text,) = read(source="text", path=str(path)).table["text"].to_pylist()
        assert text.encode() == content.removeprefix(b"\xef\xbb\xbf")


@given(ends=st.lists(st.sampled_from(["\n", "\r\n", "\r", "\u2028", "\x0b", "\x85"]), min_size=1, max_size=6))
@BOUNDED
def test_line_ends_are_kept(ends: list[str], tmp_path: Path) -> None:
    raw = "".join(f"line {i}{end}" for i, end in enumerate(ends))
    (tmp_path / "a.txt").write_bytes(raw.encode())
    assert read(source="text", path=str(tmp_path / "a.txt")).table["text"].to_pylist() == [raw]
    blocks = read(source="text", path=str(tmp_path / "a.txt"), split_on_blank_lines=True)
    assert "".join(blocks.table["text"].to_pylist()).replace("\r\n", "").strip("\r\n ")


LINES = [
    '{"text": "one"}',
    '{"text": "one", "text": "two"}',
    '{"text": 3}',
    '{"text": null}',
    '{"other": "x"}',
    "[1]",
    "3",
]
LINES += [
    '{"text": ["a"]}',
    '{"text": {"a": 1}}',
    "{",
    "",
    "\x00",
    '{"text": "\\ud800"}',
    '{"text": "\ufeff"}',
    "[" * 200,
    "9" * 400,
]


@given(lines=st.lists(st.sampled_from(LINES), max_size=4), suffix=st.sampled_from(["jsonl", "json", "csv"]))
@example(lines=['{"text": "one"}', '{"text": "one", "text": "two"}'], suffix="jsonl")
@settings(
    max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_data_files_of_any_content_are_read_or_named(
    lines: list[str], suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "data"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    (folder / f"a.{suffix}").write_text("\n".join(lines), encoding="utf-8")
    assert len(told(source="huggingface", dataset=str(folder), text_column="text").splitlines()) == 1


def test_conversations_of_any_form_are_one_sentence(tmp_path: Path) -> None:
    for number, messages in enumerate(
        (None, "x", 3, [], [3], [{"role": "user"}], [{"role": 1, "content": 2}])
    ):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"messages": pa.array([json.dumps(messages)])}), path)
        said = told(
            source="parquet",
            path=str(path),
            chat={"messages_column": "messages", "model": {"id": "pico-a", "source": "embedded"}},
        )
        assert said != "."
        assert len(said.splitlines()) == 1


@pytest.mark.parametrize("source", ["text", "parquet"])
@pytest.mark.parametrize(
    "path",
    ["x" * 300, "none", "~nobody-of-this-name/x", "a\0b", "", "**", "a**b*", "[", "[]"],
)
def test_a_path_that_cannot_be_is_one_sentence(
    source: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    columns = {"text_column": "text"} if source == "parquet" else {}
    said = told(source=source, path=path, **columns)
    assert said != "."
    assert len(said.splitlines()) == 1
