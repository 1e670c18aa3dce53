"""The gate: a dictionary that is used as it was made passes; every way to misread it is caught and named."""

import json
from collections.abc import Callable

import pytest
import torch

from catalog.errors import UserError
from tasks.activations.models.language_model import LanguageModel
from tasks.activations.reading.shards import ActivationSet
from tasks.foreign.alternatives import read_as
from tasks.foreign.assembly import assemble
from tasks.foreign.certificate import Certificate, refuse_unverified
from tasks.foreign.gate import GateConfig, examine
from tasks.foreign.reading import ReadingConfig
from tasks.foreign.record import Foreign
from tasks.foreign.sample import Hookpoints, Sample, gather_sample

HOOKPOINTS = Hookpoints.of(("blocks.1.resid_post",))
CONFIG = GateConfig(n_tokens=2_000, n_quick_tokens=1_000)


def gate(
    foreign: Foreign, sample: Sample, hookpoints: Hookpoints = HOOKPOINTS, **reading: object
) -> Certificate:
    return examine(foreign, ReadingConfig(**reading), hookpoints, sample, CONFIG)


@pytest.mark.parametrize(("architecture", "d_sae"), [("topk", 512), ("topk", 128), ("batch_topk", 256)])
def test_a_dictionary_as_it_was_made_is_verified(
    architecture: str, d_sae: int, trained: Callable[..., Foreign], sample: Sample
) -> None:
    certificate = gate(trained(architecture, d_sae), sample)
    assert certificate.verified, certificate
    assert certificate.figures.fvu < 0.5
    assert certificate.random_fvu is not None
    assert certificate.figures.fvu < certificate.random_fvu
    assert 1 <= certificate.figures.l0 <= 12
    refuse_unverified("file", certificate)


def scaled(foreign: Foreign, sample: Sample) -> Foreign:
    """As saved by a tool that normalised its inputs and did not fold the factor in."""
    x = sample.inputs(HOOKPOINTS)
    factor = float(x.shape[1] ** 0.5 / x.norm(dim=1).mean())
    return foreign.with_(
        W_enc=foreign.W_enc / factor, W_dec=foreign.W_dec * factor, b_dec=foreign.b_dec * factor
    )


def test_a_transposed_decoder_is_caught(trained: Callable[..., Foreign], sample: Sample) -> None:
    foreign = trained("topk", 128)
    certificate = gate(foreign.with_(W_dec=foreign.W_dec.T.contiguous()), sample)
    assert not certificate.verified
    assert certificate.fitting == {"decoder": "transposed"}
    assert certificate.fitting_fvu is not None
    assert certificate.fitting_fvu < 0.5 < certificate.figures.fvu


@pytest.mark.parametrize("left", [None, 0.0, -1.0])
def test_a_lost_threshold_is_caught(
    left: float | None, trained: Callable[..., Foreign], sample: Sample
) -> None:
    foreign = trained("batch_topk", 256)
    lost = foreign.with_(threshold=None if left is None else torch.tensor(left))
    certificate = gate(lost, sample)
    assert not certificate.verified
    assert list(certificate.fitting) == ["threshold"]
    assert certificate.fitting_fvu is not None
    assert certificate.fitting_fvu < certificate.figures.fvu
    assert certificate.figures.l0 > 3 * 8
    assert foreign.threshold is not None
    assert certificate.fitting["threshold"] == pytest.approx(float(foreign.threshold), rel=0.5)


@pytest.mark.parametrize("block", [0, 2, 3])
def test_a_wrong_layer_is_caught(block: int, trained: Callable[..., Foreign], sample: Sample) -> None:
    certificate = gate(trained("topk", 512), sample, Hookpoints.of((f"blocks.{block}.resid_post",)))
    assert not certificate.verified
    assert certificate.fitting == {"hookpoint": "blocks.1.resid_post"}


def test_where_two_layers_are_alike_the_file_decides(trained: Callable[..., Foreign], sample: Sample) -> None:
    here = sample.inputs(HOOKPOINTS)
    noise = 0.01 * here.std() * torch.randn(here.shape, generator=torch.Generator().manual_seed(0))
    alike, named = (
        Sample({HOOKPOINTS.reads[0]: here, "blocks.3.resid_post": here + noise}),
        Hookpoints.of(("blocks.3.resid_post",)),
    )
    foreign = trained("topk", 512)
    assert gate(foreign, alike).verified
    certificate = examine(foreign, ReadingConfig(), HOOKPOINTS, alike, CONFIG, named)
    assert not certificate.verified
    assert certificate.fitting == {"hookpoint": "blocks.3.resid_post"}
    with pytest.raises(UserError, match=r"names blocks.3.resid_post, and it is not clearly better here"):
        refuse_unverified("file", certificate)
    assert examine(foreign, ReadingConfig(), named, alike, CONFIG, named).verified
    elsewhere = Hookpoints.of(("blocks.0.resid_post",))
    assert examine(foreign, ReadingConfig(), HOOKPOINTS, sample, CONFIG, elsewhere).verified


def test_a_missing_fold_of_the_norm_is_caught(trained: Callable[..., Foreign], sample: Sample) -> None:
    certificate = gate(scaled(trained("topk", 512), sample), sample)
    assert not certificate.verified
    assert certificate.fitting == {"normalisation": "dataset_rms"}


def test_a_topk_dictionary_loaded_as_relu_is_caught(trained: Callable[..., Foreign], sample: Sample) -> None:
    certificate = gate(trained("topk", 512).with_(activation="relu", k=None), sample)
    assert not certificate.verified
    assert certificate.fitting == {"activation": "topk", "k": 8}
    assert certificate.figures.l0 > 5 * 8


