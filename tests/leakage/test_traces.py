"""The bytes on the wire: with seeded parties they are these, and their sizes depend on no secret."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from aero.compiler.positions import decode, prefill
from aero.compiler.quantize import quantize
from aero.engines.engine import PromptRun
from aero.engines.reveal import LOGITS, TOKEN, Reveal
from aero.engines.two_party.engine import TwoPartyEngine
from aero.graph import Program
from aero.kernels.lattice_matmul import MatmulPlan
from aero.kernels.rlwe import SHARES, WEIGHTS
from aero.kernels.slots import P37, P50
from aero.mpc.dealer import insecure_ots
from aero.mpc.fixed_point import to_ring
from aero.mpc.functions.element_product import plan_element_product
from aero.mpc.functions.norm import plan_norm
from aero.mpc.functions.smooth_relu import plan_smooth_relu
from aero.mpc.functions.tanh import plan_tanh
from aero.mpc.ot.supply import set_up_ots
from aero.mpc.party import Party, Role
from aero.mpc.protocols.agree import agree
from aero.mpc.protocols.compare import negative
from aero.mpc.protocols.extend import extend, from_field, to_field
from aero.mpc.protocols.keys import exchange_keys
from aero.mpc.protocols.linear import LinearPlan, load_weights
from aero.mpc.protocols.multiply import look_up, multiply
from aero.mpc.protocols.ole import Encryption, SlotProduct, encrypt_many, multiply_many
from aero.mpc.protocols.pair import Block, PairPlan
from aero.mpc.protocols.select import multiplex
from aero.mpc.share import Share, input_shares, open_shares
from aero.wire import Channel
from aero.wire.memory import link_pair
from mpc.parties import PATIENCE, RecordingLink, run_both
from programs import RUNGS, random_ids, random_program

SEEDS = (b"client's seed of a wire trace...", b"server's seed of a wire trace...")
MANY_ROWS = LinearPlan(MatmulPlan(WEIGHTS, 5, 40, 9, 41, 8, 32, 16, 8, 25), prepared=False)
ONE_ROW = LinearPlan(MatmulPlan(WEIGHTS, 1, 40, 70, 41, 1, 64, 64, 2, 25), prepared=True)
BLOCKS = (Block(0, 3, 3, 16), Block(3, 6, 6, 16))
ATTEND = PairPlan(
    2, 6, 6, 16, 1, BLOCKS, tuple(MatmulPlan(SHARES, 3, b.inner, 16, 41, 4, 8, 128, 8, 25, batch=2) for b in BLOCKS)
)


def values(kind: str, shape: tuple[int, ...], bits: int) -> np.ndarray:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    if kind == "random":
        return np.random.default_rng(7).integers(low, high, shape, endpoint=True)
    return np.full(shape, {"zero": 0, "lowest": low, "highest": high}[kind])


def keys(party: Party, kind: str) -> None:
    exchange_keys(party, (WEIGHTS, SHARES), (SHARES,))


def share_and_open(party: Party, kind: str) -> None:
    for owner in Role:
        x = to_ring(values(kind, (3, 5), 25), 25)
        share = input_shares(party, owner, x.shape, 25, 12, x if party.role is owner else None)
        open_shares(party, share, Role.CLIENT, "x")


def shared(party: Party, name: str, kind: str, shape: tuple[int, ...]) -> Share:
    owner = Role.CLIENT if name == "x" else Role.SERVER
    x = to_ring(values(kind, shape, 41), 41)
    return input_shares(party, owner, shape, 41, 14, x if party.role is owner else None)


def linear(plan: LinearPlan):
    def program(party: Party, kind: str) -> None:
        exchange_keys(party, (WEIGHTS,))
        product = plan.product
        x = shared(party, "x", kind, (product.rows, product.inner))
        loaded = load_weights(plan, values(kind, (product.inner, product.columns), 16))
        plan.run(party, x, 16, None if party.is_client else loaded)

    return program


def attend(party: Party, kind: str) -> None:
    exchange_keys(party, (SHARES,), (SHARES,))
    x, y = shared(party, "x", kind, (2, 6, 6)), shared(party, "y", kind, (2, 6, 16))
    ATTEND.run(party, x, y)


def multiply_slots(party: Party, kind: str) -> None:
    """Both directions at once: two products, and the sum of two."""
    exchange_keys(party, (P50,), (P37,))
    jobs = []
    for owner, field in ((Role.CLIENT, P50), (Role.SERVER, P37)):
        x = values(kind, (2, 9), 37).astype(np.uint64) % np.uint64(field.p)
        jobs.append((Encryption(owner, field, 2, 9, x if party.role is owner else None), x))
    uploads = encrypt_many(party, [encryption for encryption, _ in jobs])
    multiply_many(
        party,
        [
            SlotProduct(upload, None if party.role is upload.owner else x, total=upload.field == P37)
            for upload, (_, x) in zip(uploads, jobs, strict=True)
        ],
    )


def agree_on_plans(party: Party, kind: str) -> None:
    agree(party, {"graph": [kind], "ring plan": {"x": [25, 12]}})


def oblivious_transfers(extension):
    def program(party: Party, kind: str) -> None:
        set_up_ots(party, extension)
        party.ots.reserve(100, 100)
        x = party.ots.send(3) if party.is_client else party.ots.receive(3)[1]
        party.channel.send(x[..., :1].reshape(-1))  # pads, for the hash of the trace

    return program


def from_ots(party: Party, kind: str) -> None:
    """What is made of products of bits and words, and of small tables."""
    party.ots = insecure_ots(b"random OTs of a wire trace".ljust(32))[party.role]
    x = shared(party, "x", kind, (7, 3))
    multiplex(party, negative(party, x.reduced(11)), x)
    multiply(party, extend(party, x, 43), extend(party, x, 43), 43)
    z = to_field(party, x, P50)
    from_field(party, z, P50.p, bits=30, dropped=8)
    look_up(party, x.reduced(3), np.arange(16, dtype=np.uint64).reshape(8, 2), (4, 60))


def rows_normalised(party: Party, kind: str) -> None:
    party.ots = insecure_ots(b"random OTs of a wire trace".ljust(32))[party.role]
    plan = plan_norm(3, 5, 20, 8, 20, 10, eps=1e-5, centred=True)
    exchange_keys(party, plan.client_keys, plan.server_keys)
    x = shared(party, "x", kind, (3, 5)).reduced(plan.input_bits)
    plan.run(party, x.of(x.values, fraction_bits=8))


def silu(party: Party, kind: str) -> None:
    party.ots = insecure_ots(b"random OTs of a wire trace".ljust(32))[party.role]
    plan = plan_smooth_relu((3, 5), 20, 12, 25, 14, form="silu")
    exchange_keys(party, plan.client_keys, plan.server_keys)
    x = shared(party, "x", kind, (3, 5)).reduced(plan.input_bits)
    plan.run(party, x.of(x.values, fraction_bits=12))
    assert not party.openings


def element_product(party: Party, kind: str) -> None:
    party.ots = insecure_ots(b"random OTs of a wire trace".ljust(32))[party.role]
    plan = plan_element_product((3, 5), ((20, 14), (20, 14)), 25, 14)
    exchange_keys(party, plan.client_keys, plan.server_keys)
    x, y = (shared(party, name, kind, (3, 5)).reduced(plan.reads.bits) for name in "xy")
    plan.run(party, x, y)
    assert not party.openings


def tanh(party: Party, kind: str) -> None:
    party.ots = insecure_ots(b"random OTs of a wire trace".ljust(32))[party.role]
    plan = plan_tanh((3, 5), 15, 10, 16, 14)
    exchange_keys(party, plan.client_keys, plan.server_keys)
    x = shared(party, "x", kind, (3, 5)).reduced(plan.reads.bits)
    plan.run(party, x.of(x.values, fraction_bits=10))
    assert not party.openings


PROTOCOLS = {
    "agree": agree_on_plans,
    "keys": keys,
    "share and open": share_and_open,
    "linear": linear(MANY_ROWS),
    "linear, one row": linear(ONE_ROW),
    "attend in blocks": attend,
    "products in slots": multiply_slots,
    "from OTs": from_ots,
    "layer norm": rows_normalised,
    "silu": silu,
    "element product": element_product,
    "tanh": tanh,
    "OTs, ferret": oblivious_transfers("ferret"),
    "OTs, softspoken": oblivious_transfers("softspoken"),
}

# SHA-256 of all frames, the client's and then the server's. A change of the protocol, of a format or of a stream
# changes them: then state it in CHANGELOG.md, because the other party must have the same version.
HASHES = {
    "agree": [
        "9c528a89a4c24a9ea37419daf7abd9b640368c9cfb48a66e590d5333e282b974",
        "9c528a89a4c24a9ea37419daf7abd9b640368c9cfb48a66e590d5333e282b974",
    ],
    "keys": [
        "3ff9fe2de8a4d5d6e5df2bd11f711a0cc2a48226a93d459afab490417c68156e",
        "84c93e2021e69a3aacfdd7fbaced007cab54a5fc3ce7de6f1a870ecc83d42bed",
    ],
    "share and open": [
        "76680f9604a0b549577ae96137933584eb938ca8ff2007878a39eea335e22c5c",
        "dccd47a4d62094c34a3a3a6ba132655fe68cc42239388d562e744b09fb8edf6f",
    ],
    "linear": [
        "3b18fbc546b0001e20e527f9dd1bb864c838f6808b92ded29c995a3c9ff5dd59",
        "3ebe09919f87b2e81d8ba69029d6a62d77cc72871f541d139b992b4e604f9417",
    ],
    "linear, one row": [
        "f0511482bf18bc69f9401c54bcdebe3489124d0240e10f83eb4fb366aca66ab8",
        "9d65df07a33d15faedca3464725157a82a54f84acffadc0120f70cd372b33ea3",
    ],
    "products in slots": [
        "6aafbdbb372d1fa7c8a4e91a00bb5c52decffd293efb7da1d102eef9458609be",
        "0f0cf7529a165fc0486f834b536209a30783e40f2db2589926a4a86af40b1749",
    ],
    "attend in blocks": [
        "510df6b693eb46e15133391a3a11226c43cff08e2108c0593ab2fa914d3c8786",
        "96a5d2c4d7b405f32a5c7a8e50db3ad5acd723cd3114e8511b05731969d3f541",
    ],
    "from OTs": [
        "f2cc7fabb4b60970f41a51fe1a07e62f590f544850d7a6db9e349d6bc2e27703",
        "23d0d2c1e669bdb43270b361185fc00aba3cad49b183741aa357c805dc307676",
    ],
    "layer norm": [
        "8aedce1ce2035b921fcd7beb89158b21eabf20916db6da4092b3d2304991cc76",
        "eca5e10e31f16f310e79cf1e799dbc71edf9506691681cffa6d78350a9064b4e",
    ],
    "silu": [
        "a736cee08559a9599949a641ff82ec322d45f2a93afadff005247b19c2e95473",
        "c21d80be8035074c9f55841d5d789531bd5b918a77fe8d84c425da6616df13b9",
    ],
    "element product": [
        "8405eabdeaeebf689b8cf89a01158b929f74be1ccaf283046daab6ab4b2798c1",
        "32312ed505cc76d20c24bd5592cb60b5ca008bffe8851bbce6fb6d8c4f2cefff",
    ],
    "tanh": [
        "333a05c5d54c0dbdaf9ad85f071e4a941740ce02540a43b4b7416c48d742f300",
        "48103195ad0e2ed361e17d9be85824cd29d2627794014b5c8be204e0c1e002ca",
    ],
    "OTs, ferret": [
        "90d91ed3366b203b7606ffa72c04dfb4f2f970fcdccb8bfd8b50db27953f5588",
        "0b9557ffd1744415218927918bfd15049c2da3f6c6cce1aa15e571aae5a7a082",
    ],
    "OTs, softspoken": [
        "58b4654ef95fb2023ae354eb4c4bc41e8539f335dafa5f56349dd4dd468ba3e8",
        "fe6b9921381f3f61a1f5ae04b74f7fd59aa0edd20d034a8a59d00cdc068a7e9a",
    ],
}


def frames(name: str, kind: str) -> list[list[bytes]]:
    return run_both(lambda party: PROTOCOLS[name](party, kind), SEEDS).sent


@pytest.mark.parametrize("name", PROTOCOLS)
def test_bytes_are_these(name) -> None:
    found = [hashlib.sha256(b"".join(sent)).hexdigest() for sent in frames(name, "random")]
    assert found == HASHES[name]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_sizes_and_counts_depend_on_no_secret(name) -> None:
    sizes = {
        kind: [[len(f) for f in sent] for sent in frames(name, kind)]
        for kind in ("random", "zero", "lowest", "highest")
    }
    assert all(size == sizes["random"] for size in sizes.values())


def two_prompts(program: Program, reveal: Reveal, ids: str, weights: str) -> list[list[int]]:
    """A session of two prompts, read together and gone on with together: the sizes of all frames, the client's and the
    server's. The formats are public, so they are the same for all secrets."""
    length, vocabulary = program.graph.length, program.graph.shapes[program.graph.output][1]
    calibration = [random_ids(program, seed) for seed in range(4)]
    plan = quantize(program, calibration).plan
    kinds = {"random": calibration[:2], "zero": [np.zeros(length, int)] * 2, "highest": [np.full(length, 10)] * 2}
    factor = {"random": 1.0, "zero": 0.0, "negated": -1.0}[weights]
    links = [RecordingLink(link) for link in link_pair(timeout=PATIENCE)]
    engines = [TwoPartyEngine(party, Channel(link), plan) for party, link in zip(Role, links, strict=True)]

    def run(engine: TwoPartyEngine) -> None:
        engine.reveal_only(reveal, vocabulary)
        for parts in (((0, 4), (0, 2)), ((4, 1), (2, 1))):
            steps = [
                decode(program, *part) if part[0] else prefill(program, part[1], leave_state=True) for part in parts
            ]
            if engine is engines[0]:
                texts = [text[past : past + count] for text, (past, count) in zip(kinds[ids], parts, strict=True)]
                engine.run_batch([PromptRun(step.graph, texts[i], i) for i, step in enumerate(steps)])
            else:
                held = [{name: factor * w for name, w in step.weights.items()} for step in steps]
                engine.run_batch([PromptRun(step.graph, None, i, held[i]) for i, step in enumerate(steps)])

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(run, engine) for engine in engines]:
            done.result(PATIENCE)
    return [[len(frame) for frame in link.sent] for link in links]


@pytest.mark.parametrize("rung, reveal", [("layer norm, gelu", TOKEN), ("softmax-only, scaled", LOGITS)], ids=str)
def test_sizes_of_a_session_of_two_prompts_depend_on_no_secret(rung, reveal) -> None:
    program = random_program(layers=1, every_position=True, **RUNGS[rung])
    sizes = two_prompts(program, reveal, "random", "random")
    assert all(len(sent) > 50 for sent in sizes)
    for ids, weights in (("zero", "random"), ("highest", "negated"), ("random", "zero")):
        assert two_prompts(program, reveal, ids, weights) == sizes
