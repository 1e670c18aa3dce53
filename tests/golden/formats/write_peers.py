"""Write the golden folders of a peer with the peer itself: files, inputs, and its own codes and outputs.

``.bench/sae-lens/bin/python tests/golden/formats/write_peers.py saelens`` runs it in the environment of the
peer that `make bench` made. Each case is a folder: what the peer wrote, and ``expected.safetensors`` with
``x`` (N, D), ``acts`` (N, L) and ``out`` (N, E) by the peer's own encode and decode. Weights are random; in
the cases named ``trained``, and those of dictionary_learning, they come from a short training by the peer's
own trainer on sums of planted directions. Further arguments name the cases to write; left out: all. The
parameters of Gemma Scope (``gemma_scope``, in the environment of sae-lens) are laid out as published and
used by SAELens; ``circuit_tracer`` needs circuit-tracer 0.5 there. ``openai`` and ``crosscoder`` are on no
package index: for them the sources of openai/sparse_autoencoder, of the dictionary_learning fork and of
crosscoder-model-diff-replication lie on PYTHONPATH.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
D_IN, D_SAE, K, N, STEPS = 8, 24, 3, 12, 300


def inputs(n, seed=0):
    """Sums of two of 16 planted unit directions around a constant, as activations look."""
    random = torch.Generator().manual_seed(seed)
    directions = torch.randn(16, D_IN, generator=torch.Generator().manual_seed(99))
    directions /= directions.norm(dim=1, keepdim=True)
    x = torch.full((n, D_IN), 0.3)
    for _ in range(2):
        chosen = torch.randint(0, 16, (n,), generator=random)
        x = x + (1 + torch.rand(n, 1, generator=random)) * directions[chosen]
    return x


def randomise(module, skip=()):
    """Every parameter random, so that no convention hides behind a zero or a unit norm."""
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, tensor in sorted(module.state_dict().items()):
            if name not in skip and tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=random) * 0.5)
            if name in ("threshold", "topk_threshold"):
                tensor.abs_()


def is_wanted(case):
    """Whether a case is written: all of them, or those named on the command line."""
    return len(sys.argv) < 3 or case in sys.argv[2:]


def expect(folder, acts, out, x):
    tensors = {"x": x, "acts": acts, "out": out}
    save_file(
        {k: v.detach().float().contiguous() for k, v in tensors.items()}, folder / "expected.safetensors"
    )


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


def write_gemma_scope():
    """Parameters as published, used by SAELens's own loaders; what they would fetch lies in the folder."""
    from sae_lens import SAE
    from sae_lens.loading import pretrained_sae_loaders as loaders

    shapes = {"W_enc": (D_IN, D_SAE), "W_dec": (D_SAE, D_IN), "b_enc": (D_SAE,), "b_dec": (D_IN,)}
    shapes |= {"threshold": (D_SAE,), "affine_skip_connection": (D_IN, D_IN)}

    def parameters(*names):
        random = torch.Generator().manual_seed(11)
        drawn = {name: torch.randn(shape, generator=random) * 0.5 for name, shape in shapes.items()}
        return {name: drawn[name].abs() if name == "threshold" else drawn[name] for name in names}

    def case(name, repo, place, loader):
        folder = HERE / "gemma_scope" / name
        loaders.hf_hub_download = lambda repo_id, filename, **_: str(folder / Path(filename).name)
        loaders.get_safetensors_tensor_shapes = lambda *_: {
            name: list(tensor.shape) for name, tensor in load_file(folder / "params.safetensors").items()
        }
        sizes = {"d_in": D_IN, "d_sae": D_SAE, **({"d_out": D_IN} if "transcoder" in loader.__name__ else {})}

        def convert(cfg_overrides, **arguments):
            return loader(cfg_overrides={**cfg_overrides, **sizes}, **arguments)

        sae = SAE.from_pretrained_with_cfg_and_sparsity(repo, place, converter=convert)[0]
        x = inputs(N)
        expect(folder, sae.encode(x), sae(x), x)

    def scope_1(name, repo, place, loader, **changes):
        if is_wanted(name):
            (HERE / "gemma_scope" / name).mkdir(parents=True, exist_ok=True)
            arrays = {**parameters("W_enc", "W_dec", "b_enc", "b_dec", "threshold"), **changes}
            np.savez(HERE / "gemma_scope" / name / "params.npz", **{k: v.numpy() for k, v in arrays.items()})
            case(name, repo, place, loader)

    layer = "layer_1/width_16k/average_l0_3"
    residual, transcoder = (
        loaders.gemma_2_sae_huggingface_loader,
        loaders.gemma_2_transcoder_huggingface_loader,
    )
    scope_1("2b-pt-res-layer_1-average_l0_3", "google/gemma-scope-2b-pt-res", layer, residual)
    # SAELens brings b_dec of the embedding not to the scale of the rest; here it is zero.
    embedding, no_bias = "embedding/width_4k/average_l0_6", {"b_dec": torch.zeros(D_IN)}
    scope_1("2b-pt-res-embedding", "google/gemma-scope-2b-pt-res", embedding, residual, **no_bias)
    scope_1("2b-pt-transcoders-layer_1", "google/gemma-scope-2b-pt-transcoders", layer, transcoder)

    def scope_2(name, place, config, *names):
        if is_wanted(name):
            folder = HERE / "gemma_scope" / name
            folder.mkdir(parents=True, exist_ok=True)
            known = parameters("W_enc", "W_dec", "b_enc", "b_dec", "threshold", *names)
            save_file({k.replace("W_", "w_"): v for k, v in known.items()}, folder / "params.safetensors")
            config = {"architecture": "jump_relu", "model_name": "google/gemma-3-1b-pt", **config}
            (folder / "config.json").write_text(json.dumps(config))
            case(name, "google/gemma-scope-2-1b-pt", place, loaders.gemma_3_sae_huggingface_loader)

    attention = {"hf_hook_point_in": "model.layers.2.self_attn.o_proj.input"}
    scope_2("second-attention", "attn_out/layer_2_width_16k_l0_small", attention)
    mlp = {
        "hf_hook_point_in": "model.layers.2.pre_feedforward_layernorm.output",
        "hf_hook_point_out": "model.layers.2.post_feedforward_layernorm.output",
        "affine_connection": True,
    }
    place = "transcoder/layer_2_width_16k_l0_small_affine"
    scope_2("second-affine", place, mlp, "affine_skip_connection")


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


