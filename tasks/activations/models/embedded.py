"""Where the embedded language models lie."""

from pathlib import Path

from catalog.errors import UserError

EMBEDDED_MODELS: tuple[str, ...] = ("pico-a", "pico-b")
_FOLDER = Path(__file__).parents[1] / "embedded"


def embedded_model_path(name: str) -> Path:
    """Folder of an embedded model, in Transformers layout.

    Raises:
        UserError: for a name that is not one of `EMBEDDED_MODELS`.
    """
    if name not in EMBEDDED_MODELS:
        known = ", ".join(EMBEDDED_MODELS)
        raise UserError(f"embedded model {name!r} does not exist: choose one of {known}")
    return _FOLDER / name
