"""Absorption and splitting on the first-letter task.

A probe on the raw activations finds the direction of every first letter, and a few latents are selected for
it. On the tokens that the probe classifies correctly, the suite counts how often those latents are silent
while others, which represent single words, carry the letter. Definitions in `tasks.evaluation.absorption`.

- ``first_letter_probe_f1``: what can be found; its null ``shuffled_words`` assigns letters to words at
random,
  so it measures what a probe reaches by memorising words.
- ``first_letter_sparse_f1``: probes on the first latent (``k1``) and on the main latents (``main``).
- ``absorption_fraction``, ``absorption_full``, ``split_latents``: mean over letters, and by letter. Letters
  whose probe has an F1 of ``min_probe_f1`` or less are left out of the means, as in SAEBench
  (there ``min_GT_probe_f1``, 0.6 as well). SAEBench also gives no result below 20 such letters
  (``min_feats_for_eval``); here the note of a mean gives the number of letters.

The control of the last two groups is a random dictionary of the same width and k. Intervals are over words
(`tasks.evaluation.word_shares`); ``split_latents`` has none, because it is the outcome of a search.

Shapes: N tokens, C letters, L latents.
"""

from collections.abc import Set
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from tasks.common.progress import Progress, ProgressListener, silent, track
from tasks.dictionaries.base import Dictionary
from tasks.evaluation.absorption import absorption, main_latents
from tasks.evaluation.letters import LetterTokens, letter_tokens, one_hot, shuffled_by_word, usual_letters
from tasks.evaluation.probe import Probe, fit_probe, largest_mean_differences
from tasks.evaluation.suite import SUITES, Metric, Subject, Suite, SuiteConfig, Unmeasurable
from tasks.evaluation.tokens import encoded, fit_controls, refuse_unlike_output
from tasks.evaluation.word_shares import UNIT, Score, Words, f1_of, mean_of, mean_score

PROBE, SPARSE = "first_letter_probe_f1", "first_letter_sparse_f1"
FRACTION, FULL, SPLIT = "absorption_fraction", "absorption_full", "split_latents"
_ENCODE_VALUES = 2**24
ByLetter = dict[str, dict[str, Score]]


class FirstLetterConfig(SuiteConfig):
    """Which word-initial tokens are used."""

    suite: Literal["first_letter"] = "first_letter"
    max_tokens: int = Field(default=400_000, ge=1)
    """Maximum number of tokens to search for starts of words, in each split."""
    max_words: int = Field(default=6_000, ge=20)
    """Maximum number of word-initial tokens to use, in each split."""
    per_word: int = Field(default=20, ge=1)
    """Maximum number of tokens with the same text to use, in each split."""
    min_letters: int = Field(default=2, ge=1)
    """Minimum number of letters of a token: a single letter gives no information."""
    min_tokens: int = Field(default=20, ge=5)
    """Minimum number of tokens of a letter in both splits."""
    min_words: int = Field(default=4, ge=1)
    """Minimum number of different words of a letter in the train split."""
    min_probe_f1: float = Field(default=0.6, ge=0, le=1)
    """A letter whose raw probe is not better is left out of means: what the probe misses is not absorbed."""
    max_main: int = Field(default=10, ge=1)
    """Maximum number of main latents of a letter."""


