"""The language model that explains or judges: its name for the fingerprint, a client for the work."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.ledger import Claim
from tasks.autointerp.endpoint import load_endpoint

if TYPE_CHECKING:
    from tasks.autointerp.chat import ChatClient

CACHE_FOLDER = "_cache/llm"


def answering_model(endpoint: str | None) -> Any:
    """What answers depend on besides the question: the model of a profile, with its settings if it has any.

    None without an endpoint.

    Raises:
        UserError: for an unknown or wrong profile.
    """
    if endpoint is None:
        return None
    profile = load_endpoint(endpoint, os.environ)
    settings = profile.answer_settings
    return {"model": profile.model, **settings} if settings else profile.model


def client_of(endpoint: str | None, root: Path, claim: Claim, *, forced: bool) -> "ChatClient | None":
    """A client whose answers and spend are stored with the catalogue; None without an endpoint.

    Args:
        endpoint: Name of the profile.
        root: The catalogue.
        claim: The unit of work that pays; its scratch folder holds replies that must stay private to it.
        forced: Whether the unit is repeated on request; then unusable replies are requested again.
    """
    if endpoint is None:
        return None
    from tasks.autointerp.client import open_client

    return open_client(
        endpoint,
        environ=os.environ,
        cache_folder=root / CACHE_FOLDER,
        owner=claim.fingerprint,
        scratch=claim.scratch,
        forced=forced,
    )
