"""Paths that a user wrote: a path, or one sentence that names the fault."""

from collections.abc import Callable
from pathlib import Path

import pytest

from catalog.errors import UserError
from flows.boundary import one_line
from flows.config import pipeline_path
from flows.import_request import import_request
from tasks.activations.corpora.columns import files_of
from tasks.activations.models.adapters import read_adapter
from tasks.activations.models.source import ModelConfig, model_folder
from tasks.common.paths import user_path

READERS: dict[str, Callable[[str], object]] = {
    "path": user_path,
    "model": lambda text: model_folder(ModelConfig(id="m", source="local", path=text)),
    "adapter": read_adapter,
    "corpus files": files_of,
    "import": lambda text: import_request("saelens", text, "demo", "pico-a", "", "", [], [], False),
    "pipeline": lambda text: pipeline_path(f"{text}.yaml"),
}


@pytest.mark.parametrize("text", ["nul\0", "~nobody-of-this-name/x", "x" * 300, "a/" + "x" * 5_000, "\ud800"])
@pytest.mark.parametrize("reader", READERS)
def test_a_path_that_cannot_be_is_one_sentence(reader: str, text: str) -> None:
    if (reader, text) == ("path", "\ud800"):
        assert not user_path(text).exists()
        return
    with pytest.raises(UserError) as refused:
        READERS[reader](text)
    assert len(one_line(refused.value).splitlines()) == 1


def test_a_path_keeps_its_words(tmp_path: Path) -> None:
    assert user_path(str(tmp_path / "a b*[c]")) == tmp_path / "a b*[c]"
    assert user_path("~") == Path.home()