@SUITES.register("first_letter")
class FirstLetter(Suite):
    """Counted in eval tokens that the probe classifies correctly."""

    purpose = "measures absorption and splitting of latents for the first letter of words"
    version: ClassVar[int] = 3
    reads: ClassVar[frozenset[str]] = frozenset({"texts"})
    config: FirstLetterConfig

    def headline(self) -> tuple[tuple[str, str], ...]:
        return ((PROBE, ""), (SPARSE, "k1"), (SPARSE, "main"), (FRACTION, ""), (FULL, ""), (SPLIT, ""))

    def measure(self, subject: Subject, listener: ProgressListener = silent) -> list[Metric]:
        refuse_unlike_output(subject.dictionary)
        train, test, letters = self._tokens(subject, listener)
        y_NC, test_y_NC = one_hot(train.letters, letters), one_hot(test.letters, letters)
        probe = fit_probe(train.x_ND.numpy(), y_NC)
        listener(Progress("probes fitted", 1, 1))
        by_letter = dict(zip(letters, _f1_by_letter(probe, test, test_y_NC), strict=True))
        null = {"shuffled_words": self._null(train, test, letters)}
        probe_f1, _, interval = mean_score(list(by_letter.values()))
        metrics = [Metric(PROBE, "", probe_f1, len(test.words), null, interval=interval, unit=UNIT)]
        random = fit_controls(subject.dictionary, subject.activations, self.config.seed, listener).random
        sides = [
            self._by_letter(dictionary, probe, (train, y_NC), (test, test_y_NC), letters, listener)
            for dictionary in (subject.dictionary, random)
        ]
        good = {letter for letter, f1 in by_letter.items() if f1.value > self.config.min_probe_f1}
        metrics += [
            Metric(PROBE, letter, f1.value, f1.n, null, interval=f1.interval(), unit=UNIT)
            for letter, f1 in by_letter.items()
        ]
        return metrics + _metrics(sides[0], sides[1], good)

    def _tokens(
        self, subject: Subject, listener: ProgressListener
    ) -> tuple[LetterTokens, LetterTokens, list[str]]:
        config = self.config
        parts = [
            letter_tokens(
                subject.activations,
                subject.texts,
                split,
                config.max_tokens,
                config.per_word,
                config.min_letters,
                listener,
            )
            for split in ("train", "eval")
        ]
        letters = usual_letters(parts[0], parts[1], config.min_tokens, config.min_words)
        if len(letters) < 2:
            raise Unmeasurable(
                f"fewer than two letters begin {config.min_tokens} tokens of both splits and "
                f"{config.min_words} different words"
            )
        train, test = (_limited(part, letters, config.max_words) for part in parts)
        return train, test, usual_letters(train, test, 1, 1)

    def _null(self, train: LetterTokens, test: LetterTokens, letters: list[str]) -> float | None:
        """F1 of a probe for randomly assigned letters; None if a letter has no token in a split."""
        letter_of = shuffled_by_word([*train.words, *test.words], self.config.seed)
        y_NC, test_y_NC = (
            one_hot([letter_of(word) for word in part.words], letters) for part in (train, test)
        )
        dealt_C = y_NC.any(axis=0) & test_y_NC.any(axis=0)
        if not dealt_C.any():
            return None
        probe = fit_probe(train.x_ND.numpy(), y_NC[:, dealt_C])
        return mean_score(_f1_by_letter(probe, test, test_y_NC[:, dealt_C]))[0]

    def _by_letter(
        self,
        dictionary: Dictionary,
        probe: Probe,
        train: tuple[LetterTokens, NDArray[np.bool_]],
        test: tuple[LetterTokens, NDArray[np.bool_]],
        letters: list[str],
        listener: ProgressListener,
    ) -> ByLetter:
        codes, test_codes = (_codes(dictionary, part[0].x_ND) for part in (train, test))
        y = train[1].astype(np.float64)
        order_LC = largest_mean_differences(
            np.asarray(codes.T @ y), y.sum(axis=0), np.asarray(codes.sum(axis=0)).ravel(), len(y), signed=True
        )
        right_NC = probe.predict(test[0].x_ND.numpy()) & test[1]
        offset = dictionary.b_dec.detach().float().cpu()
        words = Words.of(test[0].words)
        result: ByLetter = {}
        for c, letter in track(enumerate(letters), "letters probed", listener, len(letters)):
            chosen = order_LC[: self.config.max_main, c]
            columns, test_columns = (part[:, chosen].toarray() for part in (codes, test_codes))
            n_main, answers = main_latents(columns, train[1][:, c], test_columns, test[1][:, c])
            right_N = right_NC[:, c]
            n = int(right_N.sum())
            values = {SPLIT: Score(float(n_main), n)}
            for key, answers_N in (("k1", answers[0]), ("main", answers[n_main - 1])):
                values[key] = f1_of(words, answers_N, test[1][:, c], n)
            if n:
                x_ND = (test[0].x_ND[torch.from_numpy(right_N)] - offset).numpy()
                directions = dictionary.W_dec.detach().float().cpu().numpy()
                found = absorption(
                    test_codes[right_N].toarray(), directions, x_ND, probe.weights[:, c], chosen[:n_main]
                )
                for key, of_right in ((FRACTION, found.fraction_N), (FULL, found.full_N)):
                    values_N = np.zeros(len(right_N))
                    values_N[right_N] = of_right
                    values[key] = mean_of(words, values_N, right_N)
            result[letter] = values
        return result


def _limited(part: LetterTokens, letters: list[str], n: int) -> LetterTokens:
    """Tokens of these letters, at most ``n``, spread evenly."""
    keep = [i for i, letter in enumerate(part.letters) if letter in letters]
    if len(keep) > n:
        keep = [keep[i] for i in np.linspace(0, len(keep) - 1, n).round().astype(int)]
    return part.take(keep)


def _codes(dictionary: Dictionary, x_ND: torch.Tensor) -> Any:
    """Sparse codes (N, L), float64."""
    step = max(_ENCODE_VALUES // dictionary.d_sae, 1)
    parts = [sparse.csr_matrix(encoded(dictionary, part).numpy()) for part in torch.split(x_ND, step)]
    return sparse.vstack(parts).tocsr().astype(np.float64)


def _f1_by_letter(probe: Probe, test: LetterTokens, y_NC: NDArray[np.bool_]) -> list[Score]:
    predicted_NC, words = probe.predict(test.x_ND.numpy()), Words.of(test.words)
    n = len(test.words)
    return [f1_of(words, predicted_NC[:, c], y_NC[:, c], n) for c in range(y_NC.shape[1])]


def _metrics(own: ByLetter, random: ByLetter, good: Set[str]) -> list[Metric]:
    """Means over the letters in ``good``, and every letter on its own."""
    names = {"k1": (SPARSE, "k1"), "main": (SPARSE, "main")}
    names |= {name: (name, "") for name in (FRACTION, FULL, SPLIT)}
    metrics = []
    for key, (metric, variant) in names.items():
        value, n, interval = mean_score(_scores(own, key, good))
        note = f"mean over {len(good)} of {len(own)} letters: the others have a poor probe"
        if value is None:
            note = "the probe is good for no letter" if not good else "the probe calls no eval token right"
        control = {"random": mean_score(_scores(random, key, good))[0]}
        metrics.append(Metric(metric, variant, value, n, control, note, interval=interval, unit=UNIT))
        if not variant:
            metrics += [
                _of_letter(metric, letter, values[key], random[letter].get(key))
                for letter, values in own.items()
                if key in values
            ]
    return metrics


def _scores(letters: ByLetter, key: str, good: Set[str]) -> list[Score]:
    """The values of the good letters that have one."""
    return [entry[key] for letter, entry in letters.items() if key in entry and letter in good]


def _of_letter(metric: str, letter: str, own: Score, random: Score | None) -> Metric:
    control = {"random": random.value if random else None}
    return Metric(metric, letter, own.value, own.n, control, interval=own.interval(), unit=UNIT)
