"""1-of-N oblivious transfer of long messages, N = 2^k, from k random OTs each.

Of the i-th random OT the sender has the blocks r_i0 and r_i1, the receiver c_i and r_i(c_i). Message j belongs to the
bits j_0 .. j_(k-1).

1. Receiver: for its choice b, sends d_i = b_i xor c_i.                                        receiver -> sender
2. Sender: message j plus the stream G of the key H(r_0(j_0 xor d_0), ..., r_(k-1)(j_(k-1) xor d_(k-1)), j).
                                                                                               sender -> receiver
3. Receiver: knows the blocks of its own choice, hence that one key.

2 rounds. Of every other key at least one block is unknown to the receiver: H is SHA-256, taken as a random oracle. The
bits d_i are uniform. Naor and Pinkas 1999, with random OTs corrected as by Beaver 1995.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from aero.kernels import bitpack
from aero.kernels.prg import Prg
from aero.mpc.cost import ProtocolCost, message, ots_used
from aero.mpc.fixed_point import reduce_ring
from aero.mpc.party import Party, Role, parse
from aero.mpc.share import Words


def send_one_of(party: Party, messages: Words, bits: int) -> None:
    """The sender: uint64 [count, N, words] below 2^bits, of each of which the receiver gets one [words]."""
    count, options, words = messages.shape
    depth = _depth(options)
    blocks = party.ots.send(count * depth).reshape(count, depth, 2, 16)
    size = bitpack.packed_size(count * depth, 1)
    turned = parse(bitpack.unpack, party.channel.recv(size, np.uint8), count * depth, 1).reshape(count, depth)
    at = np.arange(count)[:, None], np.arange(depth)
    hidden = np.empty_like(messages)
    for option in range(options):
        keys = blocks[*at, _bits(np.full(count, option), depth) ^ turned.astype(np.int64)]
        hidden[:, option] = messages[:, option] + _streams(keys, np.full(count, option), words, bits)
    party.channel.send(bitpack.pack(reduce_ring(hidden, bits), bits))


def receive_one_of(party: Party, choices: NDArray[np.int64], options: int, words: int, bits: int) -> Words:
    """The receiver: int64 [count] below N = options; gives uint64 [count, words]."""
    depth, count = _depth(options), len(choices)
    own, blocks = party.ots.receive(count * depth)
    wanted = _bits(choices, depth)
    party.channel.send(bitpack.pack((wanted ^ own.reshape(count, depth)).astype(np.uint64), 1))
    data = party.channel.recv(bitpack.packed_size(count * options * words, bits), np.uint8)
    hidden = parse(bitpack.unpack, data, count * options * words, bits).reshape(count, options, words)
    stream = _streams(blocks.reshape(count, depth, 16), choices, words, bits)
    chosen = (choices[:, None] == np.arange(options)).astype(np.uint64)  # no address depends on a choice
    return reduce_ring((hidden * chosen[..., None]).sum(axis=1, dtype=np.uint64) - stream, bits)


def one_of_cost(sender: Role, count: int, options: int, words: int, bits: int) -> ProtocolCost:
    depth = _depth(options)
    asked = message(sender.other, bitpack.packed_size(count * depth, 1))
    return asked + message(sender, bitpack.packed_size(count * options * words, bits)) | ots_used(sender, count * depth)


def _depth(options: int) -> int:
    if options < 2 or options & (options - 1):
        raise ValueError(f"one of {options}: give a power of two from 2 on")
    return options.bit_length() - 1


def _bits(values: NDArray[np.int64], depth: int) -> NDArray[np.int64]:
    return values[:, None] >> np.arange(depth) & 1


def _streams(keys: NDArray[np.uint8], options: NDArray[np.int64], words: int, bits: int) -> Words:
    """uint64 [count, words] from keys uint8 [count, depth, 16] for the options chosen."""
    out = np.empty((len(keys), words), dtype=np.uint64)
    for i, (key, option) in enumerate(zip(keys, options, strict=True)):
        seed = hashlib.sha256(key.tobytes() + int(option).to_bytes(2, "little")).digest()
        out[i] = Prg(seed, "1-of-n").uniform(words, bits)
    return out
