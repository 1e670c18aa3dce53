"""Translates our hookpoint names to those of TransformerLens, which SAELens files use.

Since version 3 TransformerLens calls the input of an MLP ``mlp.hook_in``, and so do the files that SAELens
makes of published transcoders. ``ln2.hook_normalized`` is a different value: the normed stream before the
gain and bias of the norm.
"""

import re

_OF_BLOCK = re.compile(r"blocks\.(?P<block>\d+)\.(?P<name>\w+)")
TRANSFORMER_LENS = {
    "resid_pre": "hook_resid_pre",
    "resid_mid": "hook_resid_mid",
    "resid_post": "hook_resid_post",
    "attn_z": "attn.hook_z",
    "attn_out": "hook_attn_out",
    "mlp_in": "mlp.hook_in",
    "mlp_act": "mlp.hook_post",
    "mlp_out": "hook_mlp_out",
}


def transformer_lens_name(hookpoint: str) -> str:
    """``blocks.2.resid_post`` becomes ``blocks.2.hook_resid_post``; an unknown name does not change."""
    match = _OF_BLOCK.fullmatch(hookpoint)
    if match is None or match["name"] not in TRANSFORMER_LENS:
        return hookpoint
    return f"blocks.{match['block']}.{TRANSFORMER_LENS[match['name']]}"
