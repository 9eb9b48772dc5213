"""Files are replaced as a whole or not at all."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from napari_unet import files

if TYPE_CHECKING:
    from pathlib import Path


def test_content_is_replaced_and_nothing_is_left_behind(tmp_path: Path) -> None:
    target = tmp_path / "ein Name mit ü.json"
    files.write_atomically(target, b"old")
    files.write_atomically(target, b"new", backup=True)
    assert target.read_bytes() == b"new"
    assert sorted(p.name for p in tmp_path.iterdir()) == [target.name, target.name + ".bak"]
    assert target.with_name(target.name + ".bak").read_bytes() == b"old"


def test_mode_is_that_of_any_new_file(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        files.write_atomically(tmp_path / "a", b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    files.write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failure_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"old")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, failing, refuse)
    with pytest.raises(OSError, match="No space"):
        files.write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(("denials", "succeeds"), [(1, True), (9, True), (10, False)])
def test_denied_renames_are_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, denials: int, succeeds: bool
) -> None:
    left, replace = [denials], os.replace

    def deny(source: object, target: object) -> None:
        if left[0]:
            left[0] -= 1
            error = PermissionError(13, "Access is denied")
            error.winerror = 5  # type: ignore[attr-defined]
            raise error
        replace(source, target)  # type: ignore[arg-type]

    monkeypatch.setattr(files.os, "replace", deny)
    monkeypatch.setattr(files.time, "sleep", lambda _: None)
    if succeeds:
        files.write_atomically(tmp_path / "a", b"new")
        assert (tmp_path / "a").read_bytes() == b"new"
    else:
        with pytest.raises(PermissionError):
            files.write_atomically(tmp_path / "a", b"new")
        assert list(tmp_path.iterdir()) == []


def test_json_round_trip_keeps_names(tmp_path: Path) -> None:
    value = {"name": "Zelle µ", "list": [1, 2.5, None]}
    files.write_json_atomically(tmp_path / "a.json", value)
    assert files.read_json(tmp_path / "a.json") == value
    assert "µ" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_json_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        files.write_json_atomically(tmp_path / "a.json", {"x": float("nan")})
    (tmp_path / "deep").write_text("[" * 100_000, encoding="utf-8")
    for name, content in {"torn": b'{"a": ', "binary": b"\xff\xfe\x00"}.items():
        (tmp_path / name).write_bytes(content)
    for name in ("deep", "torn", "binary"):
        with pytest.raises(ValueError, match=r"."):
            files.read_json(tmp_path / name)


def test_a_new_name_replaces_no_file(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"source")
    target.write_bytes(b"target")
    with pytest.raises(FileExistsError):
        files.rename_new(source, target)
    with pytest.raises(FileExistsError):
        files.write_atomically(target, b"new", overwrite=False)
    assert (source.read_bytes(), target.read_bytes()) == (b"source", b"target")
    target.unlink()
    files.rename_new(source, target)
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert target.read_bytes() == b"source"


def test_a_new_name_is_given_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    files.write_atomically(tmp_path / "file", b"content", overwrite=False)
    assert (tmp_path / "file").read_bytes() == b"content"
    with pytest.raises(FileExistsError):
        files.write_atomically(tmp_path / "file", b"other", overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
