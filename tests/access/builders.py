"""Callers and policies for tests, with everything that is not the point filled in."""

import json
from typing import Any

import sqlalchemy as sa

from holdfast.access.model import (
    AccessRequest,
    Caller,
    CallerKind,
    DocumentKind,
    Level,
    Policy,
    caller_values,
    parse_document,
    values_of,
)

HERE = "111122223333"
THERE = "444455556666"
MANAGEMENT = "999900001111"
VAULT = f"arn:aws:backup:eu-north-1:{HERE}:backup-vault:Daily"


def insert_row(tx: sa.Connection, table: str, **values: Any) -> None:
    """Write a row of another station's table: columns that must not be empty and are not given are 0, '' or false."""
    row: dict[str, Any] = {}
    for column in sa.inspect(tx).get_columns(table):
        if column["name"] in values:
            row[column["name"]] = values[column["name"]]
        elif not column["nullable"] and column.get("autoincrement") is not True:
            kind = column["type"].python_type
            row[column["name"]] = kind()
    names = ", ".join(row)
    tx.execute(sa.text(f"INSERT INTO {table} ({names}) VALUES ({', '.join(f':{name}' for name in row)})"), row)


def a_user(name: str = "maria", account: str = HERE, **more: Any) -> Caller:
    arn = f"arn:aws:iam::{account}:user/{name}"
    return Caller(account, arn, "AIDA" + "U" * 17, arn, CallerKind.USER, **more)


def a_session(role: str = "Operator", name: str = "tonight", account: str = HERE, **more: Any) -> Caller:
    return Caller(
        account,
        f"arn:aws:sts::{account}:assumed-role/{role}/{name}",
        "AROA" + "R" * 17 + f":{name}",
        f"arn:aws:iam::{account}:role/{role}",
        CallerKind.ROLE,
        session_name=name,
        **more,
    )


def document(*statements: dict[str, Any], version: str = "2012-10-17") -> str:
    return json.dumps({"Version": version, "Statement": list(statements)})


def allow(action: str | list[str] = "*", resource: str | list[str] = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: str | list[str] = "*", resource: str | list[str] = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Deny", "Action": action, "Resource": resource, **more}


def policy(*statements: dict[str, Any], name: str = "a-policy", kind: DocumentKind = DocumentKind.IDENTITY) -> Policy:
    return Policy(name, parse_document(document(*statements), kind))


def resource_policy(*statements: dict[str, Any], name: str = "the vault's policy") -> Policy:
    return policy(*statements, name=name, kind=DocumentKind.RESOURCE)


def scp(*statements: dict[str, Any], name: str = "p-control") -> Policy:
    return policy(*statements, name=name, kind=DocumentKind.SCP)


def level(node: str, *policies: Policy) -> Level:
    return Level(node, policies)


def a_request(
    caller: Caller | None = None,
    action: str = "backup:DeleteRecoveryPoint",
    resource: str = VAULT,
    owner: str = HERE,
    **values: Any,
) -> AccessRequest:
    caller = caller or a_user()
    given = values_of({key.replace("__", ":"): value for key, value in values.items()})
    return AccessRequest(caller, action, resource, owner, {**caller_values(caller), **given})
