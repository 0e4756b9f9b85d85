"""Databases full of random rows, in every table there is."""

import random
from typing import Any

import sqlalchemy as sa

from holdfast.database.connection import Database
from holdfast.database.rows import Tables, tables, without_triggers

_LETTERS = "abcXYZ019 -_/:.\"'\\\t\n{}[],äß€中😀"


def _value(chance: random.Random, column: sa.Column[Any], number: int) -> Any:
    kind: Any = column.type
    if isinstance(kind, sa.Boolean):
        return bool(chance.getrandbits(1))
    if isinstance(kind, sa.LargeBinary):
        return chance.randbytes(chance.randrange(60))
    if isinstance(kind, sa.Float):
        return chance.choice([0.0, 100.0, chance.random() * 100])
    if isinstance(kind, sa.Integer):
        if isinstance(kind, sa.BigInteger) and column.name != "id":
            return chance.choice([2**63 - 1, 0, -1, chance.randrange(2**62)])
        return number
    return f"{number} " + "".join(chance.choices(_LETTERS, k=chance.randrange(40)))


def fill(database: Database, *, rows: int = 30, seed: int = 1) -> Tables:
    """Put random rows into every table; return the tables."""
    chance = random.Random(seed)  # noqa: S311 - rows, not secrets
    these = tables()
    with database.transaction() as tx, without_triggers(tx):
        for table in these:
            if table.name == "access_version":
                continue
            made = [
                {
                    column.name: None
                    if column.nullable and column.name != "id" and not chance.getrandbits(2)
                    else _value(chance, column, number)
                    for column in table.columns
                }
                for number in range(1, rows + 1)
            ]
            # Uniqueness among the columns that hold random numbers is left to chance, except where it is not enough.
            for number, row in enumerate(made):
                for name in (
                    "starts_at",
                    "ends_at",
                    "deleted_at",
                    "due_at",
                    "sequence",
                    "number",
                    "class_id",
                    "resource_id",
                ):
                    if isinstance(row.get(name), int):
                        row[name] = number + 1
                if "state" in row and table.name == "job":
                    row["state"] = chance.choice(["CREATED", "RUNNING", "COMPLETED", "FAILED"])
            tx.execute(sa.insert(table), made)
    return these
