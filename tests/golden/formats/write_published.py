"""Write golden folders in the form in which others publish, with what those who use them make of them.

Run it like ``write_peers.py``, in the environment of sae-lens. ``gemma_scope``: parameters laid out as
published and used by the loaders of SAELens. ``circuit_tracer`` needs circuit-tracer 0.5 there. ``openai``
and ``crosscoder`` are on no package index: for them modules of the names below lie on PYTHONPATH. The
folders here were written with short transcripts of openai/sparse_autoencoder, of the dictionary_learning
fork (whose BatchTopKCrossCoder did not start as it stood) and of crosscoder-model-diff-replication.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from golden_cases import D_IN, D_SAE, HERE, K, N, expect, inputs, is_wanted, randomise
from safetensors.torch import load_file, save_file


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
