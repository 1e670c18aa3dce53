"""The location of the catalogue and the memory limit of its queries."""

import re
from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from catalog.errors import UserError

GLOB_CHARACTERS = "*?["
_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")


class CatalogSettings(BaseSettings):
    """Settings of the catalogue, from ``FEATLAS_*`` environment variables."""

    model_config = SettingsConfigDict(
        env_prefix="FEATLAS_", extra="ignore", frozen=True, use_attribute_docstrings=True
    )

    catalog: Path = Path("catalogue")
    """Root folder of the catalogue."""

    memory_limit: str = Field(default="2GB", pattern=r"^\d+(\.\d+)?\s*(MB|GB|MiB|GiB)$")
    """Memory limit of one DuckDB connection."""

    query_threads: int = Field(default=2, ge=1, le=256)
    """Threads of one DuckDB connection."""


def catalog_settings() -> CatalogSettings:
    """The settings of the environment.

    Raises:
        UserError: for a variable with an invalid value.
    """
    try:
        return CatalogSettings()
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        variable = f"FEATLAS_{fault['loc'][0]}".upper()
        raise UserError(f"{variable} is {fault['input']!r}: {fault['msg']}") from None


def catalogue_root(uri: str | Path | None = None) -> Path:
    """Absolute root folder: ``uri``, else ``FEATLAS_CATALOG``, else ``./catalogue``.

    Raises:
        UserError: for a remote address or a folder name that SQL engines would expand.
    """
    text = str(catalog_settings().catalog if uri is None else uri)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if "://" in text:
        raise UserError(f"catalogue {text!r} is not a local folder: give a path on this machine")
    try:
        root = Path(text).expanduser().absolute()
    except RuntimeError:
        raise UserError(
            f"catalogue {text!r} is in a home folder that does not exist: check its name"
        ) from None
    if "\0" in text:
        raise UserError(f"catalogue {text!r} is not a path: it holds a null character")
    if any(character in str(root) for character in GLOB_CHARACTERS):
        raise UserError(
            f"catalogue folder {root} contains one of {GLOB_CHARACTERS!r}, which query engines expand: "
            "choose another folder"
        )
    if _ENCODED.search(str(root)):
        raise UserError(
            f"catalogue folder {root} contains a percent sign before two hexadecimal digits, which the table "
            "log takes for an encoded character: choose another folder"
        )
    return root
