"""Any sequence of commits leaves the same rows as the plain store of ``manifest_store.py``."""

import re
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.connection import connect
from catalog.schemas import TABLES
from catalog.slices import SliceWrite
from catalog.store import TableStore
from tests.searching import examples

NAMES = ("features", "dictionaries", "explanations", "runs")
operations = st.lists(
    st.one_of(
        st.tuples(
            st.just("publish"),
            st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True),
            st.integers(0, 2),
            st.integers(0, 3),
        ),
        st.tuples(st.just("compact")),
        st.tuples(st.just("restore"), st.integers(0, 5)),
        st.tuples(st.just("vacuum")),
    ),
    min_size=1,
    max_size=6,
)


def write(small: ModuleType, name: str, subject: int, number: int) -> SliceWrite:
    dictionary = f"pico-{subject}/h/topk-{subject:08x}"
    tables = {
        "features": lambda: small.features(number, n=number, dictionary_id=dictionary),
        "dictionaries": lambda: small.dictionary(dictionary, d_sae=number + 1),
        "explanations": lambda: small.explanations(number, n=3, dictionary_id=dictionary),
        "runs": lambda: small.run(f"r{subject}", "completed", summary=str(number)),
    }
    return SliceWrite(name, dictionary, tables[name]())


def rows(store: TableStore, name: str) -> list[dict[str, Any]]:
    key = ", ".join(TABLES[name].key)
    with connect(store.root) as connection:
        found: list[dict[str, Any]] = (
            connection.sql(f"select * from {name} order by {key}").to_arrow_table().to_pylist()
        )
    return found


@settings(
    max_examples=examples(8),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(operations)
def test_same_rows_as_the_plain_store(
    small: ModuleType, manifest_store: ModuleType, steps: list[tuple[Any, ...]]
) -> None:
    with tempfile.TemporaryDirectory() as folder, mock.patch("catalog.changes.MERGE_AT", 3):
        store = TableStore(Path(folder) / "real")
        plain = manifest_store.ManifestStore(Path(folder) / "plain")
        twin = {0: 0}
        for step in steps:
            if step[0] == "publish":
                _, names, subject, number = step
                writes = [write(small, name, subject, number) for name in names]
                fingerprint = f"{subject}-{number}"
                real = store.publish(writes, fingerprint=fingerprint).version
                twin[real] = plain.publish(writes, fingerprint)
            elif step[0] == "restore":
                versions = sorted(twin)
                wanted = versions[step[1] % len(versions)]
                if wanted:
                    real = store.restore(wanted).version
                    twin[real] = plain.version() if real == wanted else plain.restore(twin[wanted])
            elif step[0] == "compact":
                twin[store.compact().version] = plain.version()
            else:
                store.vacuum(keep_versions=100, older_than_seconds=-1)
            for name in NAMES:
                assert rows(store, name) == plain.rows(name)
        orphans = re.compile(r"\d+ rows name \w+ '[^']+', which is not in \w+$|_blobs")
        assert [fault for fault in store.verify() if not orphans.search(fault)] == []
