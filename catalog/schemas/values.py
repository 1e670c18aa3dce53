"""The allowed strings of enumerated columns, shared by configurations, tables and checks."""

from typing import Literal

RunState = Literal["running", "completed", "failed", "cancelled", "crashed"]
StageState = Literal["committed", "failed", "cancelled", "lost"]
Split = Literal["train", "eval"]
FeatureStatus = Literal["alive", "unseen", "dense"]
ExampleSplit = Literal["explain", "score"]
ExplanationStatus = Literal["ok", "invalid", "refused", "truncated", "filtered", "error", "withdrawn"]
CallOutcome = Literal["ok", "invalid", "refused", "truncated", "filtered", "error"]
UnitType = Literal["latent", "neuron", "factor", "direction"]
Origin = Literal["trained", "imported", "baseline"]
Verdict = Literal["same", "split", "merged", "absorbed", "unmatched"]
ConceptEvent = Literal["born", "kept", "split", "merged", "died"]
Negatives = Literal["random", "neighbour", "mixed", "wrong_tokens"]
AnsweredBy = Literal["answer", "logprob", "measure"]
Geometry = Literal["constructive", "interference"]
ComparisonKind = Literal["models", "labels", "corpora", "growth"]
ScoreFloor = Literal[
    "shuffled_labels", "single_token", "random_directions", "frozen_decoder", "random_weights"
]
