"""Tables on standard output."""

from typing import Final

from rich.console import Console
from rich.table import Table

_WIDE: Final = 1000
"""Columns, where nobody's terminal says how wide a line may be."""


def print_table(table: Table) -> None:
    """Print a table, as wide as the terminal, or on lines as long as they get for another program."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=_WIDE)
    console.print(table)
