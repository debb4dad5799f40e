from rich.console import Console

from aero.cli.step_table import step_table
from aero.engines.engine import StepReport


def test_steps_of_an_operation_are_one_line_and_there_is_a_sum():
    steps = [
        StepReport("h.0.scores", "scores", 1_000_000, 2_000_000, 2, 0.5, 0.25),
        StepReport("h.1.scores", "scores", 3_000_000, 0, 2, 0.5, 0.25),
        StepReport("h.0.softmax", "softmax", 500_000, 250_000, 30, 4.0, 1.5),
    ]
    console = Console(width=120)
    with console.capture() as captured:
        console.print(step_table("steps", steps))
    lines = [line.split() for line in captured.get().splitlines()[2:]]
    assert lines == [
        ["softmax", "1", "0.50", "0.25", "30", "4.00", "2.50", "1.50"],
        ["scores", "2", "4.00", "2.00", "4", "1.00", "0.50", "0.50"],
        ["all", "3", "4.50", "2.25", "34", "5.00", "3.00", "2.00"],
    ]
