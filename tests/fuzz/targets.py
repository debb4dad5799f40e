"""All that reads bytes which somebody else may have written: a server, a client, or the maker of a folder.

A target is what reads, and inputs that it accepts, from which others are made. It may raise ValueError,
FileNotFoundError or a `WireError`, with a message of one line; anything else is a finding.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from aero.compiler import folder as compiled_folder
from aero.compiler.compiled import Compiled
from aero.compiler.draft import Draft, pack, unpack
from aero.compiler.run import load_model
from aero.cost.machine import load_machine, machine_names
from aero.cost.profile import load_profile, profile_names
from aero.data import tokenizer, tokenizer_file
from aero.data.build import build
from aero.data.chat_template import ChatTemplate
from aero.data.corpus import read as read_documents
from aero.data.folder import DataFolder
from aero.data.settings import DataSettings
from aero.data.tokenizer import Tokenizer
from aero.entropy.record import EntropyRecord
from aero.files import manifest
from aero.files.reading import parse_json
from aero.graph.ring_plan import RingPlan, load_plan
from aero.graph.serialize import GRAPH_FILE, WEIGHTS_FILE, graph_from_json, load, save
from aero.models import AeroConfig, AeroForCausalLM
from aero.report.record import Record, read_records, write_records
from aero.serve.session import PROTOCOL, Asked, Offer, Span, read_asked
from aero.train.jsonl import read_rows
from aero.train.run_folder import DataUsed, RunInfo
from aero.train.settings import TrainSettings
from aero.wire import Channel, memory, read_json
from aero.wire.certificates import load_certificate
from aero.wire.frame import HEADER_SIZE, Header, Kind, decode_control, decode_specs, encode_control, encode_specs
from aero.wire.keys import Identity, make_keys
from programs import random_program

TEXTS = ("", "def f(x):\n\treturn 'ä 漢字'", "\x00\r\n \u2028" * 3, "a" * 500, " " * 99 + "<|endoftext|>")


@dataclass(frozen=True)
class Target:
    """read: reads an input, and does with it what AERO does; inputs: that it accepts."""

    read: Callable[[bytes], object]
    inputs: list[bytes]


def targets(home: Path) -> dict[str, Target]:
    """All targets. home: a folder for the files that they read."""
    found = {**_wire(), **_files(home / "files"), **_folders(home)}
    for name, target in found.items():
        for data in target.inputs:
            try:
                target.read(data)
            except Exception as error:
                raise AssertionError(f"an input of {name} is refused") from error
    return found


# --- from the other party -------------------------------------------------------------------------------------------


def _wire() -> dict[str, Target]:
    graph = random_program(norm=True, rotary=True).graph
    state = random_program(parallel=True, activation="gelu_erf").graph
    draft = random_program(length=4, vocabulary=9, layers=1, every_position=True)
    plan = RingPlan.uniform(graph, 12)
    offer = Offer(PROTOCOL, "1", "SM", 8, 300, "two-party", "top-k:4", 2, 1000, draft_bytes=9, draft_digest=64 * "a")
    asked = {"say": "step", "prompts": [Asked(0, Span(0, 3), "").message(), Asked(1, Span(2, 1), "ab").message()]}

    def plan_of(data: bytes) -> None:
        found = read_json(data, "it", RingPlan.from_json)
        for node in graph.nodes:
            found.of_value(graph, node.name)

    return {
        "tokenizer": Target(_tokenizer, _tokenizers()),
        "graph": Target(
            lambda data: read_json(data, "it", graph_from_json).digest, [g.dumps().encode() for g in (graph, state)]
        ),
        "ring-plan": Target(plan_of, [json.dumps(plan.to_json()).encode()]),
        "chat-template": Target(
            lambda data: ChatTemplate.from_bytes(data).to_bytes(),
            [ChatTemplate("{{ x }}", {"bos_token": "é"}).to_bytes()],
        ),
        "offer": Target(lambda data: Offer.read(decode_control(data)), [encode_control(offer.message())]),
        "step": Target(lambda data: read_asked(decode_control(data)), [encode_control(asked)]),
        "header": Target(_header, [Header(Kind.ARRAYS, 0, 0, 24, 1).pack()]),
        "description": Target(_description, [_messages()[HEADER_SIZE : HEADER_SIZE + 16]]),
        "draft": Target(lambda data: Draft(unpack(data, 9)).guess([1, 2], 2), [pack(draft)]),
        "control": Target(_control, [b'{"a":[1,2.5,null]}']),
        "channel": Target(_channel, [_messages()]),
    }


def _tokenizers() -> list[bytes]:
    small = json.loads(tokenizer.train([Path(tokenizer.__file__).read_text(encoding="utf-8")], 300)._inner.to_str())
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    added = {"id": 300, "content": "  ", **flags}
    pattern = {"Regex": tokenizer_file._PATTERNS[0]}
    split = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    neox = small | {"normalizer": {"type": "NFC"}, "added_tokens": [*small["added_tokens"], added]}
    level = {**small["pre_tokenizer"], "use_regex": False}
    llama = small | {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]}}
    return [json.dumps(file).encode() for file in (small, neox, llama)]


def _filled(text: str, part: str) -> str:
    return part.replace("{}", text)


def _tokenizer(data: bytes) -> None:
    found = Tokenizer.from_bytes(data)
    for text in TEXTS:
        found.decode(found.encode(text))
        found.decode(found.encode_prompt(text, special=True))
        found.decode(found.encode_template("<|endoftext|>{}\n", partial(_filled, text)))
    for ids in ([0, 1], [found.vocab_size - 1], [-1], [found.vocab_size], [1 << 40], [1 << 80]):
        with contextlib.suppress(ValueError):
            found.decode(ids)
    assert len(found.token_bytes()) == found.vocab_size


def _header(data: bytes) -> None:
    if len(data) == HEADER_SIZE:
        assert Header.unpack(data).pack() == data


def _description(data: bytes) -> None:
    assert encode_specs(decode_specs(data)) == data


def _control(data: bytes) -> None:
    message = decode_control(data)
    try:
        encoded = encode_control(message)
    except ValueError:
        return  # Lone surrogates and the like: JSON can say them, UTF-8 cannot.
    assert decode_control(encoded) == message


def _messages() -> bytes:
    """What `_channel` receives."""
    ours, theirs = memory.link_pair()
    channel = Channel(ours)
    channel.send(np.arange(6, dtype=np.uint64).reshape(2, 3), b"xyz")
    channel.send_control({"a": [1, 2.5, None]})
    channel.send(np.array(1.0))
    channel.send(np.zeros(0, np.int64))
    size = channel.traffic.bytes_sent
    channel.close()
    whole = bytearray(size + HEADER_SIZE + 1)
    theirs.receive_into(memoryview(whole), float("inf"))
    return bytes(whole)


def _channel(data: bytes) -> None:
    ours, theirs = memory.link_pair()
    theirs.send([memoryview(data)])
    theirs.close()
    channel = Channel(ours)
    first, second = channel.recv_many(((2, 3), np.uint64), (3, np.uint8))
    assert first.shape == (2, 3) and second.dtype == np.uint8
    assert isinstance(channel.recv_control(), dict)
    channel.recv((), np.float64)
    channel.recv(0, np.int64)


# --- from disk ------------------------------------------------------------------------------------------------------


def _files(home: Path) -> dict[str, Target]:
    home.mkdir()
    make_keys(home / "keys")
    client = home / "keys" / "client"
    pem = {name: (client / name).read_bytes() for name in ("key.pem", "cert.pem", "peer.pem")}
    record = Record("next-token", "two-party", "SM", 8, 1.5, 10, 20, 3, 1e-3, extra={"prompts": 2})
    write_records(home / "records", [record, record])
    entropy = json.dumps(
        {"name": "SM", "context": 8, "blocks": 2, "head_entropy": [[0.5, 1], [0.2, 0]], "eps": 0}
    ).encode()
    rows = b'{"step": 1, "loss": 2.5}\n{"step": 2, "loss": NaN}\n'
    machines = [json.dumps(load_machine(name).to_json()).encode() for name in machine_names()]
    profiles = [json.dumps(load_profile(name).to_json()).encode() for name in profile_names()]
    plan = RingPlan.uniform(random_program().graph, 12)

    def of(read: Callable[[Path], object], name: str) -> Callable[[bytes], object]:
        def written(data: bytes) -> object:
            (home / name).write_bytes(data)
            return read(home / name)

        return written

    def identity(name: str) -> Callable[[bytes], object]:
        def written(data: bytes) -> None:
            try:
                (client / name).write_bytes(data)
                Identity(client).tls_context(server_side=False)
            finally:
                (client / name).write_bytes(pem[name])

        return written

    return {
        "certificate": Target(of(load_certificate, "peer.pem"), [pem["cert.pem"]]),
        **{f"identity-{name}": Target(identity(name), [data]) for name, data in pem.items()},
        "records": Target(of(read_records, "records.json"), [(home / "records").read_bytes()]),
        "entropy-record": Target(lambda data: EntropyRecord.from_json(parse_json(data, "it")), [entropy]),
        "rows": Target(of(read_rows, "metrics.jsonl"), [rows]),
        "machine": Target(of(lambda path: load_machine(str(path)), "machine.json"), machines),
        "cost-profile": Target(of(lambda path: load_profile(str(path)), "profile.json"), profiles),
        "ring-plan-file": Target(of(load_plan, "ring_plan.json"), [json.dumps(plan.to_json()).encode()]),
        "json-lines": Target(of(lambda path: list(read_documents(path)), "a.jsonl"), [b'{"text": "a"}\n{"text": "b"}']),
        "text": Target(of(lambda path: list(read_documents(path)), "a.txt"), [b"\xef\xbb\xbfa\r\nb\rc"]),
    }  # fmt: skip


def _folders(home: Path) -> dict[str, Target]:
    program = random_program()
    save(program, home / "program")
    weights, graph = (home / "program" / WEIGHTS_FILE).read_bytes(), program.graph.to_json()
    whole = home / "compiled"
    whole.mkdir()
    compiled_folder.write(whole, Compiled(program), "SM", plan=RingPlan.uniform(program.graph, 12))
    source = home / "source.txt"
    source.write_text("".join(f"line {i}\n" for i in range(400)))
    data = build(home / "data", DataSettings(sources=(str(source),), vocab_size=260))
    (home / "run").mkdir()
    run = RunInfo("SM", 8, 100, TrainSettings(), DataUsed.of(data), {"aero": "1"}, result={"perplexity": 2.0})

    def program_with(weights: bytes) -> object:
        (home / "program" / WEIGHTS_FILE).write_bytes(weights)
        manifest.write(home / "program" / GRAPH_FILE, graph, (WEIGHTS_FILE,))
        return load(home / "program")

    def info(folder: Path, name: str, read: Callable[[Path], object]) -> Target:
        """The info file of a folder, with hashes that fit, so that the rest of it is read, too."""
        content, files = manifest.read(folder / name)

        def written(data: bytes) -> object:
            try:
                given = json.loads(data)
            except (ValueError, RecursionError):
                given = None
            if isinstance(given, dict):
                try:
                    manifest.write(folder / name, given, files)
                except (ValueError, RecursionError):
                    return None  # it cannot be written
            else:
                (folder / name).write_bytes(data)
            return read(folder)

        return Target(written, [json.dumps(content).encode()])

    model = home / "model"
    sizes = {"vocab_size": 32, "context": 8, "num_layers": 2, "num_heads": 2, "hidden_size": 8}
    AeroForCausalLM(AeroConfig(**sizes, norm="frozen")).save_pretrained(model)  # type: ignore[arg-type]
    parts = {name: (model / name).read_bytes() for name in ("config.json", "model.safetensors")}

    def model_with(name: str) -> Target:
        def written(data: bytes) -> None:
            try:
                (model / name).write_bytes(data)
                load_model(model)
            finally:
                (model / name).write_bytes(parts[name])

        return Target(written, [parts[name]])

    manifest.write(home / "run" / "run.json", {**asdict(run), "settings": run.settings.to_json()}, ())  # type: ignore[union-attr]
    return {
        "weights": Target(program_with, [weights]),
        "model-config": model_with("config.json"),
        "model-weights": model_with("model.safetensors"),
        "run.json": info(home / "run", "run.json", RunInfo.read),
        "data.json": info(home / "data", "data.json", lambda path: DataFolder(path).valid.blocks(4)),
        "compiled.json": info(whole, "compiled.json", compiled_folder.read),
        "graph.json": info(whole, GRAPH_FILE, load),
    }


def temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="aero-fuzz-")
