"""The address that is printed is one that a browser can open."""

import pytest

from dashboards.launch import url


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", "http://127.0.0.1:8501"),
        ("0.0.0.0", "http://127.0.0.1:8501"),
        ("192.0.2.7", "http://192.0.2.7:8501"),
        ("::", "http://[::1]:8501"),
        ("2001:db8::1", "http://[2001:db8::1]:8501"),
    ],
)
def test_url_can_be_opened(address: str, expected: str) -> None:
    assert url(8501, address) == expected
