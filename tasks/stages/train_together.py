"""Stage: train the dictionaries of a model in one child process, several from one pass over shared data."""

from collections.abc import Mapping
from contextlib import ExitStack

from catalog.errors import UserError
from catalog.ledger import StageOutcome
from tasks.common.progress import doing
from tasks.support.policies import (
    StageContext,
    UnitKey,
    claim_undone,
    progress_listener,
    stage_task,
    undisturbed,
)
from tasks.support.reporting import raise_if_server_is_lost
from tasks.support.training_group import GroupTraining
from tasks.support.training_units import VERSION, TrainGroup, trained_in_child


@stage_task("train_together")
def train_together(context: StageContext, unit: TrainGroup) -> Mapping[str, StageOutcome | UserError]:
    """Train in one process what is neither done nor in training by another run; commit each as it ends.

    Every dictionary is a separate unit of work, with the same fingerprint as when it is trained alone.

    Returns:
        By label how each training ended: committed, or refused for good. Missing ones were done before,
        belong to another run, or died with the process; `train_dictionary` handles them.
    """
    from tasks.training.supervisor import TrainingFailed

    raise_if_server_is_lost()
    key = UnitKey("train_together", VERSION, unit.label, {})
    with undisturbed(), ExitStack() as stack:
        claims = claim_undone(context, [each.key for each in unit.units], stack)
        if not claims:
            return {}
        listener = stack.enter_context(progress_listener(key, claims.values()))
        training, how = GroupTraining(context, unit, claims), unit.units[0].training
        for number, trained in trained_in_child(context, how, training.requests, listener):
            if not isinstance(trained, TrainingFailed):
                doing("checking the weights", listener)
                training.end(number, trained)
    return training.ended
