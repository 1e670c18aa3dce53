"""Freeze what stands for each architecture in the catalogue in ``tests/golden/dictionary_configs.json``.

Run ``python tests/golden/freeze_dictionary_configs.py`` before a release. An entry is never
changed: the fingerprints of dictionaries in people's catalogues are made of it.
"""

import json
from pathlib import Path
from typing import Any

from tasks.dictionaries.base import ARCHITECTURES, dictionary_config

GOLDEN = Path(__file__).with_name("dictionary_configs.json")
NEEDED: dict[str, dict[str, Any]] = {
    "temporal": {"n_heads": 2, "bottleneck_factor": 2, "normalisation": "none"},
    "difference_of_means": {"label": "topic"},
}
"""Settings without a default that the example of an architecture lacks."""


def example(name: str) -> dict[str, Any]:
    """A small configuration of one architecture, as a pipeline or an importer writes it."""
    config = ARCHITECTURES[name].Config
    fields = {"d_sae": 48, "n_tokens": 1_000, **config.example, **NEEDED.get(name, {})}
    if getattr(config, "width_from_data", False):
        fields.pop("d_sae", None)
    return {"architecture": name, **fields}


def frozen() -> dict[str, dict[str, Any]]:
    """Architecture → its example as it stands in ``dictionaries.config``."""
    content: dict[str, dict[str, Any]] = json.loads(GOLDEN.read_text())
    return content


if __name__ == "__main__":
    now = {name: dictionary_config(example(name)).canonical() for name in ARCHITECTURES}
    GOLDEN.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n")
