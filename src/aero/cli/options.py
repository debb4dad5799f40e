"""Options that several verbs have, so that they have one name and one description each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from aero.cli.streams import json_only
from aero.serve.drafts import MAX_GUESSES


def json_option(help: str) -> Any:
    """`--json`, of every verb that has it. help: what it writes."""
    return typer.Option(
        "--json", help=f"{help} - is standard output, on which nothing else is then.", callback=json_only
    )


WAIT_SECONDS = 300.0

RunFolder = Annotated[Path, typer.Argument(help="Run folder of a trained model.")]
Records = Annotated[Path | None, json_option("Write the records here, as a JSON list.")]

# Training.
Size = Annotated[str, typer.Option(help="Size of the models: demo, nano, demo-llama, gpt2-small, ...")]
LearningRate = Annotated[float, typer.Option(help="Peak learning rate.")]
BatchSize = Annotated[int, typer.Option(help="Blocks of the context length for one step.")]
TrainingSeed = Annotated[int, typer.Option(help="Decides the initial weights and the order of the text.")]
FreezeOrders = Annotated[
    str, typer.Option(help="How the norms of an FLN or FRMS model become constant: together, or one_by_one.")
]
TeacherWeight = Annotated[
    float, typer.Option(help="Weight of the teacher's distributions in the loss; the text has the rest.")
]
TeacherTemperature = Annotated[float, typer.Option(help="Divides the logits of both for that.")]

# Two parties. `aero.cli.security` reads the first two.
Keys = Annotated[
    Path | None,
    typer.Option(help="Folder of keys, made by `aero keys`: certificates for TLS 1.3, each party authenticated."),
]
NoTls = Annotated[
    bool,
    typer.Option(
        "--insecure-plaintext",
        help="No TLS: whoever reads the wire of both directions reads the prompt and the weights. For loopback trials.",
    ),
]
WeightsGb = Annotated[
    float | None,
    typer.Option(
        "--weights-gb",
        help="Memory for transforms of weights, in GB (10^9 bytes), which a server keeps for steps of a single row; "
        "what finds no place is transformed anew in each: the same results, later, with 0 in the least memory. A "
        "quarter of the machine's memory if not given.",
        min=0.0,
    ),
]
MachineOption = Annotated[
    str | None,
    typer.Option(
        "--machine",
        help="What our own kernels take: avx512, avx2, portable (by default, as this processor), or a JSON file of "
        "`aero bench calibrate --engine two-party`.",
    ),
]
Threads = Annotated[int | None, typer.Option(help="Threads of our own kernels; AERO_THREADS or 1 if not given.", min=1)]
Networks = Annotated[
    list[str] | None, typer.Option(help="loopback (by default), lan, wan, or like 300mbit,40ms: emulated. Repeatable.")
]

# Generating.
Temperature = Annotated[
    float,
    typer.Option(help="0 takes the most likely token; above, tokens are drawn, more evenly the higher it is.", min=0.0),
]
TopK = Annotated[int | None, typer.Option(help="Draw among so many of the most likely tokens.", min=1)]
TopP = Annotated[float | None, typer.Option(help="Draw among the fewest tokens that have this probability together.")]
SamplingSeed = Annotated[int | None, typer.Option(help="The same seed draws the same tokens.", min=0)]
Stop = Annotated[
    list[str] | None, typer.Option(help="End before this text, beside the model's end tokens. Repeatable.")
]
Special = Annotated[
    bool,
    typer.Option(
        "--special",
        help="Read special tokens that a prompt spells, such as <|endoftext|>, as such; otherwise they stay text.",
    ),
]
PadTo = Annotated[
    int | None,
    typer.Option(
        help="Pad what is read at once, so that the server learns its length as a multiple of so many tokens. The "
        "model reads the padding, too, and answers may be others.",
        min=1,
    ),
]
Guess = Annotated[
    int,
    typer.Option(
        "--guess",
        help="Tokens to guess ahead, at most, where a phrase of the text goes on as it did before, or by a model that "
        "the server publishes: several are confirmed in the rounds of one, as many as pay. The tokens are the same; "
        "the server learns how many held.",
        min=0,
        max=MAX_GUESSES,
    ),
]
Steady = Annotated[
    bool,
    typer.Option(
        "--steady",
        help="With --guess: read as many guesses in every step, and what held once more, so that the server learns the "
        "number of steps and not how many guesses held. An answer is at most so many steps shorter.",
    ),
]
Wait = Annotated[
    float | None,
    typer.Option(
        "--wait",
        help=f"Seconds to wait for a place where the server is busy, then exit with 75; {WAIT_SECONDS:g} if not given.",
        min=0,
        show_default=False,
    ),
]
Reconnect = Annotated[
    int,
    typer.Option(
        "--reconnect",
        help="New sessions for one answer, at most, where the connection breaks; what was read is then read again.",
        min=0,
    ),
]
SessionReport = Annotated[
    Path | None, typer.Option(help="Write a page of the session (HTML), and the same as JSON beside it.")
]