def test_a_bias_that_is_not_taken_from_the_input_is_caught(
    trained: Callable[..., Foreign], sample: Sample
) -> None:
    certificate = gate(trained("topk", 512).with_(centred=False), sample)
    assert not certificate.verified
    assert certificate.fitting == {"centre": "b_dec"}


def test_two_faults_at_once_are_found_one_after_the_other(
    trained: Callable[..., Foreign], sample: Sample
) -> None:
    foreign = scaled(trained("topk", 512), sample).with_(activation="relu", k=None)
    fitting = gate(foreign, sample).fitting
    assert (fitting["activation"], fitting["normalisation"]) == ("topk", "dataset_rms")


def test_the_setting_that_the_gate_names_is_verified(trained: Callable[..., Foreign], sample: Sample) -> None:
    foreign = scaled(trained("topk", 512), sample)
    certificate = gate(foreign, sample)
    again = gate(foreign, sample, **certificate.fitting)
    assert again.verified
    assert again.settings == {"normalisation": "dataset_rms"}


def test_random_weights_are_refused_in_one_sentence(trained: Callable[..., Foreign], sample: Sample) -> None:
    foreign = trained("topk", 512)
    random = torch.Generator().manual_seed(1)
    weights = torch.randn(512, 128, generator=random)
    weights /= weights.norm(dim=1, keepdim=True)
    certificate = gate(foreign.with_(W_enc=weights.T.contiguous(), W_dec=weights), sample)
    with pytest.raises(UserError, match="is it made for this model") as raised:
        refuse_unverified(foreign.source, certificate)
    assert "\n" not in str(raised.value)


def test_another_width_is_refused_before_anything_is_run(
    trained: Callable[..., Foreign], sample: Sample
) -> None:
    with pytest.raises(UserError, match=r"reads activations of width 128, blocks\.1\.mlp_act .* has 384"):
        gate(trained("topk", 512), sample, Hookpoints.of(("blocks.1.mlp_act",)))


def test_a_certificate_is_plain_json_with_everything_that_was_tried(
    trained: Callable[..., Foreign], sample: Sample
) -> None:
    certificate = gate(trained("topk", 512), sample).as_json()
    assert json.loads(json.dumps(certificate)) == certificate
    tried = {entry["setting"] for entry in certificate["tried"]}
    assert {"hookpoint", "normalisation", "centre"} <= tried


def test_a_transcoder_of_the_norm_before_its_gain_is_recognised(
    language_model: LanguageModel, activation_set: ActivationSet
) -> None:
    """TransformerLens reads the norm before gain and bias; ours is what the MLP itself reads."""
    hookpoints = Hookpoints.of(("blocks.2.mlp_in",), ("blocks.2.mlp_out",))
    sample = gather_sample(language_model, activation_set.tokens, hookpoints, 2_000)
    x, y = sample.pair(hookpoints)
    norm = language_model.model.model.layers[2].post_attention_layernorm
    plain = x / norm.weight.float()
    solved = torch.linalg.lstsq(torch.cat([plain, torch.ones(len(x), 1)], dim=1), y).solution
    foreign = Foreign(
        source="file",
        activation="relu",
        kind="transcoder",
        W_enc=torch.eye(128, 16),
        W_dec=torch.zeros(16, 128),
        b_enc=torch.zeros(16),
        b_dec=solved[-1],
        W_skip=solved[:-1].contiguous(),
        centred=False,
        reads=hookpoints.reads,
        writes=hookpoints.writes,
    )
    certificate = gate(foreign, sample, hookpoints)
    assert certificate.fitting == {"normalisation": "before_gain"}
    assert gate(foreign, sample, hookpoints, normalisation="before_gain").verified
    inputs = sample.inputs_of(hookpoints)
    acts = assemble(read_as(foreign, ReadingConfig(normalisation="before_gain"), inputs)).encode(x)
    torch.testing.assert_close(acts, plain[:, :16].relu(), rtol=1e-4, atol=1e-4)


def test_a_transposed_skip_of_a_transcoder_is_caught(
    language_model: LanguageModel, activation_set: ActivationSet
) -> None:
    """The best linear map from the input of an MLP to its output, in a transcoder that never fires."""
    hookpoints = Hookpoints.of(("blocks.0.mlp_in",), ("blocks.0.mlp_out",))
    sample = gather_sample(language_model, activation_set.tokens, hookpoints, 2_000)
    x, y = sample.pair(hookpoints)
    solved = torch.linalg.lstsq(torch.cat([x, torch.ones(len(x), 1)], dim=1), y).solution
    foreign = Foreign(
        source="file",
        activation="relu",
        kind="transcoder",
        W_enc=torch.zeros(128, 16),
        W_dec=torch.eye(16, 128),
        b_enc=-torch.ones(16),
        b_dec=solved[-1],
        W_skip=solved[:-1].contiguous(),
        centred=False,
        reads=hookpoints.reads,
        writes=hookpoints.writes,
    )
    assert gate(foreign, sample, hookpoints).verified
    turned = foreign.with_(W_skip=solved[:-1].T.contiguous())
    certificate = gate(turned, sample, hookpoints)
    assert certificate.fitting == {"skip": "transposed"}
    assert certificate.random_fvu is None
    elsewhere = gate(foreign, sample, hookpoints.moved(1))
    assert elsewhere.fitting == {"hookpoint": "blocks.0.mlp_in,blocks.0.mlp_out"}
