"""What the import gate does with a file: read it, run models over a few tokens, judge it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.caching.corpus_tokens import check_request, pack_corpus
from tasks.activations.models.language_model import load_language_model
from tasks.activations.models.source import ModelConfig
from tasks.activations.text.packing import PackedTokens
from tasks.common.progress import Progress, ProgressListener, silent
from tasks.foreign.alternatives import read_as
from tasks.foreign.certificate import refuse_unverified
from tasks.foreign.gate import GateConfig, examine
from tasks.foreign.sample import Hookpoints, Sample, check_same_tokens, gather_sample, side_by_side
from tasks.foreign.source import ForeignSource

_SPARE = 2
"""Tokens to pack for each token wanted, because special tokens and padding do not count."""


@dataclass(frozen=True)
class Examination:
    """A foreign dictionary, and the hookpoints and models to which it is said to belong."""

    source: ForeignSource
    hookpoints: Hookpoints
    config: GateConfig
    models: tuple[ModelConfig, ...]
    """The models of the hookpoints, in their order."""
    activations: ActivationsConfig
    """How texts are packed; its hookpoints do not matter."""

    def canonical(self) -> dict[str, Any]:
        """Everything that decides the verdict, beside the texts."""
        packing = self.activations.model_copy(update={"hookpoints": self.hookpoints.reads})
        return {
            "source": self.source.described(),
            "place": [list(self.hookpoints.reads), list(self.hookpoints.writes)],
            "gate": self.config.canonical(),
            "model": "+".join(model.id for model in self.models),
            "dtype": "+".join(model.dtype for model in self.models),
            "activations": packing.canonical(),
        }

    def run(
        self,
        documents: pa.Table,
        scratch: Path,
        *,
        device: str = "auto",
        accept_unverified: bool = False,
        listener: ProgressListener = silent,
    ) -> dict[str, Any]:
        """Examine the dictionary.

        Args:
            documents: Columns document_id, split and text.
            scratch: Working folder.
            device: Where the models run.
            accept_unverified: Whether a dictionary that does not fit is let through.
            listener: Told when the sample is there, and at the end.

        Returns:
            As JSON: the certificate, and the scales, token norm and norm of the sample it was read with.

        Raises:
            UserError: when it does not fit and ``accept_unverified`` is false.
        """
        hookpoints, reading, found = self.hookpoints, self.source.reading, self.source.read()
        named = Hookpoints.of(found.reads, found.writes, hookpoints.models) if found.reads else None
        foreign = found.with_(**hookpoints._asdict())
        in_sequences = foreign.attention is not None
        sample = self._sample(documents, scratch, device, named, in_sequences=in_sequences)
        listener(Progress("import gate", 1, 2))
        certificate = examine(foreign, reading, hookpoints, sample, self.config, named)
        if not accept_unverified:
            refuse_unverified(foreign.source, certificate)
        listener(Progress("import gate", 2, 2))
        inputs = sample.inputs_of(hookpoints)
        given = read_as(foreign, reading, inputs)
        facts: dict[str, Any] = {"scale": given.scale, "token_norm": given.token_norm, "norm": None}
        facts["site_scales"] = list(given.site_scales)
        if inputs.gain_D is not None and inputs.shift_D is not None:
            facts["norm"] = [inputs.gain_D.tolist(), inputs.shift_D.tolist()]
        return {**facts, "certificate": certificate.as_json()}

    def _sample(
        self, documents: pa.Table, scratch: Path, device: str, named: Hookpoints | None, *, in_sequences: bool
    ) -> Sample:
        """A few thousand tokens, packed as they would be cached; models run one after the other."""
        n_tokens = min(_SPARE * self.config.n_tokens, self.activations.n_tokens)
        wanted = {"hookpoints": self.hookpoints.reads, "n_tokens": n_tokens}
        packing = self.activations.model_copy(update=wanted)
        packed: dict[str, PackedTokens] = {}
        samples: dict[str, Sample] = {}
        for number, model in enumerate(self.models):
            language_model = load_language_model(model, device)
            check_request(language_model.spec, packing)
            packed[model.id] = pack_corpus(language_model, documents, packing, scratch / f"tokens-{number}")
            check_same_tokens(packed)
            samples[model.id] = gather_sample(
                language_model,
                packed[model.id],
                self.hookpoints,
                self.config.n_tokens,
                named=named,
                in_sequences=in_sequences,
            )
            del language_model
        return side_by_side(samples).finite(self.hookpoints)
