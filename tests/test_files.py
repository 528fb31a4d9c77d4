import os
import threading

import pytest

from sklearn_anogan._files import check_writable, is_stream, write_whole


def write(path, content=b"new", **options):
    check_writable("--output", path)
    write_whole(path, [content[:2], content[2:]], **options)


def test_a_file_is_replaced(tmp_path):
    path = tmp_path / "a"
    for content in (b"old", b"new"):
        write(path, content)
        assert path.read_bytes() == content
    write(path, b"third", unfinished=tmp_path / "b")
    assert path.read_bytes() == b"third"
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_a_link(tmp_path, exists):
    (tmp_path / "folder").mkdir()
    target, link, other = tmp_path / "folder" / "a", tmp_path / "b", tmp_path / "c"
    if exists:
        target.write_bytes(b"old")
    link.symlink_to("folder/a")
    other.symlink_to(link)
    write(other)
    assert link.is_symlink()
    assert other.is_symlink()
    assert target.read_bytes() == b"new"
    assert os.listdir(target.parent) == ["a"]


def test_pipes_are_written_to(tmp_path):
    pipe, found = tmp_path / "pipe", []
    os.mkfifo(pipe)
    assert is_stream(pipe)
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    write(pipe)
    reader.join(10)
    assert found == [b"new"]
    assert pipe.is_fifo()


def test_devices_are_written_to(tmp_path):
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    for path in ("/dev/null", link):
        write(path)
        assert not os.path.isfile(path)
    assert link.is_symlink()
    with open(tmp_path / "out", "wb") as file:  # as of a shell: > out
        write(f"/dev/fd/{file.fileno()}")
        # The file stays the one that the shell has opened.
        assert os.path.samestat(os.fstat(file.fileno()), (tmp_path / "out").stat())
    assert (tmp_path / "out").read_bytes() == b"new"
    assert sorted(os.listdir(tmp_path)) == ["null", "out"]


def test_what_is_appended_to_stays(tmp_path):
    (tmp_path / "log").write_bytes(b"old ")
    with open(tmp_path / "log", "ab") as file:  # as of a shell: >> log
        write(f"/dev/fd/{file.fileno()}")
    assert (tmp_path / "log").read_bytes() == b"old new"


def test_files_in_memory_are_files():
    assert not is_stream("/dev/shm/a")
    assert is_stream("/dev/null")


def test_a_way_through_a_missing_folder(tmp_path):
    """The system knows no such file: neither is there one to be replaced."""
    (tmp_path / "a").write_bytes(b"old")
    path = tmp_path / "missing" / ".." / "a"
    with pytest.raises(FileNotFoundError, match="--output cannot be used"):
        check_writable("--output", path)
    with pytest.raises(FileNotFoundError):
        write_whole(path, [b"new"])
    assert (tmp_path / "a").read_bytes() == b"old"


def test_links_in_a_circle(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels"):
        write_whole(tmp_path / "a", [b"new"])
    assert (tmp_path / "a").is_symlink()


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(IsADirectoryError, match="--output is a folder"):
        check_writable("--output", tmp_path)
    with pytest.raises(FileNotFoundError, match="--output cannot be used"):
        check_writable("--output", tmp_path / "none" / "a")
    (tmp_path / "link").symlink_to(tmp_path / "none" / "a")
    with pytest.raises(FileNotFoundError, match="--output cannot be used"):
        check_writable("--output", tmp_path / "link")
