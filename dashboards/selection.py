"""The content of a page, read from and written to its address; every value from an address is checked."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal, Self, cast, get_args

from catalog.errors import UserError
from catalog.ids import check_name, parse_feature
from catalog.queries import Sort
from catalog.schemas import FeatureStatus

Matched = Literal["any", "yes", "no"]

PAGE_ROWS = 50
LAST_PAGE = 100_000
LARGEST_INDEX = 2**31 - 1
LONGEST_TEXT = 200
NUMBER = re.compile(r"#([0-9]{1,12})")
EXAMPLE = re.compile(r"([a-z0-9_]{1,20}-\d{1,6})?")
DENSITIES = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def _name(query: Mapping[str, str], key: str) -> str | None:
    value = query.get(key, "")
    return check_name(value, key) if value else None


def _whole(query: Mapping[str, str], key: str, default: int, largest: int) -> int:
    value = query.get(key, "")
    if not value:
        return default
    if not (value.isascii() and value.isdigit()) or int(value) > largest:
        raise UserError(f"{key}={value!r} in the address is not a whole number from 0 to {largest}")
    return int(value)


def _share(query: Mapping[str, str], key: str, default: float) -> float:
    value = query.get(key, "")
    try:
        share = float(value) if value else default
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise UserError(f"{key}={value!r} in the address is not a number from 0 to 1")
    return share


def _choice(query: Mapping[str, str], key: str, allowed: tuple[str, ...], default: str) -> str:
    value = query.get(key, "") or default
    if value not in allowed:
        raise UserError(f"{key}={value!r} in the address is not one of {', '.join(allowed)}")
    return value


@dataclass(frozen=True, slots=True)
class BrowseSelection:
    """Filters, order and page of the browse page; the defaults are left out of its address."""

    q: str = ""
    token: str = ""
    model: str | None = None
    dictionary: str | None = None
    status: str = "any"
    density_low: float = 0.0
    density_high: float = 1.0
    score: float = 0.0
    matched: Matched = "any"
    sort: Sort = "score"
    page: int = 1

    @classmethod
    def from_url(cls, query: Mapping[str, str]) -> Self:
        """Read an address.

        Raises:
            UserError: for a value that the page cannot show.
        """
        return cls(
            q=query.get("q", "")[:LONGEST_TEXT],
            token=query.get("token", "")[:LONGEST_TEXT],
            model=_name(query, "model"),
            dictionary=_name(query, "dictionary"),
            status=_choice(query, "status", ("any", *get_args(FeatureStatus)), "any"),
            density_low=_share(query, "density_low", 0.0),
            density_high=_share(query, "density_high", 1.0),
            score=_share(query, "score", 0.0),
            matched=cast(Matched, _choice(query, "matched", get_args(Matched), "any")),
            sort=cast(Sort, _choice(query, "sort", get_args(Sort), "score")),
            page=max(1, _whole(query, "page", 1, LAST_PAGE)),
        )

    def to_url(self) -> dict[str, str]:
        """The parameters of the address, defaults left out."""
        defaults = {field.name: field.default for field in fields(self)}
        return {
            name: f"{value:g}" if isinstance(value, float) else str(value)
            for name, value in asdict(self).items()
            if value != defaults[name] and value is not None
        }

    @property
    def number(self) -> int | None:
        """The feature that a search for ``#73`` refers to."""
        found = NUMBER.fullmatch(self.q.strip())
        return int(found[1]) if found and int(found[1]) <= LARGEST_INDEX else None

    @property
    def words(self) -> tuple[str, ...]:
        """Search words in lower case; none if the search is a number."""
        return () if self.number is not None else tuple(self.q.lower().split())


@dataclass(frozen=True, slots=True)
class FeatureSelection:
    """One feature; the dictionary may be an alias."""

    dictionary: str
    feature_index: int
    activation_set: str | None = None
    example: str | None = None

    @classmethod
    def from_url(cls, query: Mapping[str, str]) -> Self | None:
        """Read an address; ``None`` if it names no feature.

        Raises:
            UserError: for a malformed dictionary, feature or activation set.
        """
        dictionary = query.get("dictionary", "")
        if not dictionary:
            return None
        if "#" in dictionary:
            reference = parse_feature(dictionary)
            named, index = reference.dictionary, _limited(reference.feature_index)
        else:
            named, index = check_name(dictionary, "dictionary"), _whole(query, "feature", 0, LARGEST_INDEX)
        example = query.get("example", "")
        if not EXAMPLE.fullmatch(example):
            raise UserError(f"example={example!r} in the address is not a band and a rank, such as top-3")
        return cls(named, index, _name(query, "set"), example or None)


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison: a dictionary, or one of its features."""

    dictionary: str
    feature_index: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``DICTIONARY`` or ``DICTIONARY#FEATURE_INDEX``.

        Raises:
            UserError: for any other form.
        """
        if "#" in text:
            reference = parse_feature(text)
            return cls(reference.dictionary, _limited(reference.feature_index))
        return cls(check_name(text, "dictionary"))

    @property
    def text(self) -> str:
        """The form that ``parse`` reads."""
        return self.dictionary if self.feature_index is None else f"{self.dictionary}#{self.feature_index}"


@dataclass(frozen=True, slots=True)
class CompareSelection:
    """Two sides to compare; either may still be missing."""

    a: Side | None = None
    b: Side | None = None

    @classmethod
    def from_url(cls, query: Mapping[str, str]) -> Self:
        """Read an address.

        Raises:
            UserError: for a malformed side.
        """
        sides = [Side.parse(query[key]) if query.get(key) else None for key in ("a", "b")]
        return cls(*sides)

    def to_url(self) -> dict[str, str]:
        """The parameters of the address."""
        return {key: side.text for key, side in (("a", self.a), ("b", self.b)) if side}


@dataclass(frozen=True, slots=True)
class ChangeSelection:
    """A comparison by its dictionary, both sets and its name; what is missing is open."""

    dictionary: str | None = None
    a: str | None = None
    b: str | None = None
    comparison: str = ""

    @classmethod
    def from_url(cls, query: Mapping[str, str]) -> Self:
        """Read an address.

        Raises:
            UserError: for a malformed dictionary or activation set.
        """
        dictionary, a, b = (_name(query, key) for key in ("dictionary", "a", "b"))
        return cls(dictionary, a, b, query.get("comparison", "")[:LONGEST_TEXT])

    def to_url(self) -> dict[str, str]:
        """The parameters of the address, what is open left out."""
        return {name: value for name, value in asdict(self).items() if value}


def _limited(feature_index: int) -> int:
    if feature_index > LARGEST_INDEX:
        raise UserError(f"feature index {feature_index} is larger than {LARGEST_INDEX}")
    return feature_index
