"""The comparison that the quickstart trusts: it must notice every kind of difference."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.cli.tree import compare_trees, make_tree


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    make_tree(tmp_path / "one", theme="t", files=12)
    shutil.copytree(tmp_path / "one", tmp_path / "two", symlinks=True)
    hard = tmp_path / "two" / "links" / "hard"
    hard.unlink()
    hard.hardlink_to(tmp_path / "two" / "names" / "plain.txt")
    _punch(tmp_path / "two" / "hole.img")
    for path in (tmp_path / "one").rglob("*"):
        info = path.lstat()
        os.utime(
            tmp_path / "two" / path.relative_to(tmp_path / "one"),
            ns=(info.st_atime_ns, info.st_mtime_ns),
            follow_symlinks=False,
        )
    shutil.copystat(tmp_path / "one", tmp_path / "two")
    return tmp_path / "one", tmp_path / "two"


def _punch(path: Path) -> None:
    content = path.read_bytes()
    with path.open("wb") as file:
        file.write(content[:6])
        file.seek(len(content) - 4)
        file.write(content[-4:])


def test_a_copy_is_identical(trees: tuple[Path, Path]) -> None:
    files, differences = compare_trees(*trees)
    assert differences == []
    assert files > 20


def _change(path: Path) -> None:
    info = path.stat()
    path.write_bytes(b"X" + path.read_bytes()[1:])
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


@pytest.mark.parametrize(
    ("spoil", "noticed"),
    [
        (lambda top: (top / "empty.txt").unlink(), "missing"),
        (lambda top: (top / "new").touch(), "not there before"),
        (lambda top: _change(top / "names" / "plain.txt"), "content differs"),
        (lambda top: (top / "run.sh").chmod(0o600), "mode"),
        (lambda top: os.utime(top / "run.sh", ns=(1, 1)), "changed at"),
        (
            lambda top: ((top / "links" / "relative").unlink(), (top / "links" / "relative").symlink_to("elsewhere")),
            "points elsewhere",
        ),
        (lambda top: (top / "hole.img").write_bytes((top / "hole.img").read_bytes()), "a hole was filled"),
        (
            lambda top: (
                (top / "links" / "hard").unlink(),
                shutil.copy2(top / "names" / "plain.txt", top / "links" / "hard"),
            ),
            "hard links differ",
        ),
    ],
    ids=["a file gone", "a file more", "one byte", "a mode", "a time", "a link's target", "a hole", "a hard link"],
)
def test_every_difference_is_noticed(trees: tuple[Path, Path], spoil: Callable[[Path], object], noticed: str) -> None:
    spoil(trees[1])
    _, differences = compare_trees(*trees)
    assert any(noticed in difference.what for difference in differences), differences
