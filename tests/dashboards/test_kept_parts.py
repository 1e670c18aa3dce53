"""The curve of accuracy that labelled features keep."""

import json

from dashboards.components.kept_parts import kept_curves
from tests.dashboards.test_association_parts import bars, words

CONTROL = json.dumps({"random_latents": 0.61, "all_latents": 0.95, "shuffled": 0.55})


def row(variant: str, value: float | None) -> dict[str, object]:
    return {"metric": "accuracy_kept", "variant": variant, "value": value, "control": CONTROL}


def test_a_curve_for_each_label_in_the_order_of_numbers() -> None:
    rows = [row("kind:m16", 1.02), row("kind:m2", 0.8), row("<b>topic</b>:m1", 0.7), row("topic", None)]
    first, second = kept_curves(rows)
    assert [dict(bar.attributes)["style"] for bar in bars(first)] == ["width:80.0%", "width:100.0%"]
    assert "random 61 %, best of all 95 %, shuffled labels 55 %" in words(first)
    assert "2 features" in words(first)
    assert "document label <b>topic</b>" in words(second)
    assert list(kept_curves([])) == []
