"""What every format of the registry has to satisfy; a new one is tested without an edit here."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import save_file

from catalog.errors import UserError
from tasks.dictionaries.base import ARCHITECTURES, Dictionary, build_dictionary, dictionary_config
from tasks.foreign.assembly import assemble
from tasks.foreign.format import FORMATS, Format, Written, format_named, read_foreign

EVERY = pytest.mark.parametrize("name", FORMATS.names())
WRITERS = [name for name in FORMATS if FORMATS[name].write is not Format.write]


def nothing(folder: Path) -> Path:
    return folder / "nowhere"


def empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def text(folder: Path) -> Path:
    (folder / "notes.txt").write_text("these are notes")
    return folder / "notes.txt"


def other_tensors(folder: Path) -> Path:
    """A folder with the usual file names and none of the usual content."""
    other = folder / "other"
    other.mkdir()
    for name in ("sae_weights", "sae", "params", "model"):
        save_file({"wpe": torch.zeros(2, 2)}, other / f"{name}.safetensors")
    for name in ("cfg", "config"):
        (other / f"{name}.json").write_text("{}")
    return other


def written(architecture: str) -> Written:
    """A dictionary with random weights."""
    fields = {"architecture": architecture, "d_sae": 24, "n_tokens": 1}
    dictionary = build_dictionary(
        dictionary_config({**ARCHITECTURES[architecture].Config.example, **fields}), 8
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        dictionary.b_enc.copy_(torch.randn(24, generator=generator))
        dictionary.b_dec.copy_(torch.randn(8, generator=generator))
    places = ("blocks.1.mlp_in", "blocks.1.mlp_out")
    reads, writes = (places[:1], places[:1]) if dictionary.reconstructs_input else (places[:1], places[1:])
    return Written(dictionary.eval().requires_grad_(False), "pico-a", reads, writes, {})


@EVERY
@pytest.mark.parametrize("content", [nothing, empty, text, other_tensors])
def test_what_is_no_dictionary_is_refused_in_one_sentence(name: str, content: object, tmp_path: Path) -> None:
    assert callable(content)
    path = content(tmp_path)
    with pytest.raises(UserError) as refused:
        read_foreign(name, path)
    assert "\n" not in str(refused.value)
    assert str(path if content is not text else path.parent) in str(refused.value)


@EVERY
def test_a_format_writes_what_it_reads_or_says_that_it_does_not_write(name: str, tmp_path: Path) -> None:
    if name not in WRITERS:
        with pytest.raises(UserError, match="is read but not written; formats that are written"):
            format_named(name).write(written("topk"), tmp_path / "folder")
        assert not (tmp_path / "folder").exists()
        return
    x_ND = torch.randn(20, 8, generator=torch.Generator().manual_seed(3))
    n_written = 0
    for architecture in ("topk", "transcoder"):
        ours, folder = written(architecture), tmp_path / architecture / "layers.1.mlp"
        try:
            format_named(name).write(ours, folder)
        except UserError:
            assert not folder.exists()
            continue
        n_written += 1
        again = assemble(read_foreign(name, folder))
        torch.testing.assert_close(again(x_ND), ours.dictionary(x_ND), rtol=1e-5, atol=1e-5)
    assert n_written


def says_none(base: type[Dictionary]) -> bool:
    """Whether the class states that SAELens lacks it, whatever its settings are."""
    try:
        return base.saelens(cast(Any, None)) is None
    except AttributeError:
        return False


@pytest.mark.parametrize("architecture", ARCHITECTURES.names())
def test_no_architecture_that_encodes_otherwise_keeps_the_form_of_its_base(architecture: str) -> None:
    bases = ARCHITECTURES[architecture].__mro__
    states = next(number for number, base in enumerate(bases) if "saelens" in vars(base))
    encodes = next(number for number, base in enumerate(bases) if "encode" in vars(base))
    assert says_none(bases[states]) or states <= encodes, (
        f"{bases[encodes].__name__} encodes in its own way: state its saelens()"
    )
