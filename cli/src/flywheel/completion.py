"""`flywheel completion`."""

from enum import StrEnum, auto
from typing import Annotated, Final

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined] # it is not marked as exported

from flywheel.lazy import command

app = command()

# With it in the environment the command is the shell's, and prints what a word may go on with.
VARIABLE: Final = "_FLYWHEEL_COMPLETE"


class Shell(StrEnum):
    """The shells."""

    BASH = auto()
    ZSH = auto()
    FISH = auto()


@app.command()
def completion(shell: Annotated[Shell, typer.Argument(help="Which one.")]) -> None:
    """Print the script that completes commands, flags and their values.

    bash: eval "$(flywheel completion bash)" in ~/.bashrc. zsh: the same in ~/.zshrc, after compinit.
    fish: flywheel completion fish > ~/.config/fish/completions/flywheel.fish
    """
    script = get_completion_script(prog_name="flywheel", complete_var=VARIABLE, shell=shell)
    print(script)  # noqa: T201 - the result of the command
