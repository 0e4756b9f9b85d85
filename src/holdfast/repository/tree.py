"""Trees: the nodes of one directory, and their JSON, byte-identical with restic's."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field

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


class BadTreeError(DamagedError):
    """A tree's JSON is not a tree."""


@dataclass(frozen=True, slots=True)
class Node:
    """One entry as a tree holds it: content and subtree are ids of blobs."""

    name: bytes
    kind: Kind
    metadata: Metadata
    content: tuple[bytes, ...] | None = field(default=None, repr=False)
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
    out = [f'{{"name":{go_json.name(name)},"type":"{kind.value}"']
    mode = go_mode(kind, meta.mode)
    if mode:
        out.append(f',"mode":{mode}')
    mtime = go_json.time(meta.mtime_ns)
    atime = mtime if meta.atime_ns == meta.mtime_ns else go_json.time(meta.atime_ns)
    ctime = mtime if meta.ctime_ns == meta.mtime_ns else go_json.time(meta.ctime_ns)
    out.append(f',"mtime":{mtime},"atime":{atime},"ctime":{ctime},"uid":{meta.uid},"gid":{meta.gid}')
    if meta.user:
        out.append(f',"user":{go_json.string(meta.user)}')
    if meta.group:
        out.append(f',"group":{go_json.string(meta.group)}')
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
    if content is None:
        out.append(',"content":null')
    elif len(content) == 1:
        out.append(f',"content":["{content[0].hex()}"]')
    else:
        out.append(',"content":[' + ",".join(f'"{blob.hex()}"' for blob in content) + "]")
    if subtree is not None:
        out.append(f',"subtree":"{subtree.hex()}"')
    out.append("}")
    return "".join(out)


def encode_tree(encoded_nodes: Sequence[str]) -> bytes:
    """Return the tree of nodes that are encoded already and in the byte order of their names."""
    return ('{"nodes":[' + ",".join(encoded_nodes) + "]}\n").encode("utf-8", "replace")


def decode_tree(text: bytes | bytearray) -> list[Node]:
    """Return the nodes of a tree's JSON.

    Raises:
        BadTreeError: it is not a tree, or holds a name that no directory can.
    """
    try:
        return [_node(value) for value in orjson.loads(text)["nodes"] or ()]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise BadTreeError(f"a tree cannot be read: {error}") from error


def decode_raw_tree(text: bytes | bytearray) -> dict[bytes, dict[str, object]]:
    """Return the nodes of a tree's JSON by name, as they are; `decode_node` decodes one.

    Raises:
        BadTreeError: it is not a tree.
    """
    try:
        return {go_json.unquoted(value["name"]): value for value in orjson.loads(text)["nodes"] or ()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadTreeError(f"a tree cannot be read: {error}") from error


def decode_node(value: dict[str, object]) -> Node:
    """Return one node of a tree's JSON.

    Raises:
        BadTreeError: it is none, or has a name that no directory can hold.
    """
    try:
        return _node(value)
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
