"""What `aero serve` serves: a model, loaded and checked, with all that a client is told of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aero.cli.whole_texts import learnt
from aero.compiler.draft import pack
from aero.compiler.folder import is_compiled
from aero.compiler.run import CompiledRun
from aero.data import chat_template, tokenizer
from aero.engines.connect import ENGINES, TWO_PARTY, connect_engine
from aero.engines.reveal import Reveal
from aero.engines.two_party.room import check_room
from aero.engines.two_party.weight_store import WeightStore
from aero.mpc.party import Role
from aero.serve.server import Server
from aero.serve.session import MAX_DRAFT_BYTES, MAX_OUTPUTS


@dataclass(frozen=True)
class Serving:
    """How models are served. ValueError for what an engine has not.

    max_prompts: at once. draft: the folder of a model that is published. weights_bytes: memory for transforms of
    weights; None where the engine keeps none."""

    engine: str
    reveal: Reveal
    max_prompts: int
    weights_bytes: int | None
    insecure_plaintext: bool
    idle: float
    draft: Path | None = None

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ValueError(f"no engine {self.engine!r}; there are {', '.join(ENGINES)}")
        if self.engine == TWO_PARTY:
            return
        if self.reveal.k is not None:
            raise ValueError(
                f"the engine {self.engine!r} reveals all logits; serve with --reveal logits, or --engine two-party"
            )
        if self.max_prompts > 1:
            raise ValueError(f"the engine {self.engine!r} computes one prompt at a time; leave --max-prompts out")
        if self.weights_bytes is not None:
            raise ValueError(f"the engine {self.engine!r} encodes no weights ahead; leave --weights-gb out")


@dataclass(frozen=True)
class Model:
    """notes: what whoever runs the server should know of it."""

    server: Server
    notation: str
    notes: tuple[str, ...]


def load(run: Path, how: Serving) -> Model:
    """The model in a folder. ValueError for one that is damaged, or that cannot be served so."""
    model, by_text = _compiled(run, with_plan=how.engine == TWO_PARTY)
    tokenizer.load(run)  # refuse a damaged one before a client meets it
    task, graph = model.compiled.task, model.compiled.program.graph
    if task.kind == "embed" and how.reveal.k is not None:
        raise ValueError("an embedding means nothing in parts; serve it with --reveal logits")
    plan, notes = model.plan, [f"clients will learn {learnt(task, how.reveal)}"]
    if not is_compiled(run):
        notes.append(f"{run} is not compiled: SIGHUP does not read it again")
    if not by_text:
        notes.append(f"{run} has no text to calibrate on: number formats come from random tokens")
    published = b"" if how.draft is None else _draft(how.draft, run, model.vocab_size)
    if published:
        notes.append(f"clients that guess tokens get {how.draft}, {len(published) / 1e6:.1f} MB: it is public now")
    store: WeightStore | None = None
    if plan is not None and how.weights_bytes is not None:
        store = check_room(model.compiled, plan, MAX_OUTPUTS, how.reveal, how.weights_bytes)
    server = Server(
        notation=model.notation,
        context=model.context,
        vocab_size=model.vocab_size,
        tokenizer=(run / tokenizer.FILE).read_bytes(),
        programs=model.compiled,
        engine=how.engine,
        engine_for=lambda channel: connect_engine(
            how.engine,
            Role.SERVER,
            channel,
            plan=plan,
            insecure_plaintext=how.insecure_plaintext,
            store=store,
        ),
        reveal=how.reveal,
        max_prompts=how.max_prompts,
        end_tokens=model.compiled.end_tokens,
        chat_template=chat_template.load(run),
        draft=published,
        task=task,
        embedding_size=graph.shapes[graph.output][1] if task.kind == "embed" else 0,
        idle=how.idle,
    )
    return Model(server, model.notation, tuple(notes))


def _draft(draft: Path, run: Path, vocab_size: int) -> bytes:
    """What is published of a draft model. ValueError where it has another tokenizer, or is too large."""
    if (draft / tokenizer.FILE).read_bytes() != (run / tokenizer.FILE).read_bytes():
        raise ValueError(f"--draft {draft} has another tokenizer than {run}; train it on the same data folder")
    program = CompiledRun.load(draft).compiled.program
    data = pack(program)
    if program.graph.shapes[program.graph.output][1] != vocab_size or len(data) > MAX_DRAFT_BYTES:
        raise ValueError(
            f"--draft {draft} has another vocabulary, or more than {MAX_DRAFT_BYTES >> 20} MB; give a smaller model"
        )
    return data


def _compiled(run: Path, *, with_plan: bool) -> tuple[CompiledRun, bool]:
    """A run, which is compiled now, or what was compiled before; and False where number formats had to come from random
    tokens."""
    from aero.compiler.run import is_encoder, load_model

    if is_compiled(run) or not with_plan:
        found = CompiledRun.load(run)
        if not with_plan or found.plan is not None:
            return found, True  # without torch, which takes seconds to load
    from aero.cli.served import plan_of, serve_run

    if is_encoder(run):
        from aero.cli.calibration import BLOCKS
        from aero.cli.encoders import encoder_formats, texts_of

        found = CompiledRun.load(run)
        formats = encoder_formats(found.compiled, texts_of(run, found.compiled, None, BLOCKS, 0))
        return CompiledRun(found.notation, found.compiled, formats.plan), False
    if not is_compiled(run):
        model = load_model(run)
        served, by_text = serve_run(run, model)
        return CompiledRun(str(model.config.notation), served.compiled, served.quantized.plan), by_text
    plan, by_text = plan_of(run, found.compiled)
    return CompiledRun(found.notation, found.compiled, plan), by_text
