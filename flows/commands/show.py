"""``featlas show``: print the card of one feature in the terminal."""

from typing import TYPE_CHECKING, Any

from catalog import queries
from catalog.connection import connect
from catalog.damage import naming_damaged_files
from catalog.errors import UserError
from catalog.ids import parse_feature, slug
from catalog.resolve import resolve_dictionary
from catalog.schemas import feature_block
from catalog.settings import catalogue_root
from catalog.store import TableStore
from flows.commands.quality import above_chance

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

N_EXAMPLES = 8
N_MATCHES = 3
N_LOGITS = 6
N_SHARES = 8


def show_command(feature: str, catalogue: str | None) -> None:
    """Print label, score, statistics, top contexts and matches of a feature.

    Raises:
        UserError: for a malformed name, an unknown dictionary, or a feature that the dictionary does not
            have.
    """
    root = catalogue_root(catalogue)
    wanted = parse_feature(feature)
    snapshot = TableStore(root).snapshot()
    with naming_damaged_files(root), connect(root, snapshot=snapshot) as connection:
        dictionary_id = resolve_dictionary(connection, wanted.dictionary)
        key: Any = {"dictionary_id": dictionary_id, "feature_index": wanted.feature_index}
        cards = queries.feature(**key).read(connection).to_pylist()
        if not cards:
            raise UserError(
                f"dictionary {dictionary_id} has no mined feature {wanted.feature_index}: "
                "choose a smaller index, or run the mining stage"
            )
        block = feature_block(wanted.feature_index)
        files = snapshot.paths("examples", dictionary_slug=slug(dictionary_id), feature_block=block)
        labels = queries.feature_explanations(**key).read(connection).to_pylist()
        known = queries.dictionaries().read(connection).to_pylist()
        (row,) = [one for one in known if one["dictionary_id"] == dictionary_id]
        mined = queries.feature_examples(
            **key, activation_set_id=cards[0]["activation_set_id"], files=files or None
        )
        examples = mined.read(connection).to_pylist()
        matches = _matches(connection, key)
    print(
        "\n".join(
            [
                *_head(cards[0]),
                f"  labels    {above_chance(row)}",
                *_tokens(cards[0], labels),
                *_contexts(examples),
                *_partners(matches),
            ]
        )
    )


def _head(card: dict[str, Any]) -> list[str]:
    lines = [f"{card['dictionary_id']}#{card['feature_index']}   {card['status']}"]
    lines.append(f"  label     {visible(card['label']) if card['label'] else 'none yet'}")
    if card["is_stale"]:
        lines.append("            to be explained again: a document of its evidence was forgotten")
    if card["score"] is not None:
        interval = "" if card["ci_low"] is None else f" [{card['ci_low']:.2f}, {card['ci_high']:.2f}]"
        chance = "" if card["chance"] is None else f", chance {card['chance']:.2f}"
        chance += {True: "", False: ", not above chance", None: ", chance not known"}[card["above_chance"]]
        floors = " and ".join(floor.replace("_", " ") for floor in card["floors_not_above"])
        chance += f", not above {floors}" if card["above_chance"] and floors else ""
        chance += ", above all floors" if card["verdict"] == "above all floors" else ""
        lines.append(
            f"  score     {card['score']:.2f}{interval}{chance} ({card['scorer']}, {card['variant']})"
        )
    largest = "-" if card["max_activation"] is None else f"{card['max_activation']:.3g}"
    lines.append(f"  fires on  {card['n_tokens']:,} tokens ({card['density']:.3%}), at most {largest}")
    for name, title in (("top_logits", "raises"), ("bottom_logits", "lowers")):
        tokens = "  ".join(visible(logit["token"]) for logit in card[name][:N_LOGITS])
        lines.append(f"  {title}    {tokens or '-'}")
    return lines


def _tokens(card: dict[str, Any], labels: list[dict[str, Any]]) -> list[str]:
    """The tokens behind the label, with their share of the activation mass."""
    own = (row["token_shares"] for row in labels if row["explanation_id"] == card["explanation_id"])
    shares = (next(own, None) or [])[:N_SHARES]
    shown = "  ".join(f"{visible(one['token'])} {one['share']:.0%}".replace("%", " %") for one in shares)
    return [f"  tokens    {shown}"] if shown else []


def _contexts(examples: list[dict[str, Any]]) -> list[str]:
    top = [example for example in examples if example["band"] == "top"][:N_EXAMPLES]
    lines = ["  strongest contexts"] if top else ["  no contexts: the feature never fired"]
    for example in top:
        peak, tokens = example["peak_position"], example["tokens"]
        before, after = "".join(tokens[:peak]), "".join(tokens[peak + 1 :])
        shown = visible(tokens[peak]) or "a token without text"
        marked = f"{visible(before)[-40:]:>40} [{shown}] {visible(after)[:40]}"
        lines.append(f"  {example['max_activation']:8.3g} {marked}")
    return lines


def _matches(connection: "DuckDBPyConnection", key: Any) -> list[dict[str, Any]]:
    """The best matches, each with its label."""
    matches = queries.feature_matches(**key, limit=N_MATCHES).read(connection).to_pylist()
    features = {
        "dictionary_ids": [match["dictionary_id"] for match in matches],
        "feature_indices": [match["feature_index"] for match in matches],
    }
    named = queries.labels(**features).read(connection).to_pylist()
    labels = {(one["dictionary_id"], one["feature_index"]): one["label"] for one in named}
    return [{**m, "label": labels.get((m["dictionary_id"], m["feature_index"]))} for m in matches]


def _partners(matches: list[dict[str, Any]]) -> list[str]:
    lines = ["  matches"] if matches else []
    for match in matches:
        q_value = "" if match["q_value"] is None else f" q {match['q_value']:.3f}"
        name = f"{match['dictionary_id']}#{match['feature_index']}"
        lines.append(f"    {match['score']:.2f}{q_value} {match['verdict']:<9} {name} {match['label'] or ''}")
    return lines


def visible(text: str) -> str:
    """Text on one line: control, bidi and zero-width characters as escapes, outer spaces as dots."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    inner = shown.strip(" ")
    if not inner:
        return "·" * len(shown)
    start = len(shown) - len(shown.lstrip(" "))
    end = len(shown) - len(shown.rstrip(" "))
    return "·" * min(start, 1) + inner + "·" * min(end, 1)
