"""Files that are damaged or meant to harm: one sentence, nothing executed, little memory taken."""

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from catalog.errors import UserError
from tasks.foreign.format import read_foreign
from tasks.foreign.tensor_files import UNSAFE_FLAG, read_stored

GOLDEN = Path(__file__).parents[2] / "golden" / "formats" / "saelens" / "topk"
WEIGHTS = "sae_weights.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good SAELens folder, to be damaged."""
    for name in ("cfg.json", WEIGHTS):
        (tmp_path / name).write_bytes((GOLDEN / name).read_bytes())
    return tmp_path


def with_header(header: dict[str, object], content: bytes = b"") -> bytes:
    """A safetensors file that claims whatever it likes."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content


def tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    known = load_file(folder / WEIGHTS)
    change(known)
    save_file({name: tensor.contiguous() for name, tensor in known.items()}, folder / WEIGHTS)


def config(folder: Path, **changes: object) -> None:
    known = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps({**known, **changes}))


def whitening(folder: Path, **changes: torch.Tensor | None) -> None:
    """A checkpoint of whitened inputs, whose whitening is damaged."""
    good = load_file(GOLDEN.parent / "checkpoint-whitened" / "activation_whitening.safetensors")
    damaged = {name: tensor for name, tensor in {**good, **changes}.items() if tensor is not None}
    save_file(damaged, folder / "activation_whitening.safetensors")
    (folder / "activation_scaler.json").write_text('{"scaling_factor": null, "has_whitening": true}')


def huge(_: Path) -> bytes:
    entry = {"dtype": "F32", "shape": [2**20, 2**20], "data_offsets": [0, 2**42]}
    return with_header({"W_enc": entry}, b"\0" * 64)


DAMAGED: dict[str, tuple[str, Callable[[Path], object]]] = {
    "truncated": (
        "is damaged",
        lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100]),
    ),
    "bad header": ("is damaged", lambda folder: (folder / WEIGHTS).write_bytes(b"\xff" * 64)),
    "header longer than the file": (
        "is damaged",
        lambda folder: (folder / WEIGHTS).write_bytes(struct.pack("<Q", 2**62) + b"{}"),
    ),
    "huge shape": ("is damaged", lambda folder: (folder / WEIGHTS).write_bytes(huge(folder))),
    "empty file": ("is damaged", lambda folder: (folder / WEIGHTS).write_bytes(b"")),
    "no weights": ("does not exist", lambda folder: (folder / WEIGHTS).unlink()),
    "no configuration": ("cannot be read", lambda folder: (folder / "cfg.json").unlink()),
    "not JSON": ("is not valid JSON", lambda folder: (folder / "cfg.json").write_text("{")),
    "deep JSON": ("is nested too deeply", lambda folder: (folder / "cfg.json").write_text("[" * 100_000)),
    "a list": ("is not a JSON object", lambda folder: (folder / "cfg.json").write_text("[]")),
    "NaN": ("NaN or infinite", lambda folder: tensors(folder, lambda t: t["W_dec"][3].fill_(torch.nan))),
    "infinite": ("NaN or infinite", lambda folder: tensors(folder, lambda t: t["b_enc"].fill_(torch.inf))),
    "missing tensor": ("has no W_enc", lambda folder: tensors(folder, lambda t: t.pop("W_enc"))),
    "transposed": (
        "pass --set decoder=transposed",
        lambda folder: tensors(folder, lambda t: t.update(W_dec=t["W_dec"].T)),
    ),
    "other widths": (
        "do not belong together",
        lambda folder: tensors(folder, lambda t: t.update(W_dec=t["W_dec"][:, :5])),
    ),
    "short bias": (
        r"b_enc has the shape \(3,\), not \(24,\)",
        lambda folder: tensors(folder, lambda t: t.update(b_enc=t["b_enc"][:3])),
    ),
    "flat matrix": ("not \\(rows, columns\\)", lambda f: tensors(f, lambda t: t.update(W_enc=torch.ones(4)))),
    "no k": ("needs k between 1 and 24", lambda folder: config(folder, k=None)),
    "k too large": ("needs k between 1 and 24", lambda folder: config(folder, k=25)),
    "unheard of": ("cannot read the architecture 'unheard'", lambda f: config(f, architecture="unheard")),
    "whitened": (
        "activation_whitening.safetensors, which says how, is not there",
        lambda folder: config(folder, normalize_activations="covariance_whitening"),
    ),
    "whitened otherwise": (
        r"its whitening has an array of \(5,\) in place of \(8,\)",
        lambda folder: whitening(folder, mean=torch.ones(5)),
    ),
    "half a whitening": ("has no inverse_matrix", lambda folder: whitening(folder, inverse_matrix=None)),
}


@pytest.mark.parametrize("fault", DAMAGED)
def test_a_damaged_folder_is_refused_in_one_sentence(fault: str, folder: Path) -> None:
    reason, damage = DAMAGED[fault]
    damage(folder)
    with pytest.raises(UserError, match=reason) as raised:
        read_foreign("saelens", folder)
    assert str(folder) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"k": 5, "activation": "groupmax"}, "24 latents do not fall into k = 5 equal groups"),
        ({"activation": "softmax"}, "the activation 'softmax'; it reads topk, groupmax"),
        ({"transcode": False}, "an autoencoder with a linear path past its latents is not known"),
    ],
)
def test_a_damaged_sparse_coder_is_refused(changes: dict[str, object], reason: str, tmp_path: Path) -> None:
    shutil.copytree(GOLDEN.parents[1] / "sparsify" / "layers.2.mlp", tmp_path / "layers.2.mlp")
    config(tmp_path / "layers.2.mlp", **changes)
    with pytest.raises(UserError, match=reason):
        read_foreign("sparsify", tmp_path / "layers.2.mlp")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("model_kind: [", "is not valid YAML"),
        ("- 1", "is not a YAML mapping"),
        ("model_kind: cross_layer_transcoder", "is of a cross-layer transcoder"),
        ("!!python/object/apply:os.system ['true']", "is not valid YAML"),
    ],
)
def test_a_damaged_set_of_transcoders_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    shutil.copytree(GOLDEN.parents[1] / "circuit_tracer" / "jumprelu", tmp_path / "set")
    (tmp_path / "set" / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=reason) as raised:
        read_foreign("circuit_tracer", tmp_path / "set")
    assert "\n" not in str(raised.value)


def test_a_configuration_that_contains_itself_is_refused(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN.parents[1] / "circuit_tracer" / "jumprelu", tmp_path / "set")
    (tmp_path / "set" / "config.yaml").write_text("scan: set\nmodel_name: &a [*a]\n")
    with pytest.raises(UserError, match="refer to themselves"):
        read_foreign("circuit_tracer", tmp_path / "set")


SHAPES: list[tuple[int, ...]] = [(), (0,), (3,), (24, 24), (8, 24, 2)]


@pytest.mark.parametrize("case", ["saelens/old-standard", "saelens/gated-uncentred", "sparsify/layers.2"])
def test_a_tensor_of_any_other_shape_is_refused(case: str, tmp_path: Path) -> None:
    source = GOLDEN.parents[1] / case
    (weights,) = (path for path in source.glob("sae*.safetensors"))
    (tmp_path / "cfg.json").write_bytes((source / "cfg.json").read_bytes())
    known = load_file(weights)
    for name in known:
        for shape in SHAPES:
            save_file({**known, name: torch.ones(shape)}, tmp_path / weights.name)
            if tuple(known[name].shape) != shape and not (name == "scaling_factor" and shape == ()):
                with pytest.raises(UserError):
                    read_foreign(case.split("/")[0], tmp_path)


def test_an_index_may_not_lead_out_of_its_folder(folder: Path) -> None:
    weights = folder / WEIGHTS
    weights.rename(folder / "part-1.safetensors")
    index = folder / f"{WEIGHTS}.index.json"
    index.write_text(json.dumps({"weight_map": {"W_enc": "part-1.safetensors"}}))
    assert read_foreign("saelens", folder).d_sae == 24
    for name in ("../secret.safetensors", "/etc/passwd", "sub/part.safetensors", "part-1.pt"):
        index.write_text(json.dumps({"weight_map": {"W_enc": name}}))
        with pytest.raises(UserError, match="names the invalid file"):
            read_foreign("saelens", folder)
    index.write_text(json.dumps({"weight_map": {"W_enc": "part-2.safetensors"}}))
    with pytest.raises(UserError, match="is missing"):
        read_foreign("saelens", folder)


def npz(path: Path, header: dict[str, object], content: bytes) -> None:
    """An ``.npz`` with one array whose header claims what it likes."""
    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(array, header)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("W_enc.npy", array.getvalue() + content)


@pytest.mark.parametrize(
    ("header", "content", "reason"),
    [
        (
            {"descr": "<f4", "fortran_order": False, "shape": (2**18, 2**18)},
            b"\0" * 64,
            "more than a dictionary",
        ),
        (
            {"descr": "<f4", "fortran_order": False, "shape": (2**14, 2**14)},
            b"\0" * 64,
            "size that its header",
        ),
        ({"descr": "|O", "fortran_order": False, "shape": (4,)}, b"\0" * 64, "pickled objects"),
    ],
)
def test_an_array_that_lies_is_refused_before_memory_is_taken(
    header: dict[str, object], content: bytes, reason: str, tmp_path: Path
) -> None:
    npz(tmp_path / "params.npz", header, content)
    with pytest.raises(UserError, match=reason) as raised:
        read_foreign("gemma_scope", tmp_path)
    assert "\n" not in str(raised.value)


def test_an_archive_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "params.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(UserError, match="is damaged"):
        read_foreign("gemma_scope", tmp_path)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_a_pickle_is_opened_by_flag_alone_and_runs_nothing(tmp_path: Path) -> None:
    sprung, path = tmp_path / "sprung", tmp_path / "ae.pt"
    path.write_bytes(pickle.dumps({"encoder.weight": Trap(sprung)}))
    with pytest.raises(UserError, match=f"pass {UNSAFE_FLAG} if you trust"):
        read_stored(path)
    with pytest.raises(UserError, match="does not hold plain tensors") as raised:
        read_stored(path, allow_pickle=True)
    assert "\n" not in str(raised.value)
    assert not sprung.exists()


def test_an_unknown_format_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="formats are circuit_tracer, crosscoder, dictionary_learning"):
        read_foreign("saelenz", tmp_path)
