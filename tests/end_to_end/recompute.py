"""Recompute stored examples with nothing of featlas: plain Transformers, safetensors and DuckDB.

``python tests/end_to_end/recompute.py CATALOGUE ALIAS MODEL_FOLDER [N]`` reads N stored examples of a
dictionary, runs the model on the token ids of each document part alone, encodes with the weights on
disk, and prints one JSON object: how far the stored activations are from the recomputed ones, and how
many tokens changed sides of the sparsity rule.

The residual after block i is ``hidden_states[i + 1]`` (not so for the last block, whose entry is after
the final norm).
"""

import json
import sys
from pathlib import Path

import duckdb
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

DICTIONARY = """
select dictionary_id, weights_uri, regexp_extract(reads[1].hookpoint, 'blocks.(\\d+).resid_post', 1),
       activation_set_id
from dictionaries where alias = $1 order by created_at desc limit 1
"""
EXAMPLES = """
select e.feature_index, e.band, e.rank, e.sequence_index, e.token_start, e.activations, e.token_ids
from examples e where e.dictionary_id = $dictionary
order by hash(concat(e.feature_index, e.band, e.rank)), e.feature_index, e.band, e.rank limit $n
"""


def encode(folder: Path, x_ND: torch.Tensor) -> torch.Tensor:
    """Latent activations (N, d_sae) by the rule that ``cfg.json`` names, in the SAELens layout."""
    cfg = json.loads((folder / "cfg.json").read_text())
    w = load_file(folder / "sae_weights.safetensors")
    x_ND = x_ND - w["b_dec"] if cfg["apply_b_dec_to_input"] else x_ND
    pre_NL = x_ND @ w["W_enc"] + w["b_enc"]
    if cfg["architecture"] == "topk":
        values, indices = pre_NL.topk(cfg["k"], dim=-1)
        return torch.zeros_like(pre_NL).scatter(-1, indices, values.relu())
    if cfg["architecture"] == "jumprelu":
        return pre_NL.relu() * (pre_NL > w["threshold"])
    return pre_NL.relu()


def document_part(document_ids: list[str | None], position: int) -> tuple[int, int]:
    """First and last-plus-one position of the unbroken run of one document around ``position``."""
    start = end = position
    while start > 0 and document_ids[start - 1] == document_ids[position]:
        start -= 1
    while end < len(document_ids) and document_ids[end] == document_ids[position]:
        end += 1
    return start, end


@torch.inference_mode()
def recompute(catalogue: Path, alias: str, model_folder: Path, n: int) -> dict[str, float | int]:
    """Compare ``n`` stored examples with their recomputation."""
    connection = duckdb.connect()
    connection.execute(f"set file_search_path = '{catalogue}'")
    connection.execute((catalogue / "catalogue.sql").read_text())
    dictionary, weights_uri, layer, activation_set = connection.execute(DICTIONARY, [alias]).fetchone()
    examples = connection.execute(EXAMPLES, {"dictionary": dictionary, "n": n}).fetchall()
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    n_tokens = n_flips = n_active = 0
    worst, total = 0.0, 0.0
    for feature, _, _, sequence, token_start, stored, token_ids in examples:
        ids, documents = connection.execute(
            "select token_ids, document_ids from sequences"
            " where activation_set_id = $1 and sequence_index = $2",
            [activation_set, sequence],
        ).fetchone()
        if ids[token_start : token_start + len(token_ids)] != token_ids:
            raise SystemExit(f"feature {feature}: the example's tokens are not those of its sequence")
        start, end = document_part(documents, token_start)
        output = model(torch.tensor([ids[start:end]]), output_hidden_states=True)
        latents = encode(catalogue / weights_uri, output.hidden_states[int(layer) + 1][0])
        first = token_start - start
        fresh = latents[first : first + len(stored), feature]
        kept = torch.tensor(stored)
        flips = (fresh > 0) != (kept > 0)
        both = (fresh > 0) & (kept > 0)
        n_tokens += len(stored)
        n_flips += int(flips.sum())
        n_active += int(both.sum())
        relative = ((fresh - kept).abs() / fresh.abs().clamp_min(1e-6))[both]
        worst = max(worst, float(relative.max()) if len(relative) else 0.0)
        total += float(relative.sum())
    return {
        "n_examples": len(examples),
        "n_tokens": n_tokens,
        "n_active_tokens": n_active,
        "mean_relative_error": total / max(n_active, 1),
        "max_relative_error": worst,
        "n_boundary_flips": n_flips,
        "flip_share": n_flips / max(n_tokens, 1),
    }


if __name__ == "__main__":
    catalogue, alias, model_folder, *rest = sys.argv[1:]
    result = recompute(Path(catalogue), alias, Path(model_folder), int(rest[0]) if rest else 200)
    print(json.dumps(result))
