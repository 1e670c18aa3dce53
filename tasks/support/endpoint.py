"""The language model that explains or judges: its name for the fingerprint, a client for the work."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from catalog.ledger import Claim
from tasks.autointerp.endpoint import load_api_key, load_endpoint

if TYPE_CHECKING:
    from tasks.autointerp.chat import ChatClient
    from tasks.autointerp.choice import ChoiceConfig
    from tasks.support.policies import StageContext

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


def check_endpoint(config: "ChoiceConfig", *, is_limited: bool = False) -> None:
    """Check that the profile of an explainer or scorer is complete and has its key; nothing is asked.

    Args:
        config: The explainer or scorer.
        is_limited: Whether the run has a budget in USD.

    Raises:
        UserError: for an unknown or wrong profile, a missing key, or a budget in USD without prices.
    """
    if config.endpoint_name is not None:
        profile = load_endpoint(config.endpoint_name, os.environ)
        load_api_key(profile, os.environ)
        profile.check_prices(is_limited or config.budget_usd is not None)


def client_of(
    endpoint: str | None, context: "StageContext", claim: Claim, config: "ChoiceConfig | None" = None
) -> "ChatClient | None":
    """A client whose answers and spend are stored with the catalogue; None without an endpoint.

    Args:
        endpoint: Name of the profile.
        context: The catalogue, the run and what it may spend. If the stage is repeated on request, unusable
            replies are requested again.
        claim: The unit of work that pays; its scratch folder holds replies that must stay private to it.
        config: The explainer or scorer that asks, which may have a budget of its own.
    """
    if endpoint is None:
        return None
    from tasks.autointerp.budget import PurposeLimit, RunLimit
    from tasks.autointerp.client import open_client

    purpose = None
    if config is not None and (config.budget_usd, config.budget_tokens) != (None, None):
        purpose = PurposeLimit(config.tag(), config.budget_usd, config.budget_tokens)
    return open_client(
        endpoint,
        environ=os.environ,
        cache_folder=context.root / CACHE_FOLDER,
        owner=claim.fingerprint,
        scratch=claim.scratch,
        forced=claim.request.stage in context.forced,
        limit=None if context.usd is None else RunLimit(context.run_id, context.usd),
        purpose=purpose,
    )


def labelling_arguments(
    context: "StageContext", claim: Claim, config: "ChoiceConfig", position: int, ids: Mapping[str, str]
) -> dict[str, Any]:
    """Arguments that explaining and scoring have in common.

    Args:
        context: The catalogue and the run.
        claim: The unit of work.
        config: Settings of the explainer or scorer.
        position: Its position in the pipeline.
        ids: ``dictionary_id`` and ``activation_set_id``.
    """
    client = client_of(config.endpoint_name, context, claim, config)
    return {**ids, "scratch": claim.scratch, "client": client, "run_id": context.run_id, "position": position}
