"""The language model that explains or judges: its name for the fingerprint, a client for the work."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from catalog.ledger import Claim
from tasks.autointerp.endpoint import load_endpoint

if TYPE_CHECKING:
    from tasks.autointerp.chat import ChatClient

CACHE_FOLDER = "_cache/llm"


def answering_model(endpoint: str | None) -> str | None:
    """The model behind an endpoint profile, which the answers depend on; None without an endpoint.

    Raises:
        UserError: for an unknown or wrong profile.
    """
    return None if endpoint is None else load_endpoint(endpoint, os.environ).model


def client_of(endpoint: str | None, root: Path, claim: Claim, *, forced: bool) -> "ChatClient | None":
    """A client that keeps its answers and accounts with the catalogue; None without an endpoint.

    Args:
        endpoint: Name of the profile.
        root: The catalogue.
        claim: The unit of work that pays; its scratch folder keeps what nobody else should see again.
        forced: Whether the unit is done again on request: replies that were no use are asked for again.
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
