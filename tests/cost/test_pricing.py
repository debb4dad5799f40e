import pytest

from aero.cost import estimate, load_profile
from aero.cost.pricing import pricing
from aero.cost.two_party import TwoPartyProfile
from aero.engines.reveal import LOGITS, TOKEN
from aero.models.notation import parse
from aero.models.presets import Size
from aero.structure import lowered

GRAPH = lowered(parse("SM+ScFuFFN"), Size(vocab_size=50, context=4, num_layers=1, num_heads=2, hidden_size=8))


def test_names_and_what_they_price():
    assert pricing("aero-published")(GRAPH, None) == load_profile("aero-published")
    for reveal in (LOGITS, TOKEN):
        found, expected = pricing("two-party", reveal)(GRAPH, None), TwoPartyProfile(GRAPH, None, reveal)
        assert estimate(GRAPH, found).total == estimate(GRAPH, expected).total


def test_what_cannot_be_priced_is_refused():
    with pytest.raises(ValueError, match="there are two-party, aero-published"):
        pricing("nonesuch")
    with pytest.raises(ValueError, match="leave --reveal out"):
        pricing("aero-published", TOKEN)
