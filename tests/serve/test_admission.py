"""Places and the queue, without processes: order, fairness, bounds, and what is told to whom."""

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from aero.serve.admission import Admission
from aero.wire.tcp import Refusal


def asked(admission: Admission, *keys: str) -> dict:
    """Each key's first letter is its client's name."""
    for key in keys:
        admission.ask(key, key[0])
    return told(admission)


def told(admission: Admission) -> dict:
    """A place, or why there is none."""
    return {key: news.reason if isinstance(news, Refusal) else news for key, news in admission.news()}


def served(admission: Admission, inside: list[str]) -> list[str]:
    """Whoever is inside leaves, one after the other: the order in which the others come in."""
    order, leaving = [], deque(inside)
    while leaving:
        admission.leave(leaving.popleft())
        new = [key for key, place in admission.news() if place == 0]
        order += new
        leaving += new
    return order


def test_first_come_first_served():
    admission: Admission = Admission(2, 3)
    assert asked(admission, "a1", "a2", "a3", "a4", "a5") == {"a1": 0, "a2": 0, "a3": 1, "a4": 2, "a5": 3}
    assert asked(admission, "a6") == {"a6": "busy: 2 sessions, 3 waiting; try again"}
    admission.leave("a4")
    assert told(admission) == {"a5": 2}
    admission.leave("a1")
    assert told(admission) == {"a3": 0, "a5": 1}
    assert (admission.inside, admission.waiting) == (2, 1)
    admission.leave("never seen")
    assert not told(admission)


def test_clients_take_turns():
    admission: Admission = Admission(1, 9)
    asked(admission, "a1", "a2", "a3", "a4")
    assert asked(admission, "b1", "c1", "b2") == {"b1": 2, "c1": 3, "a3": 4, "b2": 5, "a4": 6}
    assert served(admission, ["a1"]) == ["a2", "b1", "c1", "a3", "b2", "a4"]


def test_a_full_queue_has_room_for_a_client_that_has_less_in_it():
    admission: Admission = Admission(1, 3)
    asked(admission, "a1", "a2", "a3", "a4")
    assert asked(admission, "b1") == {"b1": 2, "a4": "busy: 1 session, 3 waiting; try again", "a3": 3}
    assert asked(admission, "b2") == {"b2": "busy: 1 session, 3 waiting; try again"}
    assert asked(admission, "c1") == {"c1": 3, "a3": "busy: 1 session, 3 waiting; try again"}
    assert asked(admission, "d1") == {"d1": "busy: 1 session, 3 waiting; try again"}


def test_no_queue():
    admission: Admission = Admission(1, 0)
    assert asked(admission, "a1", "b1") == {"a1": 0, "b1": "busy: 1 session, 0 waiting; try again"}


def test_objections_are_asked_when_a_client_comes_and_when_its_turn_comes():
    spent: set[str] = set()
    admission: Admission = Admission(
        1, 9, lambda name, running: Refusal(f"{name} has {running}") if name in spent or running > 1 else None
    )
    asked(admission, "a1", "b1", "c1")
    spent.add("b")
    assert asked(admission, "b2") == {"b2": "b has 0"}
    admission.leave("a1")
    assert told(admission) == {"b1": "b has 0", "c1": 0}


def test_the_queue_closes():
    admission: Admission = Admission(2, 9)
    assert asked(admission, "a1", "a2", "a3", "a4") == {"a1": 0, "a2": 0, "a3": 1, "a4": 2}
    admission.close(Refusal("stopping"))
    assert told(admission) == {"a3": "stopping", "a4": "stopping"}
    assert asked(admission, "a5") == {"a5": "stopping"}
    admission.leave("a1")
    assert not told(admission) and admission.inside == 1


@given(
    st.integers(1, 3), st.integers(0, 5), st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=60)
)
def test_whatever_comes_and_goes(sessions, queue, events):
    """Against a plain account of what was told: places are bounded, each that waits has a place of its own, and nobody
    waits while a place is free."""
    admission: Admission = Admission(sessions, queue)
    known: dict[str, int] = {}
    for name, number in events:
        key = f"{name}{number}"
        if key in known:
            del known[key]
            admission.leave(key)
        else:
            admission.ask(key, name)
        for other, place in admission.news():
            assert known.get(other) != place
            if isinstance(place, Refusal):
                known.pop(other, None)
            else:
                known[other] = place
        inside = [other for other, place in known.items() if place == 0]
        waiting = sorted(place for place in known.values() if place)
        assert (admission.inside, admission.waiting) == (len(inside), len(waiting))
        assert waiting == list(range(1, len(waiting) + 1)) and len(waiting) <= queue
        assert len(inside) <= sessions and (len(inside) == sessions or not waiting)
