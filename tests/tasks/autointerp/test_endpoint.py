"""Endpoint profiles, keys, scrubbing, the day's budget, the prompt cache."""

from pathlib import Path

import pytest

from catalog.errors import UserError
from tasks.autointerp.budget import Budget, Spend
from tasks.autointerp.chat import Stopped
from tasks.autointerp.endpoint import NO_KEY, EndpointProfile, load_api_key, load_endpoint
from tasks.autointerp.prompt_cache import PromptCache
from tasks.autointerp.scrub import scrub

LOCAL = {"FEATLAS_ENDPOINT_JUDGE_LOCAL_BASE_URL": "http://127.0.0.1:8000/v1"}
MODEL = {"FEATLAS_ENDPOINT_JUDGE_LOCAL_MODEL": "m"}


def test_environment_wins_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "featlas.toml"
    path.write_text(
        '[endpoints.judge-local]\nbase_url = "http://localhost:1/v1"\nmodel = "a"\nconcurrency = 2\n'
    )
    profile = load_endpoint("judge-local", {**MODEL, "FEATLAS_ENDPOINT_JUDGE_LOCAL_BUDGET_USD": "1.5"}, path)
    assert (profile.model, profile.concurrency, profile.budget_usd) == ("m", 2, 1.5)
    assert profile.base_url == "http://localhost:1/v1"


@pytest.mark.parametrize(
    ("toml", "environ", "said"),
    [
        ("", {}, "no endpoint profile 'judge-local'"),
        ("[endpoints.other]\nmodel='x'", {}, "known in .*: other"),
        ("", LOCAL, "model: Field required"),
        ("", {**LOCAL, **MODEL, "FEATLAS_ENDPOINT_JUDGE_LOCAL_CONCURRENCY": "many"}, "concurrency"),
        ("[endpoints.judge-local]\nmodle='x'", LOCAL, "modle"),
        ("[endpoints.judge-local]\napi_key='x'", {}, "a key does not belong in a file"),
        ("[endpoints", {}, "not valid TOML"),
        ("endpoints = 3", {}, "one table per profile"),
        ("", {**MODEL, "FEATLAS_ENDPOINT_JUDGE_LOCAL_BASE_URL": "ftp://x/v1"}, "must be http"),
        ("", {**MODEL, "FEATLAS_ENDPOINT_JUDGE_LOCAL_BASE_URL": "http://u:p@localhost/v1"}, "without a user"),
        ("", {**MODEL, "FEATLAS_ENDPOINT_JUDGE_LOCAL_BASE_URL": "http://api.example.com/v1"}, "use https"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, toml: str, environ: dict[str, str], said: str) -> None:
    path = tmp_path / "featlas.toml"
    path.write_text(toml)
    with pytest.raises(UserError, match=said):
        load_endpoint("judge-local", environ, path)


def test_name_is_checked_before_it_becomes_a_path() -> None:
    with pytest.raises(UserError, match="not a valid name"):
        load_endpoint("../x", {})


@pytest.mark.parametrize(
    ("url", "is_local"),
    [
        ("http://localhost:8000/v1", True),
        ("http://127.0.0.1/v1", True),
        ("http://[::1]:8/v1", True),
        ("http://192.168.1.7/v1", True),
        ("http://vllm:8000/v1", True),
        ("http://gpu.local/v1", True),
        ("https://api.openai.com/v1", False),
        ("https://8.8.8.8/v1", False),
        ("https://localhost.example.com/v1", False),
    ],
)
def test_local_addresses(url: str, is_local: bool) -> None:
    assert EndpointProfile(name="x", base_url=url, model="m").is_local is is_local


def test_shared_key_goes_to_nobody_else() -> None:
    shared = {"OPENAI_API_KEY": "sk-shared"}
    stranger = EndpointProfile(name="judge", base_url="https://api.example.com/v1", model="m")
    with pytest.raises(UserError, match="FEATLAS_ENDPOINT_JUDGE_API_KEY"):
        load_api_key(stranger, shared)
    assert load_api_key(stranger, {**shared, "FEATLAS_ENDPOINT_JUDGE_API_KEY": "own"}) == "own"
    assert (
        load_api_key(load_endpoint("openai", {"FEATLAS_ENDPOINT_OPENAI_MODEL": "m"}), shared) == "sk-shared"
    )
    chosen = {**shared, "OPENAI_BASE_URL": "https://api.example.com/v1/"}
    assert load_api_key(stranger, chosen) == "sk-shared"
    assert load_api_key(load_endpoint("judge-local", {**LOCAL, **MODEL}), {}) == NO_KEY


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcdefghijklmnopqrstuvwx",
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "AKIAIOSFODNN7EXAMPLE",
        "jane.doe+x@mail.example.org",
        "DE89 3704 0044 0532 0130 00",
        "GB82WEST12345698765432",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_secrets_are_blanked_out(secret: str) -> None:
    cleaned = scrub(f"before {secret} after")
    assert secret not in cleaned
    assert cleaned.startswith("before [")
    assert cleaned.endswith("] after")


def test_password_in_an_address_is_blanked_out() -> None:
    assert scrub("https://me:hunter2@example.org/x") == "https://[password]@example.org/x"


def test_code_is_left_alone() -> None:
    code = "def task_runner(self):\n    return self._sk_list[0:4] @ matrix  # AB12 sk-learn\n"
    assert scrub(code) == code


def profile(**limits: float) -> EndpointProfile:
    return EndpointProfile.model_validate(
        {"name": "x", "base_url": "http://localhost/v1", "model": "m", **limits}
    )


def test_budget_is_shared_and_never_passed(tmp_path: Path) -> None:
    first, second = (Budget(tmp_path, profile(budget_usd=1.0)) for _ in range(2))
    reservation = first.reserve(Spend(0.6, 10))
    with pytest.raises(Stopped, match="budget"):
        second.reserve(Spend(0.5, 10))
    first.settle(reservation, Spend(0.1, 5))
    second.reserve(Spend(0.5, 10))
    assert first.spent().usd == pytest.approx(0.6)
    assert first.spent().tokens == 15


def test_without_limits_nothing_is_written(tmp_path: Path) -> None:
    budget = Budget(tmp_path / "spend", profile())
    budget.settle(budget.reserve(Spend(1e9, 10**9)), Spend())
    assert not (tmp_path / "spend").exists()


def test_cache_gives_back_what_it_was_given_and_ignores_damage(tmp_path: Path) -> None:
    cache = PromptCache(tmp_path)
    key = "ab" * 32
    assert cache.get(key) is None
    cache.put(key, {"reply": "naïve \u2028"})
    assert cache.get(key) == {"key": key, "reply": "naïve \u2028"}
    (path,) = tmp_path.rglob("*.json")
    path.write_bytes(path.read_bytes()[:-3])
    assert cache.get(key) is None
