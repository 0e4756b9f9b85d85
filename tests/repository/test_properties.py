"""Laws: any tree round-trips, encoders and decoders undo each other, and a repository follows a small model."""

import io
import os
import stat
import struct
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from tests.repository.builders import a_file, a_repository
from tests.repository.conftest import NOON, PASSWORD
from tests.repository.dying import DyingStorage
from tests.repository.trees import describe

from holdfast.core.errors import HoldfastError
from holdfast.repository import blob_writer, go_json
from holdfast.repository.blob_writer import WriteLimits
from holdfast.repository.check import Depth
from holdfast.repository.chunk import ChunkClass, Chunker, RunCutter, seed_of
from holdfast.repository.cipher import OVERHEAD, Box, BoxBrokenError, BoxKey
from holdfast.repository.config import irreducible_polynomial, is_irreducible
from holdfast.repository.entry import Entry, Hole, Kind, Metadata, Piece
from holdfast.repository.filetree import walk_tree
from holdfast.repository.lock import RepositoryLockedError
from holdfast.repository.pack import BlobKind, PackedBlob, decode_header, encode_header
from holdfast.repository.pattern import Choice
from holdfast.repository.repository import Repository
from holdfast.repository.storage import MemoryStorage, Storage, StorageFailedError
from holdfast.repository.sweep import SweepPlan, SweepRules
from holdfast.repository.tree import decode_node, decode_tree, encode_node, encode_tree, split_tree
from holdfast.repository.writer import Limits, SnapshotWriter

NAMES = (
    st.binary(min_size=1, max_size=40)
    .map(lambda raw: raw.replace(b"/", b"_").replace(b"\0", b"_"))
    .filter(lambda raw: raw not in (b".", b".."))
)
IDS = st.binary(min_size=32, max_size=32)
TIMES = st.integers(min_value=-(2**62), max_value=2**62)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
METADATA = st.builds(
    Metadata,
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 2**32 - 1),
    gid=st.integers(0, 2**32 - 1),
    user=TEXTS,
    group=TEXTS,
    mtime_ns=TIMES,
    atime_ns=TIMES,
    ctime_ns=TIMES,
    size=st.integers(0, 2**63),
    inode=st.integers(0, 2**64 - 1),
    device=st.integers(0, 2**64 - 1),
    links=st.integers(0, 2**31),
    link_target=st.binary(max_size=30),
    rdev=st.integers(0, 2**64 - 1),
    xattrs=st.lists(st.tuples(TEXTS, st.binary(max_size=20)), max_size=3).map(tuple),
)


NODES = st.dictionaries(NAMES, st.tuples(st.sampled_from(Kind), METADATA, st.lists(IDS, max_size=3)), max_size=5)
Nodes = dict[bytes, tuple[Kind, Metadata, list[bytes]]]


def encoded_nodes(nodes: Nodes) -> dict[bytes, str]:
    return {
        name: encode_node(name, kind, meta, size=meta.size, content=content)
        for name, (kind, meta, content) in sorted(nodes.items())
    }


@given(NODES)
def test_a_tree_reads_back_as_it_was_written(nodes: Nodes) -> None:
    read = decode_tree(encode_tree(list(encoded_nodes(nodes).values())))
    assert [(node.name, node.kind, node.metadata, list(node.content or ())) for node in read] == [
        (name, *rest) for name, rest in sorted(nodes.items())
    ]


@given(NODES)
def test_a_tree_is_split_into_the_very_texts_of_its_nodes_however_they_look(nodes: Nodes) -> None:
    encoded = encoded_nodes(nodes)
    assert split_tree(encode_tree(list(encoded.values()))) == encoded


