"""Base OTs: the receiver gets the key it chose, and what is no point of the group is refused."""

import numpy as np
import pytest
from nacl import bindings

from aero.kernels.prg import Prg
from aero.mpc.ot.base_ot import BaseOtReceiver, BaseOtSender, _hash_to_point
from aero.wire import ProtocolError

BITS = np.random.default_rng(0).integers(0, 2, 20).astype(np.uint8)
SESSION = b"session".ljust(32)
IDENTITY = (1).to_bytes(32, "little")
ORDER_TWO = (2**255 - 20).to_bytes(32, "little")  # (0, -1)
ORDER_EIGHT = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
NOT_CANONICAL = (2**255 - 18).to_bytes(32, "little")  # y = 1 + p
OFF_CURVE = (2).to_bytes(32, "little")
GENERATOR = bindings.crypto_scalarmult_ed25519_base_noclamp((1).to_bytes(32, "little"))
WITH_COFACTOR = bindings.crypto_core_ed25519_add(GENERATOR, ORDER_TWO)
BAD_POINTS = [IDENTITY, ORDER_TWO, ORDER_EIGHT, NOT_CANONICAL, OFF_CURVE, WITH_COFACTOR, bytes(32), b"\xff" * 32]


def batch(seed: bytes = bytes(16)) -> tuple[BaseOtSender, BaseOtReceiver]:
    return BaseOtSender(Prg(seed, "sender"), "test"), BaseOtReceiver(Prg(seed, "receiver"), "test", BITS)


def test_the_receiver_gets_the_key_it_chose_and_no_other():
    sender, receiver = batch()
    both, chosen = sender.keys(receiver.points, SESSION), receiver.keys(sender.message, SESSION)
    np.testing.assert_array_equal(both[np.arange(len(BITS)), BITS], chosen)
    assert len({key.tobytes() for key in both.reshape(-1, 16)}) == 2 * len(BITS)


def test_keys_depend_on_session_and_label():
    sender, receiver = batch()
    keys = sender.keys(receiver.points, SESSION)
    assert not np.any(np.all(sender.keys(receiver.points, bytes(32)) == keys, axis=2))
    other = BaseOtSender(Prg(bytes(16), "sender"), "another")
    assert not np.any(np.all(other.keys(receiver.points, SESSION) == keys, axis=2))


def test_every_point_that_is_sent_is_in_the_group():
    sender, receiver = batch()
    for point in [sender.message, *(point.tobytes() for point in receiver.points.reshape(-1, 32))]:
        assert bindings.crypto_core_ed25519_is_valid_point(point)


def test_hashes_to_the_group_differ():
    points = {_hash_to_point(label, i, j, GENERATOR) for label in ("a", "b") for i in (0, 1) for j in (0, 1)}
    assert len(points) == 8
    assert all(bindings.crypto_core_ed25519_is_valid_point(point) for point in points)


@pytest.mark.parametrize("bad", BAD_POINTS, ids=lambda point: point.hex()[:8])
def test_a_bad_point_is_refused_by_either_party(bad):
    sender, receiver = batch()
    with pytest.raises(ProtocolError):
        receiver.keys(bad, SESSION)
    for place in [(0, 0), (3, 1)]:
        points = receiver.points.copy()
        points[place] = np.frombuffer(bad, np.uint8)
        with pytest.raises(ProtocolError):
            sender.keys(points, SESSION)


def test_points_that_cancel_are_refused():
    """r_1 = -H(r_0), valid by itself, would make a sender multiply the neutral element."""
    sender, receiver = batch()
    points = receiver.points.copy()
    first = points[0, 0].tobytes()
    negated = bindings.crypto_core_ed25519_sub(
        GENERATOR, bindings.crypto_core_ed25519_add(GENERATOR, _hash_to_point("test", 0, 1, first))
    )
    points[0, 1] = np.frombuffer(negated, np.uint8)
    with pytest.raises(ProtocolError):
        sender.keys(points, SESSION)
