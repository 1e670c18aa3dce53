"""The sections of the feature page on what the feature does on one activation set."""

from dashboards.components.association_parts import associations
from dashboards.components.decodability_parts import decodability
from dashboards.components.markup import Element
from dashboards.evidence import Evidence


def further(found: Evidence) -> list[Element]:
    """Document labels to which the feature is related, and the layer from which it is decodable."""
    return [associations(found.associations, found.association_tests), *decodability(found.decodability)]
