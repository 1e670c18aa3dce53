"""``featlas import`` and ``export``: a user's mistake is one sentence, before a server starts."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from catalog.errors import UserError
from flows.cli import main
from flows.import_request import import_request

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "formats"
TOPK = str(GOLDEN / "saelens" / "topk")
PICKLED = str(GOLDEN / "dictionary_learning" / "topk")


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["import", "saelenz", TOPK], "there is no format 'saelenz'; formats are circuit_tracer, crosscoder"),
        (["import", "saelens", "nowhere"], "does not exist"),
        (["import", "saelens", TOPK, "--model", "gpt9"], "there is no model 'gpt9' in pipeline 'demo'"),
        (
            ["import", "saelens", TOPK, "--model", "pico-a", "--model", "pico-b"],
            "belongs to one model, not to",
        ),
        (["import", "saelens", TOPK, "--pipeline", "dmeo"], "there is no pipeline 'dmeo'"),
        (["import", "saelens", TOPK, "--hookpoint", "a,b,c"], "not of the form READ or READ,WRITTEN"),
        (["import", "saelens", TOPK, "--set", "kk=3"], "unknown field 'kk'; known: activation, k"),
        (["import", "saelens", TOPK, "--set", "k"], "is not of the form NAME=VALUE"),
        (["import", "saelens", TOPK, "--set", "k=99"], "needs k between 1 and 24"),
        (["import", "saelens", TOPK, "--name", "a b"], "is not a valid name"),
        (["import", "dictionary_learning", PICKLED], "pass --unsafe-allow-pickle if you trust"),
        (["export", "gemma", "x", "out"], "there is no format 'gemma' to write"),
        (["export", "saelens", "nobody", "out"], "there is no dictionary 'nobody'"),
    ],
)
def test_a_users_mistake_is_one_sentence(
    arguments: list[str],
    fragment: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEATLAS_CATALOG", str(tmp_path / "none"))
    monkeypatch.setattr(sys, "argv", ["featlas", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr()
    assert (end.value.code, said.out) == (2, "")
    assert said.err.startswith("featlas: ")
    assert fragment in said.err
    assert said.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("models", "fragment"),
    [
        ("", "--model is needed with pipeline 'demo'; its models are pico-a, pico-b"),
        ("pico-a", "reads 3 hookpoints, but 1 are named: pass --hookpoint READ+READ"),
        ("pico-a+pico-b", "but 1 of each of 2 models are named: pass"),
        ("pico-a+gpt9", "there is no model 'gpt9'"),
        ("pico-a+pico-a", "one model or two different ones, not pico-a and pico-a"),
    ],
)
def test_a_crosscoder_says_which_models_and_hookpoints_it_lacks(
    models: str, fragment: str, tmp_path: Path
) -> None:
    """Weights of three hookpoints: neither one of each of two models, nor one of one model."""
    weights = {"W_enc": torch.ones(3, 4, 8), "W_dec": torch.ones(8, 3, 4)}
    save_file({**weights, "b_enc": torch.ones(8), "b_dec": torch.ones(3, 4)}, tmp_path / "cc.safetensors")
    path, place = str(tmp_path / "cc.safetensors"), "blocks.2.resid_post"
    with pytest.raises(UserError) as refused:
        import_request("crosscoder", path, "demo", models, place, "", [], [], False)
    assert fragment in str(refused.value)
    assert "\n" not in str(refused.value)
