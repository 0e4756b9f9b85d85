"""Trees: the nodes of one directory, and their JSON, byte-identical with restic's."""

import base64
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import orjson

from holdfast.core.errors import DamagedError
from holdfast.repository import go_json
from holdfast.repository.entry import InvalidEntryError, Kind, Metadata, refuse_bad_name

# Go's file mode bits (Go standard library documentation, io/fs "FileMode") and the permission bits of POSIX.
_GO_KIND = {
    Kind.FILE: 0,
    Kind.DIR: 1 << 31,
    Kind.SYMLINK: 1 << 27,
    Kind.DEV: 1 << 26,
    Kind.CHARDEV: 1 << 26 | 1 << 21,
    Kind.FIFO: 1 << 25,
    Kind.SOCKET: 1 << 24,
}
_GO_SPECIAL = ((0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20))
_PERMISSIONS = 0o777
_ID_BYTES = 32
_KINDS = {kind.value: kind for kind in Kind}
_TREE_START, _TREE_END = '{"nodes":[', "]}\n"
# Where a node begins. A text inside of one cannot look like this, since its quotes would be escaped; and what else has
# a name, an extended attribute, has a value next.
_NODE = re.compile(r'\{"name":"((?:[^"\\]|\\.)*)","type":')


class BadTreeError(DamagedError):
    """A tree's JSON is not a tree."""


class Node(NamedTuple):
    """One entry as a tree holds it: content and subtree are ids of blobs."""

    name: bytes
    kind: Kind
    metadata: Metadata
    content: tuple[bytes, ...] | None = None
    subtree: bytes | None = None


def go_mode(kind: Kind, mode: int) -> int:
    """Return kind and POSIX permission bits as Go's file mode."""
    out = _GO_KIND[kind] | mode & _PERMISSIONS
    if mode & ~_PERMISSIONS:
        for posix, go in _GO_SPECIAL:
            if mode & posix:
                out |= go
    return out


def posix_mode(go: int) -> int:
    """Return the POSIX permission bits, with set-id and sticky, of Go's file mode."""
    out = go & _PERMISSIONS
    for posix, bit in _GO_SPECIAL:
        if go & bit:
            out |= posix
    return out


def encode_node(
    name: bytes,
    kind: Kind,
    meta: Metadata,
    *,
    size: int = 0,
    content: Sequence[bytes] | None = None,
    subtree: bytes | None = None,
) -> str:
    """Return one node as restic's JSON; its size is the one given, not the metadata's."""
    head = encode_head(name, kind, meta, size)
    end = "}" if subtree is None else f',"subtree":"{subtree.hex()}"}}'
    if content is None:
        return f'{head},"content":null{end}'
    if len(content) == 1:
        return f'{head},"content":["{content[0].hex()}"]{end}'
    blobs = ",".join(f'"{blob.hex()}"' for blob in content)
    return f'{head},"content":[{blobs}]{end}'


def encode_head(name: bytes, kind: Kind, meta: Metadata, size: int = 0) -> str:
    """Return what a node's JSON says before its content: all of its metadata."""
    out = ['{"name":', go_json.name(name), _kind_and_mode(kind, meta.mode)]
    mtime = go_json.time(meta.mtime_ns)
    atime = mtime if meta.atime_ns == meta.mtime_ns else go_json.time(meta.atime_ns)
    ctime = mtime if meta.ctime_ns == meta.mtime_ns else go_json.time(meta.ctime_ns)
    out.append(f',"mtime":{mtime},"atime":{atime},"ctime":{ctime}')
    out.append(_owner(meta.uid, meta.gid, meta.user, meta.group))
    if meta.inode:
        out.append(f',"inode":{meta.inode}')
    if meta.device:
        out.append(f',"device_id":{meta.device}')
    if size:
        out.append(f',"size":{size}')
    if meta.links:
        out.append(f',"links":{meta.links}')
    if meta.link_target:
        out.append(f',"linktarget":{go_json.string_of_bytes(meta.link_target)}')
        if not _is_utf8(meta.link_target):
            out.append(f',"linktarget_raw":{go_json.base64_string(meta.link_target)}')
    if meta.xattrs:
        pairs = ",".join(
            f'{{"name":{go_json.string(key)},"value":{go_json.base64_string(value)}}}' for key, value in meta.xattrs
        )
        out.append(f',"extended_attributes":[{pairs}]')
    if meta.rdev:
        out.append(f',"device":{meta.rdev}')
    return "".join(out)


@lru_cache(maxsize=1024)
def _kind_and_mode(kind: Kind, mode: int) -> str:
    go = go_mode(kind, mode)
    return f',"type":"{kind.value}"' + (f',"mode":{go}' if go else "")


@lru_cache(maxsize=1024)
def _owner(uid: int, gid: int, user: str, group: str) -> str:
    out = f',"uid":{uid},"gid":{gid}'
    if user:
        out += f',"user":{go_json.string(user)}'
    if group:
        out += f',"group":{go_json.string(group)}'
    return out


