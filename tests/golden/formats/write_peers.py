"""Write the golden folders of a peer with the peer itself: files, inputs, and its own codes and outputs.

``.bench/sae-lens/bin/python tests/golden/formats/write_peers.py saelens`` runs it in the environment of the
peer that `make bench` made; further arguments name the cases to write, left out: all. Weights are random; in
the cases named ``trained``, and those of dictionary_learning, they come from a short training by the peer's
own trainer on sums of planted directions.
"""

import json
import sys
from pathlib import Path

import torch
from golden_cases import D_IN, D_SAE, HERE, STEPS, K, N, expect, inputs, is_wanted, randomise
from safetensors.torch import save_file


def write_saelens():
    from sae_lens import SAE
    from sae_lens.registry import get_sae_class, get_sae_training_class
    from sae_lens.saes.sae import SAEMetadata, TrainStepInput
    from sae_lens.training.activation_scaler import ActivationScaler

    x = inputs(N)
    hook = {"model_name": "pico-a", "hook_name": "blocks.2.hook_resid_post"}

    def random_case(case, architecture, **settings):
        sae_class, config_class = get_sae_class(architecture)
        if "transcoder" in architecture:
            settings |= {"d_out": D_IN + 2, "apply_b_dec_to_input": False}
        config = config_class(d_in=D_IN, d_sae=D_SAE, **settings)
        if not is_wanted(case):
            return
        out_hook = {"hook_name": "blocks.1.ln2.hook_normalized", "hook_name_out": "blocks.1.hook_mlp_out"}
        config.metadata = SAEMetadata(**{**hook, **(out_hook if "transcoder" in architecture else {})})
        sae = sae_class(config).eval()
        randomise(sae)
        sae.save_model(HERE / "saelens" / case)
        expect(HERE / "saelens" / case, sae.encode(x), sae(x), x)

    random_case("standard", "standard")
    random_case("standard-uncentred", "standard", apply_b_dec_to_input=False)
    random_case("standard-layer-norm", "standard", normalize_activations="layer_norm")
    random_case("jumprelu-constant-norm", "jumprelu", normalize_activations="constant_norm_rescale")
    random_case("gated-uncentred", "gated", apply_b_dec_to_input=False)
    random_case("topk", "topk", k=K)
    random_case("topk-decoder-norm", "topk", k=K, rescale_acts_by_decoder_norm=True)
    random_case("abstopk", "abstopk", k=K)
    random_case(
        "abstopk-decoder-norm", "abstopk", k=K, rescale_acts_by_decoder_norm=True, apply_b_dec_to_input=False
    )
    random_case("jumprelu", "jumprelu", apply_b_dec_to_input=False)
    random_case("transcoder", "transcoder")
    random_case("skip-transcoder", "skip_transcoder")
    random_case("jumprelu-transcoder", "jumprelu_transcoder")
    random_case("jumprelu-skip-transcoder", "jumprelu_skip_transcoder")
    random_case("matching-pursuit", "matching_pursuit", max_iterations=5, residual_threshold=0.3)

    def temporal_case(case, **settings):
        """Two sequences of six tokens: ``x`` (B, T, D), ``acts`` (B, T, L), ``out`` (B, T, D)."""
        if not is_wanted(case):
            return
        sae_class, config_class = get_sae_class("temporal")
        config = config_class(d_in=D_IN, d_sae=D_SAE, n_heads=2, bottleneck_factor=4, **settings)
        config.metadata = SAEMetadata(**hook)
        sae, folder = sae_class(config).eval(), HERE / "saelens" / case
        randomise(sae)
        sae.save_model(folder)
        x_BTD = x.reshape(2, N // 2, D_IN)
        expect(folder, sae.encode(x_BTD), sae(x_BTD), x_BTD)

    temporal_case("temporal-topk", kval_topk=K)
    temporal_case("temporal-relu-untied", sae_diff_type="relu", tied_weights=False, n_attn_layers=2)
    scaled = {"normalize_activations": "constant_scalar_rescale", "activation_normalization_factor": 2.5}
    temporal_case("temporal-scaled-uncentred", kval_topk=K, apply_b_dec_to_input=False, **scaled)
    temporal_case("temporal-untied-uncentred", kval_topk=K, tied_weights=False, apply_b_dec_to_input=False)
    temporal_case("temporal-layer-norm", kval_topk=K, n_attn_layers=2, normalize_activations="layer_norm")

    def published_temporal_case(case):
        """As the authors publish it, used by SAELens's own loader; what it would fetch lies in the folder."""
        if not is_wanted(case):
            return
        from sae_lens.loading import pretrained_sae_loaders as loaders

        folder = HERE / "saelens" / case
        folder.mkdir(parents=True, exist_ok=True)
        random = torch.Generator().manual_seed(13)
        shapes = {"D": (D_SAE, D_IN), "E": (D_IN, D_SAE), "b": (D_IN,)}
        for name, width in (("k_ctx", 6), ("q_target", 6), ("v_ctx", D_SAE), ("c_proj", D_SAE)):
            shapes |= {f"attn_layers.0.{name}.weight": (width, D_SAE), f"attn_layers.0.{name}.bias": (width,)}
        tensors = {name: torch.randn(shape, generator=random) * 0.5 for name, shape in shapes.items()}
        save_file(tensors, folder / "latest_ckpt.safetensors")
        lines = [
            f"llm: {{dimin: {D_IN}}}",
            "data: {dtype: float32}",
            "sae:",
            f"  exp_factor: {D_SAE // D_IN}",
        ]
        settings = {"n_heads": 2, "n_attn_layers": 1, "bottleneck_factor": 4, "sae_diff_type": "topk"}
        settings |= {"kval_topk": K, "tied_weights": "false", "scaling_factor": 0.4}
        lines += [f"  {name}: {value}" for name, value in settings.items()]
        (folder / "conf.yaml").write_text("\n".join(lines) + "\n")
        loaders.hf_hub_download = lambda repo_id, filename, **_: str(folder / Path(filename).name)
        sae = SAE.from_pretrained("temporal-sae-gemma-2-2b", "blocks.12.hook_resid_post")
        x_BTD = x.reshape(2, N // 2, D_IN)
        expect(folder, sae.encode(x_BTD), sae(x_BTD), x_BTD)

    published_temporal_case("layer_2-temporal")

    def trained_case(case, architecture, checkpoint=False, **settings):
        if not is_wanted(case):
            return
        training_class, config_class = get_sae_training_class(architecture)
        torch.manual_seed(0)
        config = config_class(d_in=D_IN, d_sae=D_SAE, **settings)
        config.metadata = SAEMetadata(**hook)
        sae = training_class(config)
        optimiser = torch.optim.Adam(sae.parameters(), lr=0.01)
        for step in range(STEPS):
            coefficients = {name: getattr(c, "value", c) for name, c in sae.get_coefficients().items()}
            result = sae.training_forward_pass(
                TrainStepInput(inputs(256, step), coefficients, None, step, False)
            )
            optimiser.zero_grad()
            result.loss.backward()
            optimiser.step()
        folder = HERE / "saelens" / case
        sae.eval().save_inference_model(folder)
        known = SAE.load_from_disk(folder)
        if checkpoint:
            sae.save_model(folder)
        expect(folder, known.encode(x), known(x), x)

    trained_case("trained-standard", "standard", l1_coefficient=0.1)
    trained_case("trained-jumprelu", "jumprelu", l0_coefficient=0.05)
    trained_case("trained-batchtopk", "batchtopk", k=2)
    trained_case(
        "trained-matryoshka-checkpoint", "matryoshka_batchtopk", True, k=2, matryoshka_widths=[6, 12, 24]
    )

    def checkpoint_case(case, architecture, normalisation, **settings):
        """An unfinished training: weights in normalised units, what they were normalised with beside them."""
        if not is_wanted(case):
            return
        training_class, config_class = get_sae_training_class(architecture)
        config = config_class(d_in=D_IN, d_sae=D_SAE, normalize_activations=normalisation, **settings)
        config.metadata = SAEMetadata(**hook)
        sae, scaler = training_class(config).eval(), ActivationScaler()
        randomise(sae)
        batches = (3 * inputs(256, step) for step in range(20))
        if normalisation == "covariance_whitening":
            scaler.estimate_whitening(D_IN, batches, 20)
        else:
            scaler.estimate_scaling_factor(D_IN, batches, 20)
        folder, scaled = HERE / "saelens" / case, scaler.scale(3 * x)
        sae.save_model(folder)
        scaler.save(str(folder / "activation_scaler.json"))
        expect(folder, sae.encode(scaled), scaler.unscale(sae(scaled)), 3 * x)

    checkpoint_case("checkpoint-scaled", "standard", "expected_average_only_in", l1_coefficient=1)
    whitened = "covariance_whitening"
    checkpoint_case("checkpoint-whitened", "topk", whitened, k=K, rescale_acts_by_decoder_norm=True)
    checkpoint_case(
        "checkpoint-whitened-uncentred", "gated", whitened, l1_coefficient=1, apply_b_dec_to_input=False
    )

    def old_case(case, config, tensors):
        if not is_wanted(case):
            return
        folder = HERE / "saelens" / case
        folder.mkdir(parents=True, exist_ok=True)
        old = {"d_in": D_IN, "d_sae": D_SAE, "dtype": "float32", "device": "cpu", "model_name": "pico-a"}
        (folder / "cfg.json").write_text(
            json.dumps({**old, "hook_point": "blocks.2.hook_resid_post", **config})
        )
        save_file(tensors, folder / "sae_weights.safetensors")
        sae = SAE.load_from_disk(folder)
        expect(folder, sae.encode(x), sae(x), x)

    random = torch.Generator().manual_seed(7)
    shapes = {"W_enc": (D_IN, D_SAE), "W_dec": (D_SAE, D_IN), "b_enc": (D_SAE,), "b_dec": (D_IN,)}
    tensors = {name: torch.randn(shape, generator=random) * 0.5 for name, shape in shapes.items()}
    old_case(
        "old-standard", {"normalize_activations": False}, {**tensors, "scaling_factor": torch.ones(D_SAE)}
    )
    old_case("old-topk", {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}}, tensors)


def write_sparsify():
    from sparsify.config import SparseCoderConfig
    from sparsify.sparse_coder import SparseCoder

    def case(name, trained=False, **settings):
        if not is_wanted(name):
            return
        torch.manual_seed(0)
        coder = SparseCoder(D_IN, SparseCoderConfig(num_latents=D_SAE, k=K, **settings))
        if not trained:
            randomise(coder)
        optimiser = torch.optim.Adam(coder.parameters(), lr=0.01)
        for step in range(STEPS if trained else 0):
            result = coder(inputs(256, step))
            optimiser.zero_grad()
            result.fvu.backward()
            optimiser.step()
            coder.set_decoder_norm_to_unit_norm()
        folder, x = HERE / "sparsify" / name, inputs(N)
        coder.save_to_disk(folder)
        top_acts, top_indices, _ = coder.encode(x)
        expect(folder, torch.zeros(N, D_SAE).scatter(1, top_indices, top_acts), coder(x).sae_out, x)

    case("layers.2")
    case("layers.1", trained=True)
    case("layers.1.mlp", transcode=True)
    case("layers.2.mlp", transcode=True, skip_connection=True)
    case("layers.3", activation="groupmax")
    case("layers.3.mlp", transcode=True, activation="groupmax")


def write_dictionary_learning():
    from dictionary_learning import trainers
    from dictionary_learning.dictionary import AutoEncoderNew
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
    from dictionary_learning.training import trainSAE

    shared = {"activation_dim": D_IN, "dict_size": D_SAE, "layer": 2, "lm_name": "pico-a", "device": "cpu"}
    shared |= {"seed": 0, "lr": 0.01, "warmup_steps": 10, "submodule_name": "resid_post_layer_2"}
    top = {"k": 2, "threshold_start_step": 50, "threshold_beta": 0.9}
    cases = {
        "standard": (trainers.StandardTrainer, {"sparsity_warmup_steps": 10}),
        "gated": (trainers.GatedSAETrainer, {"sparsity_warmup_steps": 10}),
        "topk": (trainers.TopKTrainer, top),
        "batch-topk": (trainers.BatchTopKTrainer, top),
        "matryoshka": (MatryoshkaBatchTopKTrainer, {**top, "group_fractions": [0.25, 0.25, 0.5]}),
        "jumprelu": (trainers.JumpReluTrainer, {"sparsity_warmup_steps": 10, "target_l0": 2.0}),
    }
    x = inputs(N)
    for case, (trainer, settings) in cases.items():
        if not is_wanted(case):
            continue
        folder = HERE / "dictionary_learning" / case
        config = {"trainer": trainer, "steps": STEPS, **shared, **settings}
        if case in ("standard", "gated", "jumprelu"):
            config |= {"decay_start": None}
        data = (inputs(256, step) for step in range(STEPS + 101))
        trainSAE(
            data,
            [config],
            STEPS,
            save_dir=str(folder),
            device="cpu",
            normalize_activations=case == "batch-topk",
        )
        for file in (folder / "trainer_0").iterdir():
            file.replace(folder / file.name)
        (folder / "trainer_0").rmdir()
        from dictionary_learning.utils import load_dictionary

        known, _ = load_dictionary(str(folder), "cpu")
        if case == "standard":
            known.load_state_dict(torch.load(folder / "ae.pt"))
        expect(folder, known.encode(x), known(x), x)
    if not is_wanted("april"):
        return
    torch.manual_seed(1)
    april, folder = AutoEncoderNew(D_IN, D_SAE), HERE / "dictionary_learning" / "april"
    randomise(april)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(april.state_dict(), folder / "ae.pt")
    (folder / "config.json").write_text(json.dumps({"trainer": {"dict_class": "AutoEncoderNew", "layer": 2}}))
    expect(folder, april.encode(x), april(x), x)


if __name__ == "__main__":
    torch.set_num_threads(1)
    globals()[f"write_{sys.argv[1]}"]()
