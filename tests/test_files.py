"""Files and folders are written whole or not at all, whoever else writes them."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from multimodn.files import replacing, replacing_folder, write_text


def interrupted_file(folder, error):
    with replacing(folder / "a.txt") as temporary:
        temporary.write_text("half")
        raise error


def interrupted_folder(folder, error):
    with replacing_folder(folder / "b") as temporary:
        write_text(temporary / "c.txt", "half")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_while_writing_leaves_what_was_there(tmp_path, error):
    write_text(tmp_path / "a.txt", "old")
    with replacing_folder(tmp_path / "b") as temporary:
        write_text(temporary / "c.txt", "old")
    for write in (interrupted_file, interrupted_folder):
        with pytest.raises(error):
            write(tmp_path, error)
    assert {path.name: path.read_text() for path in tmp_path.rglob("*.txt")} == {"a.txt": "old", "c.txt": "old"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b"]


def test_a_folder_is_replaced_with_all_that_it_held(tmp_path):
    for name in ("one", "two"):
        with replacing_folder(tmp_path / "folder") as temporary:
            write_text(temporary / name, name)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["two"]


def test_threads_that_write_one_file_leave_the_text_of_one_of_them(tmp_path):
    texts = [str(k) * 100_000 for k in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: write_text(tmp_path / "a.txt", text), texts))
    assert (tmp_path / "a.txt").read_text() in texts
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_text_is_the_same_bytes_on_every_machine(tmp_path):
    write_text(tmp_path / "a.txt", "µm\n")
    assert (tmp_path / "a.txt").read_bytes() == "µm\n".encode()
