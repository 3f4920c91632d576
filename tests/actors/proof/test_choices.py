"""I30 of the actors' contract: a run is its choices, and nothing else."""

import random

from hypothesis import given, settings
from tests.actors.proof.play import perform_aloud
from tests.actors.proof.properties import PROOF
from tests.actors.proof.worlds import World, any_plan, worlds

from greenroom.actors.testing import Plan


@settings(PROOF, max_examples=40)
@given(worlds(), any_plan)
def test_i30_the_same_choices_make_the_same_trace(world: World, plan: Plan) -> None:
    first = perform_aloud(world, plan)
    random.random()  # what was before has no influence
    assert perform_aloud(world, plan) == first