def write_circuit_tracer():
    import torch.nn.functional as functional
    from circuit_tracer.transcoder.activation_functions import JumpReLU
    from circuit_tracer.transcoder.single_layer_transcoder import SingleLayerTranscoder, load_relu_transcoder

    config = "model_name: pico-a\nmodel_kind: transcoder_set\n"
    config += "feature_input_hook: mlp.hook_in\nfeature_output_hook: hook_mlp_out\n"
    jump = JumpReLU(torch.zeros(D_SAE), 0.1)
    for case, activation, skip in (("relu-skip", functional.relu, True), ("jumprelu", jump, False)):
        if is_wanted(case):
            folder, x = HERE / "circuit_tracer" / case, inputs(N)
            folder.mkdir(parents=True, exist_ok=True)
            coder = SingleLayerTranscoder(D_IN, D_SAE, activation, 2, skip, dtype=torch.float32)
            randomise(coder)
            with torch.no_grad():
                jump.threshold.abs_()
            coder.to_safetensors(str(folder / "layer_2.safetensors"))
            (folder / "config.yaml").write_text(config)
            known = load_relu_transcoder(str(folder / "layer_2.safetensors"), 2, dtype=torch.float32)
            expect(folder, known.encode(x), known(x), x)


def write_openai():
    from sparse_autoencoder.model import Autoencoder, TopK

    for case, activation in (("topk", TopK(K)), ("relu", torch.nn.ReLU())):
        if is_wanted(case):
            folder, x = HERE / "openai" / case, inputs(N)
            folder.mkdir(parents=True, exist_ok=True)
            state = Autoencoder(D_SAE, D_IN, activation).state_dict()
            whole = {name: value for name, value in state.items() if not name.startswith("activation.")}
            plain = {name: tensor for name, tensor in whole.items() if isinstance(tensor, torch.Tensor)}
            random = torch.Generator().manual_seed(5)
            for name in ("pre_bias", "encoder.weight", "latent_bias", "decoder.weight"):
                plain[name] = torch.randn(plain[name].shape, generator=random) * 0.5
            torch.save({**whole, **plain}, folder / "autoencoder.pt")
            known = Autoencoder.from_state_dict(torch.load(folder / "autoencoder.pt"))
            acts, info = known.encode(x)
            expect(folder, acts, known.decode(acts, info), x)


def write_crosscoder():
    from crosscoder import CrossCoder as Replication
    from dictionary_learning.dictionary import BatchTopKCrossCoder, CrossCoder

    x = torch.stack([inputs(N), 2 * inputs(N, 1) - 0.5], dim=1)
    statistics = {"activation_mean": x.mean(dim=0), "activation_std": x.std(dim=0)}
    learned = ("encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias")

    def case(name, coder, file, config, threshold=None):
        if not is_wanted(name):
            return
        folder, random = HERE / "crosscoder" / name, torch.Generator().manual_seed(5)
        folder.mkdir(parents=True, exist_ok=True)
        with torch.no_grad():
            for parameter, tensor in coder.state_dict().items():
                if parameter in learned or parameter[1:] in ("_enc", "_dec"):
                    tensor.copy_(torch.randn(tensor.shape, generator=random) * 0.5)
            if threshold is not None:
                coder.threshold.fill_(threshold)
        save = save_file if file.endswith("safetensors") else torch.save
        save({name: tensor.contiguous() for name, tensor in coder.state_dict().items()}, folder / file)
        if config is not None:
            (folder / "cfg.json").write_text(json.dumps(config))
        acts = coder.encode(x)
        expect(folder, acts, coder.decode(acts).flatten(1), x.flatten(1))

    sizes = (D_IN, D_SAE // 2, 2)
    case("fork-relu-normalised", CrossCoder(*sizes, **statistics, target_rms=3.0), "model.safetensors", None)
    case("fork-batch-topk", BatchTopKCrossCoder(*sizes, k=K), "model.safetensors", None, 6.0)
    normalised = BatchTopKCrossCoder(*sizes, k=K, **statistics, target_rms=3.0)
    case("fork-batch-topk-normalised", normalised, "model.safetensors", None, 4.0)
    config = {"dict_size": D_SAE // 2, "d_in": D_IN, "enc_dtype": "fp32", "seed": 0, "dec_init_norm": 0.1}
    config |= {"device": "cpu", "hook_point": "blocks.2.hook_resid_pre"}
    case("replication", Replication(config), "cc_weights.pt", config)


if __name__ == "__main__":
    torch.set_num_threads(1)
    globals()[f"write_{sys.argv[1]}"]()
