"""Identity: digests, fingerprints, slugs, dictionary and feature ids.

A ``dictionary_id`` is a readable alias plus eight hex digits of its fingerprint, so that it always names
the same weights: ``pico-a/blocks.2.resid_post/topk-x8-k32-s0-1f3a9c2e``.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from catalog.errors import UserError

N_HEX = 8
_NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")
_UNSAFE_RUN = re.compile(r"[^a-z0-9._-]+")
_TAGGED = re.compile(rf"(?P<alias>.+)-(?P<tag>[0-9a-f]{{{N_HEX}}})")


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, no spaces, no NaN.

    Raises:
        ValueError: for NaN or infinite numbers.
        TypeError: for a value that JSON cannot hold.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 (64 hex digits) of ``canonical_json(value)``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def stage_fingerprint(
    stage: str,
    version: int,
    config: Mapping[str, Any],
    parents: Sequence[str] = (),
    prompt_digests: Sequence[str] = (),
) -> str:
    """The identity of what a stage computes: its name, version, config, parents' fingerprints and prompts.

    A run records the version of the code, which is never part of the fingerprint.
    """
    return digest(
        {
            "stage": stage,
            "version": version,
            "config": dict(config),
            "parents": list(parents),
            "prompts": list(prompt_digests),
        }
    )


def slug(text: str) -> str:
    """A unique name that is safe in paths and partitions: readable part + 8 hex digits."""
    readable = _UNSAFE_RUN.sub("-", text.lower()).strip("-.")[:80].rstrip("-.") or "x"
    return f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:N_HEX]}"


def check_name(name: str, what: str) -> str:
    """Return ``name`` if it is a valid id.

    Raises:
        UserError: for an empty or too long name, or one with other characters.
    """
    if _NAME_PATTERN.fullmatch(name) is None or ".." in name or "//" in name:
        raise UserError(
            f"{what} {name!r} is not a valid name: use letters, digits, '.', '_', '-' and '/', "
            "starting with a letter or digit, at most 200 characters"
        )
    return name


def tagged_id(alias: str, fingerprint: str) -> str:
    """``alias`` made unique by the first eight hex digits of ``fingerprint``."""
    return f"{check_name(alias, 'alias')}-{fingerprint[:N_HEX]}"


def alias_of(identifier: str) -> str:
    """The readable part of a tagged id; an id without a tag is its own alias."""
    match = _TAGGED.fullmatch(identifier)
    return match["alias"] if match else identifier


class FeatureRef(NamedTuple):
    """One feature as text, ``DICTIONARY#FEATURE_INDEX``; the dictionary may be an alias."""

    dictionary: str
    feature_index: int

    def __str__(self) -> str:
        return f"{self.dictionary}#{self.feature_index}"


def parse_feature(text: str) -> FeatureRef:
    """Parse ``DICTIONARY#FEATURE_INDEX``.

    Raises:
        UserError: when the text has another form.
    """
    dictionary, separator, index = text.rpartition("#")
    if not separator or not dictionary or not index.isascii() or not index.isdigit():
        raise UserError(
            f"feature {text!r} is not of the form DICTIONARY#FEATURE_INDEX, "
            "for example pico-a/blocks.2.resid_post/topk-x8-k16-s0#17"
        )
    return FeatureRef(check_name(dictionary, "dictionary"), int(index))
