"""Endpoint profiles: the address of a language model, its limits and prices. Never in a pipeline file.

A profile ``judge-local`` comes from the table ``[endpoints.judge-local]`` of ``featlas.toml`` and from
variables ``FEATLAS_ENDPOINT_JUDGE_LOCAL_BASE_URL``, ``..._MODEL`` and so on, which take precedence. The key
is ``FEATLAS_ENDPOINT_JUDGE_LOCAL_API_KEY``, or ``OPENAI_API_KEY`` for OpenAI itself and for this machine.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from catalog.errors import UserError
from tasks.autointerp.addresses import address_fault, is_loopback
from tasks.common.config import StrictConfig
from tasks.common.plain_files import parse_yaml, read_toml

OPENAI_URL = "https://api.openai.com/v1"
NO_KEY = "no-key"
TokenLimit = Literal["max_tokens", "max_completion_tokens", "none"]
ResponseFormat = Literal["json_schema", "json_object", "none"]
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


class EndpointProfile(StrictConfig):
    """An OpenAI-compatible endpoint and its limits."""

    name: str
    """Name by which pipelines refer to the profile."""
    base_url: str
    """Address up to and including the version, for example http://127.0.0.1:8000/v1."""
    model: str
    """Name of the model at the endpoint."""
    concurrency: int = Field(default=4, ge=1, le=256)
    """Maximum number of concurrent questions."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    """Requests per minute, if the endpoint limits them."""
    deadline_seconds: float = Field(default=120.0, gt=0)
    """Longest time for one question with all tries; long waits that the endpoint asks for are not counted."""
    attempt_seconds: float = Field(default=60.0, gt=0)
    """Longest time for one request."""
    attempts: int = Field(default=4, ge=1)
    """Requests per question before it counts as failed."""
    max_wait_seconds: float = Field(default=900.0, ge=0)
    """Longest wait within a stage; for a longer one the run continues with other work and returns later."""
    max_parked_seconds: float = Field(default=21_600.0, ge=0)
    """Longest wait after which a run returns to the stage; after a longer one the next run continues."""
    max_body_bytes: int = Field(default=4_000_000, ge=1_000)
    """Largest reply to read."""
    breaker_errors: int = Field(default=20, ge=1)
    """Failed questions in a row after which the stage stops."""
    input_usd_per_million: float = Field(default=0.0, ge=0)
    """Price of a million tokens sent."""
    output_usd_per_million: float = Field(default=0.0, ge=0)
    """Price of a million tokens received."""
    budget_usd: float | None = Field(default=None, ge=0)
    """Spending limit for this endpoint in one UTC day."""
    budget_tokens: int | None = Field(default=None, ge=0)
    """Limit on tokens, sent and received, in one UTC day."""
    probe: bool = True
    """Test once per stage whether the endpoint enforces a reply schema."""
    token_limit: TokenLimit = "max_tokens"
    """Parameter that limits a reply; learnt if the endpoint refuses it."""
    response_format: ResponseFormat = "json_schema"
    """How to request the form of a reply; with none the prompt describes it. Learnt as well."""
    reasoning_tokens: int = Field(default=0, ge=0)
    """Tokens added to every limit, for a model that thinks before it answers; learnt as well."""
    temperature: float | None = Field(default=None, ge=0)
    """Temperature; default: 0, or the endpoint's own if it refuses that."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further fields of every request, for example {reasoning_effort = "low"}."""
    trusted: bool = False
    """Send text to this remote endpoint unchanged, without blanking out secrets and personal data."""

    @property
    def is_local(self) -> bool:
        """Whether text sent there stays on this machine (`addresses.is_loopback`)."""
        return is_loopback(self.base_url)

    @property
    def is_scrubbed(self) -> bool:
        """Whether secrets and personal data are blanked out before text is sent there."""
        return not (self.is_local or self.trusted)

    @property
    def answer_settings(self) -> dict[str, Any]:
        """Settings that answers depend on besides model and question, if they differ from the default."""
        chosen = {"temperature": self.temperature, "extra_body": self.extra_body or None}
        return {name: value for name, value in chosen.items() if value is not None}

    def check_prices(self, is_limited: bool) -> None:
        """Refuse a limit in USD at a remote endpoint whose prices are unknown.

        Args:
            is_limited: Whether something other than the profile sets such a limit.

        Raises:
            UserError: naming the prices to set.
        """
        has_prices = self.input_usd_per_million or self.output_usd_per_million
        if not has_prices and not self.is_local and (is_limited or self.budget_usd is not None):
            raise UserError(
                f"endpoint profile {self.name!r} has no prices, so a budget in USD cannot hold: set "
                "input_usd_per_million and output_usd_per_million, or limit budget_tokens instead"
            )

    def cost_usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Price of a call."""
        total = prompt_tokens * self.input_usd_per_million + completion_tokens * self.output_usd_per_million
        return total / 1e6


def endpoint_names(environ: Mapping[str, str], config_path: Path = Path("featlas.toml")) -> list[str]:
    """Names of the profiles in the file and of those that the environment gives a base URL."""
    pattern = re.compile(r"FEATLAS_ENDPOINT_([A-Z0-9_]+)_BASE_URL")
    matches = (pattern.fullmatch(name) for name in environ)
    named = {match[1].lower().replace("_", "-") for match in matches if match}
    return sorted(named | set(_from_file(config_path)))


def load_endpoint(
    name: str, environ: Mapping[str, str], config_path: Path = Path("featlas.toml")
) -> EndpointProfile:
    """The profile ``name`` from the file and the environment.

    Raises:
        UserError: for an unknown, incomplete or wrong profile.
    """
    if _NAME.fullmatch(name) is None:
        raise UserError(f"endpoint {name!r} is not a valid name: use lower-case letters, digits and '-'")
    known = _from_file(config_path)
    _refuse_unknown_variables(name, {*known, *endpoint_names(environ, config_path)}, environ)
    fields: dict[str, Any] = dict(known.get(name, {}))
    for field, info in EndpointProfile.model_fields.items():
        variable = f"{_prefix(name)}{field.upper()}"
        if variable in environ and field != "name":
            fields[field] = _from_variable(variable, environ[variable], info.annotation)
    if name == "openai":
        fields.setdefault("base_url", environ.get("OPENAI_BASE_URL", OPENAI_URL))
    if not fields:
        names = ", ".join(sorted(known)) or "none"
        raise UserError(
            f"no endpoint profile {name!r} (known in {config_path}: {names}): add [endpoints.{name}] with "
            f"base_url and model, or set {_prefix(name)}BASE_URL and {_prefix(name)}MODEL"
        )
    try:
        profile = EndpointProfile.model_validate({**fields, "name": name})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"endpoint profile {name!r}: {where}: {first['msg']}") from None
    _check_url(profile)
    return profile


def load_api_key(profile: EndpointProfile, environ: Mapping[str, str]) -> str:
    """The key to send; an endpoint on this machine may need none.

    ``OPENAI_API_KEY`` is sent only to OpenAI, ``OPENAI_BASE_URL`` and this machine.

    Raises:
        UserError: when a remote endpoint has no key.
    """
    own = environ.get(f"{_prefix(profile.name)}API_KEY")
    if own:
        return own
    shared = environ.get("OPENAI_API_KEY")
    trusted = (OPENAI_URL, environ.get("OPENAI_BASE_URL", OPENAI_URL))
    is_openai = profile.base_url.rstrip("/") in (url.rstrip("/") for url in trusted)
    if shared and (profile.is_local or is_openai):
        return shared
    if profile.is_local:
        return NO_KEY
    raise UserError(
        f"endpoint profile {profile.name!r} has no key: set {_prefix(profile.name)}API_KEY "
        "(any value, if it needs none); OPENAI_API_KEY is for OpenAI, OPENAI_BASE_URL and this machine"
    )


def _refuse_unknown_variables(name: str, names: Iterable[str], environ: Mapping[str, str]) -> None:
    """Refuse a variable of the profile that sets nothing, such as one with a spelling mistake.

    Raises:
        UserError: naming the variable and the settings there are.
    """
    settings = [field.upper() for field in EndpointProfile.model_fields if field != "name"]
    others = tuple(_prefix(other) for other in names if _prefix(other).startswith(_prefix(name)))
    others = tuple(prefix for prefix in others if prefix != _prefix(name))
    for variable in sorted(environ):
        setting = variable.removeprefix(_prefix(name))
        if setting == variable or variable.startswith(others) or setting in (*settings, "API_KEY"):
            continue
        raise UserError(
            f"{variable} is no setting of endpoint profile {name!r}: settings are API_KEY, "
            f"{', '.join(settings)}"
        )


def _prefix(name: str) -> str:
    return f"FEATLAS_ENDPOINT_{name.upper().replace('-', '_')}_"


def _from_variable(variable: str, text: str, annotation: Any) -> Any:
    """The text itself if the field takes text, else its value as YAML."""
    try:
        TypeAdapter(annotation).validate_python(text, strict=True)
    except ValidationError:
        return parse_yaml(text, variable)
    return text


def _from_file(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        return {}
    content = read_toml(path)
    unknown = sorted(set(content) - {"endpoints"})
    if unknown:
        raise UserError(f"{path} has an unknown section {unknown[0]!r}: it holds [endpoints.NAME]")
    endpoints = content.get("endpoints", {})
    if not isinstance(endpoints, dict) or not all(isinstance(v, dict) for v in endpoints.values()):
        raise UserError(f"{path}: 'endpoints' must hold one table per profile, for example [endpoints.judge]")
    if any("api_key" in fields for fields in endpoints.values()):
        raise UserError(
            f"{path}: a key does not belong in a file: set FEATLAS_ENDPOINT_<NAME>_API_KEY instead"
        )
    return endpoints


def _check_url(profile: EndpointProfile) -> None:
    fault = address_fault(profile.base_url)
    if fault is not None:
        raise UserError(f"endpoint profile {profile.name!r}: base_url {profile.base_url!r} {fault}")