@given(NODES)
def test_a_tree_that_others_wrote_in_their_own_way_is_split_into_the_same_nodes(nodes: Nodes) -> None:
    text = encode_tree(list(encoded_nodes(nodes).values()))
    theirs = orjson.dumps(orjson.loads(text), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
    assert [decode_node(node) for node in split_tree(theirs).values()] == decode_tree(text)


@given(st.binary(max_size=60))
def test_any_name_can_be_quoted_and_unquoted(raw: bytes) -> None:
    assert go_json.unquoted(go_json.quoted(raw)) == raw


@given(TIMES)
def test_a_time_reads_back_to_the_nanosecond(ns: int) -> None:
    assert go_json.parse_time(go_json.time(ns)[1:-1]) == ns


@given(st.binary(max_size=2000), st.integers(min_value=0))
def test_a_box_opens_with_its_key_and_with_no_bit_changed(plaintext: bytes, bit: int) -> None:
    box = Box(BoxKey.generate())
    sealed = box.seal(plaintext)
    assert len(sealed) == len(plaintext) + OVERHEAD
    assert box.open(sealed) == plaintext
    at = bit % (len(sealed) * 8)
    sealed[at // 8] ^= 1 << at % 8
    with pytest.raises(BoxBrokenError):
        box.open(sealed)
    with pytest.raises(BoxBrokenError):
        Box(BoxKey.generate()).open(box.seal(plaintext))


PACKED = st.builds(
    lambda kind, blob_id, length, raw: (kind, blob_id, length, raw),
    st.sampled_from(BlobKind),
    IDS,
    st.integers(33, 2**31),
    st.integers(0, 2**31),
)


@given(st.lists(PACKED, max_size=5))
def test_a_pack_header_reads_back(blobs: list[tuple[BlobKind, bytes, int, int]]) -> None:
    offset = 0
    packed = []
    for kind, blob_id, length, raw in blobs:
        packed.append(PackedBlob(kind, blob_id, offset, length, raw))
        offset += length
    assert decode_header(encode_header(packed)) == packed


@pytest.mark.parametrize("chunk_class", list(ChunkClass))
@given(
    size=st.integers(0, 12 << 20), steps=st.lists(st.integers(1, 3 << 20), min_size=1, max_size=5), seed=st.integers(0)
)
@settings(max_examples=12)
def test_cuts_keep_every_byte_and_do_not_depend_on_how_data_comes(
    chunk_class: ChunkClass, size: int, steps: list[int], seed: int
) -> None:
    data = os.urandom(1 << 20) * (size >> 20) + os.urandom(size & ((1 << 20) - 1))
    chunker = Chunker(chunk_class, seed % (1 << 63))

    def cut(pieces: list[bytes]) -> list[bytes]:
        chunks: list[bytes] = []
        cutter = RunCutter(chunker, lambda chunk: chunks.append(bytes(chunk)))
        for piece in pieces:
            cutter.feed(piece)
        cutter.end()
        return chunks

    pieces: list[bytes] = []
    at = 0
    while at < len(data):
        step = steps[len(pieces) % len(steps)]
        pieces.append(data[at : at + step])
        at += step
    chunks = cut(pieces)
    assert b"".join(chunks) == data
    assert chunks == cut([data])
    assert all(chunker.cut.minimum <= len(chunk) <= chunker.cut.maximum for chunk in chunks[:-1])


def test_a_seed_moves_the_cuts_and_a_key_has_one_seed() -> None:
    data = os.urandom(8 << 20)
    key = BoxKey.generate()

    def cut(seed: int) -> list[int]:
        return list(Chunker(ChunkClass.FILE, seed).cuts(memoryview(data), last=True))

    assert cut(seed_of(key)) == cut(seed_of(key))
    assert cut(seed_of(key)) != cut(seed_of(BoxKey.generate()))


def test_a_polynomial_is_irreducible_and_a_product_is_not() -> None:
    assert is_irreducible(irreducible_polynomial())
    assert is_irreducible(0x3DA3358B4DC173)  # the one in restic's own tests
    one, other, product = (1 << 33) | 0b1011, (1 << 20) | 0b1001, 0
    for at in range(21):
        if other >> at & 1:
            product ^= one << at
    assert product.bit_length() == 54
    assert not is_irreducible(product)


class Pieces:
    def __init__(self, pieces: list[Piece]) -> None:
        self._pieces = pieces

    def read(self) -> "list[Piece]":  # a list is an iterable of pieces
        return self._pieces


PIECES = st.lists(
    st.one_of(
        st.builds(Hole, st.integers(1, 20 << 20)),
        st.binary(min_size=1, max_size=3000).map(lambda data: data * 997),
    ),
    max_size=4,
)


@pytest.mark.parametrize("chunk_class", list(ChunkClass))
@given(pieces=PIECES)
@settings(max_examples=10)
def test_content_with_holes_reads_back_with_holes(chunk_class: ChunkClass, pieces: list[Piece]) -> None:
    repository = a_repository()
    content = b"".join(bytes(piece.length) if isinstance(piece, Hole) else bytes(piece) for piece in pieces)  # type: ignore[arg-type] # holes and bytes only
    entry = Entry((b"f",), Kind.FILE, Metadata(), Pieces(pieces))  # type: ignore[arg-type] # see Pieces
    written = repository.write([entry], at=NOON, chunk_class=chunk_class)
    out = io.BytesIO()
    assert repository.dump(written.snapshot_id, (b"f",), out) == len(content)
    assert out.getvalue() == content
    with tempfile.TemporaryDirectory() as target:
        assert repository.restore(written.snapshot_id, Path(target), verify=True).problems == ()
        restored = Path(target) / "f"
        assert restored.read_bytes() == content
        holes = sum(piece.length for piece in pieces if isinstance(piece, Hole) and piece.length >= 16 << 20)
        assert restored.stat().st_blocks * 512 <= len(content) - holes // 2 + 4096


FILE_NAMES = NAMES.filter(lambda raw: len(raw) <= 40)
# An access list for user 1000 and a mask, as `setfacl -m u:1000:r` stores it (Linux, posix_acl_xattr.h).
ACCESS_LIST = struct.pack(
    "<I" + "HHI" * 5, 2, 1, 6, 2**32 - 1, 2, 4, 1000, 4, 4, 2**32 - 1, 16, 4, 2**32 - 1, 32, 4, 2**32 - 1
)
ATTRIBUTES = st.dictionaries(
    st.sampled_from(["user.a", "user.ü", "user.with space"]), st.binary(max_size=30), max_size=2
).flatmap(lambda plain: st.sampled_from([plain, {**plain, "system.posix_acl_access": ACCESS_LIST}]))
MOMENTS = st.integers(-(2**31) * 10**9, 2**33 * 10**9)


@dataclass(frozen=True)
class Leaf:
    """Something that is no directory, to be laid on a disk."""

    content: bytes
    hole: int
    special: str
    attributes: dict[str, bytes]
    mode: int
    mtime_ns: int


LEAVES = st.builds(
    Leaf,
    content=st.binary(max_size=300),
    hole=st.sampled_from([0, 0, 1 << 20, 3 << 20]),
    special=st.sampled_from(["", "", "", "link", "fifo", "second name", "device"]),
    attributes=ATTRIBUTES,
    mode=st.integers(0, 0o7777),
    mtime_ns=MOMENTS,
)
TREES = st.recursive(LEAVES, lambda below: st.dictionaries(FILE_NAMES, below, max_size=4), max_leaves=10)


def lay(root: Path, tree: Mapping[bytes, object], last: list[Path]) -> None:
    for name, value in tree.items():
        path = root / os.fsdecode(name)
        if not isinstance(value, Leaf):
            assert isinstance(value, dict)
            path.mkdir()
            lay(path, value, last)
        elif value.special == "link":
            path.symlink_to(os.fsdecode(b"../" + value.content.replace(b"\0", b"") + b"x"))
            os.utime(path, ns=(0, value.mtime_ns), follow_symlinks=False)
        elif value.special == "second name" and last:
            path.hardlink_to(last[-1])
        else:
            lay_leaf(path, value)
            if value.special == "":
                last.append(path)


def lay_leaf(path: Path, leaf: Leaf) -> None:
    if leaf.special == "fifo":
        os.mkfifo(path)
    elif leaf.special == "device" and os.geteuid() == 0:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    else:
        with path.open("wb") as file:
            file.write(leaf.content)
            file.truncate(len(leaf.content) + leaf.hole)
        for key, value in leaf.attributes.items():
            os.setxattr(path, key, value)
    # An access list and a mode share bits: the later one says what they are.
    path.chmod(leaf.mode)
    os.utime(path, ns=(0, leaf.mtime_ns))


@given(tree=st.dictionaries(FILE_NAMES, TREES, max_size=5), ns=MOMENTS)
@settings(max_examples=40)
def test_any_tree_of_files_is_restored_exactly(tree: dict[bytes, object], ns: int) -> None:
    with tempfile.TemporaryDirectory() as base:
        source = Path(base) / "source"
        source.mkdir()
        lay(source, tree, [])
        for directory, _, _ in os.walk(source, topdown=False):
            os.utime(directory, ns=(ns, ns))
        repository = a_repository()
        written = repository.write(walk_tree(source), at=NOON)
        restored = repository.restore(written.snapshot_id, Path(base) / "restored")
        assert written.problems == restored.problems == ()
        assert describe(Path(base) / "restored") == describe(source)


@given(st.lists(st.sampled_from(["a", "b", "*", "?", "**", "[ab]"]), min_size=1, max_size=4), st.booleans())
def test_a_pattern_that_takes_something_lets_the_walk_reach_it(parts: list[str], anchored: bool) -> None:
    choice = Choice.parse(("/" if anchored else "") + "/".join(parts))
    for path in [(b"a",), (b"a", b"b"), (b"b", b"a", b"a"), (b"c", b"a"), (b"a", b"b", b"c", b"d")]:
        if choice.takes(path):
            assert all(choice.may_take_below(path[:end]) for end in range(1, len(path)))
            assert choice.takes((*path, b"below"))


NUMBERS = st.sets(st.integers(0, 20), min_size=1, max_size=8)


class RepositoryModel(RuleBasedStateMachine):
    """Backups, forgetting, copies and sweeps in any order against a dictionary.

    Writers are frozen and woken, plans grow old, storage dies in mid-write, and locks are taken for stale.
    """

    writers: Bundle[SnapshotWriter] = Bundle("writers")
    plans: Bundle[SweepPlan] = Bundle("plans")

    def __init__(self) -> None:
        super().__init__()
        self.base = tempfile.TemporaryDirectory()
        self.storage = MemoryStorage()
        self.repository = a_repository(self.storage)
        self.cached = self.opened(self.storage, cache=Path(self.base.name))
        self.other = a_repository()
        self.model: dict[str, dict[bytes, bytes]] = {}
        self.open: dict[int, SnapshotWriter] = {}
        self.frozen: dict[int, dict[bytes, bytes]] = {}
        self.at = NOON
        self.limits = Limits(write=WriteLimits(pack_bytes=1000, threads=1, processes=0))
        # An index file for every few blobs, so that frozen and dying writers leave some.
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(blob_writer, "BLOBS_PER_FILE", 3)

    def teardown(self) -> None:
        for writer in self.open.values():
            writer.abort()
        self.patch.undo()
        self.base.cleanup()

    def opened(self, storage: Storage, cache: Path | None = None) -> Repository:
        return Repository.open(storage, PASSWORD, host_id="a-host", cache=cache)

    def content(self, numbers: set[int]) -> dict[bytes, bytes]:
        return {b"%03d" % number: bytes([number]) * (300 + number) for number in sorted(numbers)}

    def later(self) -> datetime:
        self.at += timedelta(minutes=1)
        return self.at

    @rule(numbers=NUMBERS, through_cache=st.booleans())
    def back_up(self, numbers: set[int], through_cache: bool) -> None:
        content = self.content(numbers)
        repository = self.cached if through_cache else self.repository
        written = repository.write(
            [a_file(name, content=data) for name, data in content.items()], at=self.later(), limits=self.limits
        )
        self.model[written.snapshot_id] = content

    @rule(target=writers, numbers=NUMBERS, through_cache=st.booleans())
    def freeze(self, numbers: set[int], through_cache: bool) -> SnapshotWriter:
        content = self.content(numbers)
        writer = (self.cached if through_cache else self.repository).begin(limits=self.limits)
        for name, data in content.items():
            writer.add(a_file(name, content=data))
        self.open[id(writer)] = writer
        self.frozen[id(writer)] = content
        return writer

    @rule(writer=consumes(writers), more=st.integers(21, 40))
    def wake(self, writer: SnapshotWriter, more: int) -> None:
        content = self.frozen.pop(id(writer)) | self.content({more})
        del self.open[id(writer)]
        try:
            with writer:
                writer.add(a_file(b"%03d" % more, content=content[b"%03d" % more]))
                writer.finish_tree()
                written = writer.commit(at=self.later())
        except HoldfastError:
            return  # its lock was taken for stale meanwhile
        self.model[written.snapshot_id] = content

    @rule()
    def take_all_locks_for_stale(self) -> None:
        self.repository.remove_all_locks()

    @rule(numbers=NUMBERS, writes=st.integers(1, 12))
    def die_in_a_backup(self, numbers: set[int], writes: int) -> None:
        """What it had written stays, its lock too, until somebody finds it stale."""
        content = self.content(numbers)
        before = {snapshot.id for snapshot in self.repository.snapshots()}
        locks = {lock.id for lock in self.repository.locks()}
        with suppress(StorageFailedError):
            self.opened(DyingStorage(self.storage, writes)).write(
                [a_file(name, content=data) for name, data in content.items()], at=self.later(), limits=self.limits
            )
        for lock in self.repository.locks():
            if lock.id not in locks:
                self.storage.delete(f"locks/{lock.id}")
        for snapshot in self.repository.snapshots():
            if snapshot.id not in before:
                self.model[snapshot.id] = content

    @rule(which=st.integers(0))
    def forget(self, which: int) -> None:
        if self.model:
            gone = sorted(self.model)[which % len(self.model)]
            self.repository.forget([gone])
            del self.model[gone]

    @rule(which=st.integers(0))
    def copy_there_and_back(self, which: int) -> None:
        if self.model:
            chosen = sorted(self.model)[which % len(self.model)]
            there = self.other.copy_from(self.repository, chosen, limits=self.limits)
            back = self.repository.copy_from(self.other, there.snapshot_id, tags=[str(self.at)], limits=self.limits)
            self.model[back.snapshot_id] = self.model[chosen]

    @rule(target=plans, max_unused=st.sampled_from([0.0, 0.5]), small=st.booleans())
    def plan(self, max_unused: float, small: bool) -> SweepPlan:
        rules = SweepRules(max_unused=max_unused, small_packs=3 if small else 1000, small_bytes=1500)
        return self.repository.plan_sweep(rules)

    @rule(plan=consumes(plans))
    def mark(self, plan: SweepPlan) -> None:
        """The plan may be an old one: what it would delete may be needed again, or gone."""
        self.repository.mark_sweep(plan, at=self.at, limits=self.limits.write)

    @rule(writes=st.integers(1, 12))
    def die_in_a_sweep(self, writes: int) -> None:
        try:
            self.opened(DyingStorage(self.storage, writes)).carry_out_sweep(SweepRules(batch_packs=2))
        except StorageFailedError:
            for lock in self.repository.locks():
                if lock.exclusive:
                    self.storage.delete(f"locks/{lock.id}")
        except RepositoryLockedError:
            assert self.open, "nobody else was at work"

    @rule()
    def carry_out(self) -> None:
        try:
            self.repository.carry_out_sweep(SweepRules(batch_packs=2))
        except RepositoryLockedError:
            assert self.open, "nobody else was at work"

    @rule()
    def repair(self) -> None:
        try:
            assert self.repository.repair_index().unreadable == ()
        except RepositoryLockedError:
            assert self.open, "nobody else was at work"

    @invariant()
    def everything_listed_reads_back(self) -> None:
        assert {snapshot.id for snapshot in self.repository.snapshots()} == set(self.model)
        report = self.repository.check(Depth.BYTES)
        assert report.problems == ()
        reader = self.repository.reader()
        for snapshot in self.repository.snapshots():
            read = {
                node.name: b"".join(bytes(reader.read(BlobKind.DATA, blob)) for blob in node.content or ())
                for node in reader.tree(snapshot.tree)
            }
            assert read == self.model[snapshot.id]


TestRepositoryModel = RepositoryModel.TestCase
TestRepositoryModel.settings = settings(
    max_examples=max(12, settings.default.max_examples // 20 if settings.default else 0),
    stateful_step_count=30,
    deadline=None,
)
