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
        ("[endpoint.judge-local]\nmodel='x'", {**LOCAL, **MODEL}, "unknown section 'endpoint'"),
        ("", {**LOCAL, **MODEL, "FEATLAS_ENDPOINT_JUDGE_LOCAL_ATEMPTS": "2"}, "LOCAL_ATEMPTS is no setting"),
        ("", {**MODEL, "FEATLAS_ENDPOINT_JUDGE_LOCAL_BASE_URL": "ftp://x/v1"}, "must be http"),
        ("", {**MODEL, "FEATLAS_ENDPOINT_JUDGE_LOCAL_BASE_URL": "http://u:p@localhost/v1"}, "without a user"),
        ("", {**MODEL, "FEATLAS_ENDPOINT_JUDGE_LOCAL_BASE_URL": "http://[::1/v1"}, "is not an address"),
        (
            "",
            {**MODEL, "FEATLAS_ENDPOINT_JUDGE_LOCAL_BASE_URL": "http://localhost:99999/v1"},
            "is not an address",
        ),
        ("", {**MODEL, "FEATLAS_ENDPOINT_JUDGE_LOCAL_BASE_URL": "http://api.example.com/v1"}, "use https"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, toml: str, environ: dict[str, str], said: str) -> None:
    path = tmp_path / "featlas.toml"
    path.write_text(toml)
    with pytest.raises(UserError, match=said):
        load_endpoint("judge-local", environ, path)


def test_variables_of_a_profile_with_a_longer_name_are_not_those_of_the_shorter(tmp_path: Path) -> None:
    path = tmp_path / "featlas.toml"
    path.write_text('[endpoints.judge]\nbase_url = "http://localhost:1/v1"\nmodel = "a"\n')
    assert load_endpoint("judge", {**LOCAL, **MODEL}, path).model == "a"
    with pytest.raises(UserError, match="JUDGE_LOCAL_MODEL is no setting of endpoint profile 'judge'"):
        load_endpoint("judge", MODEL, path)


def test_name_is_checked_before_it_becomes_a_path() -> None:
    with pytest.raises(UserError, match="not a valid name"):
        load_endpoint("../x", {})


THIS_MACHINE = (
    "http://localhost:8000/v1",
    "http://127.0.0.1/v1",
    "http://127.8.9.10:1/v1",
    "http://[::1]:8/v1",
    "http://[::ffff:127.0.0.1]/v1",
)
OTHER_MACHINES = (
    "192.168.1.7",
    "10.0.0.1",
    "169.254.169.254",
    "[fe80::1]",
    "0.0.0.0",
    "vllm:8000",
    "gpu.local",
    "metadata.google.internal",
    "134744072",
    "2130706433",
    "0x7f000001",
    "127.1",
    "localhost.example.com",
    "127.0.0.1.example.com",
    "8.8.8.8",
)


@pytest.mark.parametrize("url", THIS_MACHINE)
def test_this_machine_gets_text_as_it_is_and_the_shared_key(url: str) -> None:
    profile = load_endpoint("judge-local", {**MODEL, "FEATLAS_ENDPOINT_JUDGE_LOCAL_BASE_URL": url})
    assert profile.is_local
    assert not profile.is_scrubbed
    assert load_api_key(profile, {"OPENAI_API_KEY": "sk-shared"}) == "sk-shared"


@pytest.mark.parametrize("host", OTHER_MACHINES)
def test_another_machine_gets_https_its_own_key_and_scrubbed_text(host: str) -> None:
    environ = {**MODEL, "FEATLAS_ENDPOINT_JUDGE_LOCAL_BASE_URL": f"http://{host}/v1"}
    with pytest.raises(UserError, match="use https"):
        load_endpoint("judge-local", environ)
    environ["FEATLAS_ENDPOINT_JUDGE_LOCAL_BASE_URL"] = f"https://{host}/v1"
    profile = load_endpoint("judge-local", environ)
    assert profile.is_scrubbed
    with pytest.raises(UserError, match="FEATLAS_ENDPOINT_JUDGE_LOCAL_API_KEY"):
        load_api_key(profile, {"OPENAI_API_KEY": "sk-shared"})
    own = {"OPENAI_API_KEY": "sk-shared", "FEATLAS_ENDPOINT_JUDGE_LOCAL_API_KEY": "own"}
    assert load_api_key(profile, own) == "own"
    assert not load_endpoint(
        "judge-local", {**environ, "FEATLAS_ENDPOINT_JUDGE_LOCAL_TRUSTED": "true"}
    ).is_scrubbed


def test_shared_key_goes_to_nobody_else() -> None:
    shared = {"OPENAI_API_KEY": "sk-shared"}
    other = EndpointProfile(name="judge", base_url="https://api.example.com/v1", model="m")
    with pytest.raises(UserError, match="FEATLAS_ENDPOINT_JUDGE_API_KEY"):
        load_api_key(other, shared)
    assert load_api_key(other, {**shared, "FEATLAS_ENDPOINT_JUDGE_API_KEY": "own"}) == "own"
    assert (
        load_api_key(load_endpoint("openai", {"FEATLAS_ENDPOINT_OPENAI_MODEL": "m"}), shared) == "sk-shared"
    )
    chosen = {**shared, "OPENAI_BASE_URL": "https://api.example.com/v1/"}
    assert load_api_key(other, chosen) == "sk-shared"
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
