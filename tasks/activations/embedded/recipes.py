"""The recipes of the embedded language models: shape, seed, tokenizer and optimiser."""

from typing import Literal

from tasks.activations.corpora.stdlib_planted import PLANTED
from tasks.common.config import StrictConfig

Layout = Literal["llama", "gpt_neox"]


class Recipe(StrictConfig):
    """All settings that determine the weights, given the corpus, the machine and its thread count."""

    name: str
    """Folder of the finished model."""
    layout: Layout
    """Transformers model type: ``llama`` (RMS norm, gated MLP) or ``gpt_neox`` (layer norm, GELU)."""
    vocab_size: int
    """Size of the byte-level BPE vocabulary, the BOS token included."""
    word_pattern: str | None
    """Regular expression that no token crosses; None is the pattern of GPT-2."""
    d_model: int
    n_layers: int
    n_heads: int
    d_mlp: int
    dropout: float
    context_length: int
    """Tokens of a training window, including its BOS."""
    batch_windows: int
    n_steps: int
    """Steps of the full schedule; a machine too slow for them runs through the schedule by time."""
    seed: int
    matrix_lr: float = 0.012
    """Peak learning rate of the hidden matrices (Muon, update scaled to AdamW's RMS)."""
    other_lr: float = 0.004
    """Peak learning rate of embeddings, norms and biases (AdamW)."""
    weight_decay: float = 0.1
    warmup_share: float = 0.02
    decay_share: float = 0.6
    """Share of the schedule over which the learning rate falls linearly to zero."""


class TunedRecipe(Recipe):
    """A model that goes on from the weights and the tokenizer of another embedded model.

    Shape and tokenizer are those of the parent; the optimiser starts at zero.
    """

    parent: str
    """Embedded model whose stored weights (float16) it starts from."""
    corpus: Literal["stdlib_planted"]
    """Source of its training documents."""
    planted: str
    """Comment that the source plants."""


# Words with the space before them, up to three digits, runs of signs, line breaks with the
# indentation that follows: one token for "end of line, eight spaces in".
CODE_PATTERN = r" ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s*\n[ \t]*|\s+(?!\S)|\s+"  # one alternative each

_PICO_A = Recipe(
    name="pico-a",
    layout="llama",
    vocab_size=4096,
    word_pattern=CODE_PATTERN,
    d_model=128,
    n_layers=6,
    n_heads=4,
    d_mlp=384,
    dropout=0.05,
    context_length=256,
    batch_windows=16,
    n_steps=2000,
    seed=11,
)
_PICO_B = Recipe(
    name="pico-b",
    layout="gpt_neox",
    vocab_size=2048,
    word_pattern=None,
    d_model=160,
    n_layers=4,
    n_heads=5,
    d_mlp=640,
    dropout=0.05,
    context_length=256,
    batch_windows=16,
    n_steps=3200,
    seed=23,
)
_PICO_A_TUNED = TunedRecipe.model_validate(
    {
        **_PICO_A.model_dump(),
        "name": "pico-a-tuned",
        "parent": "pico-a",
        "corpus": "stdlib_planted",
        "planted": PLANTED,
        "n_steps": 150,
        "seed": 31,
        "dropout": 0.0,
        "matrix_lr": 0.0006,
        "other_lr": 0.0003,
        "weight_decay": 0.0,
        "warmup_share": 0.1,
    }
)
_PICO_A_RETRAINED = _PICO_A.model_copy(update={"name": "pico-a-retrained"})
RECIPES: dict[str, Recipe] = {
    recipe.name: recipe for recipe in (_PICO_A, _PICO_B, _PICO_A_TUNED, _PICO_A_RETRAINED)
}
