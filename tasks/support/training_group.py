"""Dictionaries that are trained in one process, each claimed and committed as a unit of its own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from catalog.errors import UserError
from catalog.ids import canonical_json
from catalog.ledger import Claim, StageOutcome
from tasks.support.policies import StageContext, report_outcome
from tasks.support.stored import open_sets
from tasks.support.training_units import TrainGroup, TrainUnit, facts_of, request_for, results_of

if TYPE_CHECKING:
    from tasks.dictionaries.hookpoint_activations import HookpointActivations
    from tasks.training.request import TrainingRequest
    from tasks.training.supervisor import ChildTraining


class _Waiting(NamedTuple):
    """A dictionary that is trained together with others."""

    unit: TrainUnit
    claim: Claim
    activations: "HookpointActivations"
    request: "TrainingRequest"


class GroupTraining:
    """The claimed dictionaries of a group, and how each training ended.

    Args:
        context: Where and for whom.
        group: The dictionaries.
        claims: By number in the group; entered by the caller.
    """

    def __init__(self, context: StageContext, group: TrainGroup, claims: Mapping[int, Claim]) -> None:
        self.ended: dict[str, StageOutcome | UserError] = {}
        """By label: committed, or refused for good."""
        self._waiting: list[_Waiting] = []
        opened: dict[str, HookpointActivations] = {}
        for number, claim in claims.items():
            unit = group.units[number]
            with self._ending(unit, claim):
                facts = facts_of(unit, claim.fingerprint)
                key = canonical_json([facts["reads"], facts["writes"]])
                if key not in opened:
                    opened[key] = open_sets(context.root, facts, unit.models, context.device)
                request = request_for(context, unit, claim)
                self._waiting.append(_Waiting(unit, claim, opened[key], request))

    @property
    def requests(self) -> "list[TrainingRequest]":
        """What the training process is asked for."""
        return [one.request for one in self._waiting]

    def end(self, number: int, trained: "ChildTraining | UserError") -> None:
        """Commit a dictionary, or keep why it could not be trained; ``number`` counts the requests."""
        unit, claim, activations, _ = self._waiting[number]
        with self._ending(unit, claim):
            if isinstance(trained, UserError):
                raise trained
            results = results_of(unit, claim, trained, activations)
            outcome = claim.commit(results.slices, facts=results.facts, folders=results.folders)
            report_outcome(unit.key, outcome)
            self.ended[unit.label] = outcome

    @contextmanager
    def _ending(self, unit: TrainUnit, claim: Claim) -> Iterator[None]:
        """An error that a user can fix ends only one training of a group, which records it as its failure."""
        try:
            yield
        except UserError as error:
            claim.__exit__(type(error), error, error.__traceback__)
            self.ended[unit.label] = error