def encode_tree(encoded_nodes: Sequence[str]) -> bytes:
    """Return the tree of nodes that are encoded already and in the byte order of their names."""
    return (_TREE_START + ",".join(encoded_nodes) + _TREE_END).encode("utf-8", "replace")


def decode_tree(text: bytes | bytearray) -> list[Node]:
    """Return the nodes of a tree's JSON.

    Raises:
        BadTreeError: it is not a tree, or holds a name that no directory can.
    """
    try:
        return [_node(value) for value in orjson.loads(text)["nodes"] or ()]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise BadTreeError(f"a tree cannot be read: {error}") from error


def decode_each_node(text: bytes) -> list[Node | DamagedError]:
    """Return the nodes of a tree's JSON, and in the place of each that cannot be read why.

    Raises:
        BadTreeError: it is not a tree.
    """
    try:
        values = list(orjson.loads(text)["nodes"] or ())
    except (ValueError, KeyError, TypeError) as error:
        raise BadTreeError(f"a tree cannot be read: {error}") from error
    return [_node_or_fault(value) for value in values]


def _node_or_fault(value: dict[str, object]) -> Node | DamagedError:
    try:
        return _node(value)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        return BadTreeError(f"it cannot be read: {error}")
    except DamagedError as error:
        return error


def split_tree(text: bytes) -> dict[bytes, str]:
    """Return the JSON of each node of a tree by the node's name, as it stands there; `decode_node` decodes one.

    Raises:
        BadTreeError: it is not a tree.
    """
    try:
        tree = text.decode()
        starts = list(_NODE.finditer(tree))
        if starts and tree.startswith(_TREE_START + tree[starts[0].start()]) and tree.endswith(_TREE_END):
            ends = [start.start() - 1 for start in starts[1:]]  # a comma lies between two
            ends.append(len(tree) - len(_TREE_END))
            return {_name(start[1]): tree[start.start() : end] for start, end in zip(starts, ends, strict=True)}
        # Written by somebody else, with spaces or in another order.
        nodes = orjson.loads(text)["nodes"] or ()
        return {go_json.unquoted(value["name"]): orjson.dumps(value).decode() for value in nodes}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadTreeError(f"a tree cannot be read: {error}") from error


def _name(text: str) -> bytes:
    """Return the name that a JSON string, without its quotes, spells."""
    return go_json.unquoted(orjson.loads(f'"{text}"')) if "\\" in text else text.encode()


def decode_node(text: str) -> Node:
    """Return the node that its JSON spells.

    Raises:
        BadTreeError: it is none, or has a name that no directory can hold.
    """
    try:
        return _node(orjson.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise BadTreeError(f"a tree cannot be read: {error}") from error


def _node(value: dict[str, object]) -> Node:
    name = go_json.unquoted(_text(value["name"]))
    kind = _KINDS.get(_text(value["type"]))
    if kind is None:
        raise BadTreeError(f"{name!r} is of the unknown kind {value['type']!r}")
    try:
        refuse_bad_name(name)
    except InvalidEntryError as error:
        raise BadTreeError(f"a tree holds a name that no directory can: {error}") from error
    raw_target = value.get("linktarget_raw")
    target = base64.b64decode(_text(raw_target)) if raw_target else _text(value.get("linktarget", "")).encode()
    content = value.get("content")
    subtree = value.get("subtree")
    xattrs = value.get("extended_attributes") or ()
    if not isinstance(xattrs, list | tuple) or not isinstance(content, list | None):
        raise BadTreeError(f"{name!r} has fields of the wrong kind")
    mtime, atime, ctime = _text(value["mtime"]), _text(value["atime"]), _text(value["ctime"])
    mtime_ns = go_json.parse_time(mtime)
    return Node(
        name=name,
        kind=kind,
        metadata=Metadata(
            mode=posix_mode(_number(value, "mode")),
            uid=_number(value, "uid"),
            gid=_number(value, "gid"),
            user=_text(value.get("user", "")),
            group=_text(value.get("group", "")),
            mtime_ns=mtime_ns,
            atime_ns=mtime_ns if atime == mtime else go_json.parse_time(atime),
            ctime_ns=mtime_ns if ctime == mtime else go_json.parse_time(ctime),
            size=_number(value, "size"),
            inode=_number(value, "inode"),
            device=_number(value, "device_id"),
            links=_number(value, "links"),
            link_target=target,
            rdev=_number(value, "device"),
            xattrs=tuple((_text(x["name"]), base64.b64decode(x["value"] or "")) for x in xattrs),
        ),
        content=None if content is None else tuple(_id(blob) for blob in content),
        subtree=None if subtree is None else _id(subtree),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise BadTreeError(f"a text was expected instead of {value!r}")
    return value


def _number(value: dict[str, object], key: str) -> int:
    number = value.get(key, 0)
    if not isinstance(number, int) or number < 0:
        raise BadTreeError(f"{key} should be a number, not {number!r}")
    return number


def _id(value: object) -> bytes:
    out = bytes.fromhex(_text(value))
    if len(out) != _ID_BYTES:
        raise BadTreeError(f"{value!r} is not the id of a blob")
    return out


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
