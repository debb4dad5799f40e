"""A plan states its cost and its keys, or cannot be made."""

import pytest

from aero.mpc.cost import ProtocolCost
from aero.mpc.plan import FunctionPlan, Plan, Reads

FACTS = {
    "client_keys": property(lambda self: ()),
    "server_keys": property(lambda self: ()),
    "cost": lambda self: ProtocolCost(),
    "reads": property(lambda self: Reads((3,), 20, 8)),
    "check": lambda self, x: None,
    "_run": lambda self, party, x: x,
}


@pytest.mark.parametrize(
    ("kind", "forgotten"),
    [
        *((Plan, name) for name in FACTS if name != "reads"),
        *((FunctionPlan, name) for name in FACTS if name != "check"),
    ],
)
def test_what_a_plan_forgets_fails_when_it_is_made(kind, forgotten):
    type("Whole", (kind,), dict(FACTS))()
    forgetful = type("Forgetful", (kind,), {name: fact for name, fact in FACTS.items() if name != forgotten})
    with pytest.raises(TypeError, match=forgotten):
        forgetful()
