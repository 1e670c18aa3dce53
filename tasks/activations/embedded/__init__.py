"""The embedded language models, trained by `tasks.activations.embedded.train` on the embedded corpus."""

from pathlib import Path

from catalog.errors import UserError

EMBEDDED_MODELS: tuple[str, ...] = ("pico-a", "pico-b")


def embedded_model_path(name: str) -> Path:
    """Folder of an embedded model, in Transformers layout.

    Raises:
        UserError: for a name that is not one of `EMBEDDED_MODELS`.
    """
    if name not in EMBEDDED_MODELS:
        known = ", ".join(EMBEDDED_MODELS)
        raise UserError(f"embedded model {name!r} does not exist: choose one of {known}")
    return Path(__file__).parent / name
