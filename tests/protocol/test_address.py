import contextlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from loader_service.protocol.address import MAX_PATH, Address, hold, own_folder, private_address, runtime_folder
from loader_service.protocol.errors import AddressError, AddressInUse

HOLDER = """
import sys
from loader_service.protocol.address import Address, hold
with hold(Address.parse(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def holder(address):
    """Another process that holds the address, until it is killed or the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.stdin.close()


def entries(folder):
    return sorted(entry.name for entry in Path(folder).iterdir())


@pytest.mark.parametrize("text", ["", "ipc://", "tcp://localhost:1", "/run/loader", "ipc:/run", "IPC:///run"])
def test_what_is_no_ipc_address_is_refused_with_an_example(text):
    with pytest.raises(AddressError, match=re.escape(f"address {text!r}: expected ipc://FOLDER, for example ipc:///")):
        Address.parse(text)


def test_a_path_longer_than_a_socket_takes_is_refused_with_the_excess():
    """libzmq would say "File name too long", or nothing at all."""
    folder = "/" + "x" * (MAX_PATH - len("/lifeline") - 1 + 5)

    with pytest.raises(
        AddressError, match=r"is 5 bytes longer than a socket's path may be \(107 bytes\): choose a sho"
    ):
        Address.parse(f"ipc://{folder}")


def test_the_longest_path_that_a_socket_takes_is_taken():
    folder = "/" + "x" * (MAX_PATH - len("/lifeline") - 1)

    assert len(os.fsencode(Address.parse(f"ipc://{folder}").lifeline)) == MAX_PATH


def test_the_home_of_nobody_is_refused():
    with pytest.raises(AddressError, match="home directory"):
        Address.parse("ipc://~there-is-no-such-user/loader")


def test_an_address_reads_back_as_it_is_written():
    address = Address.parse("ipc:///run/loader")

    assert Address.parse(str(address)) == address


def test_a_relative_folder_and_the_home_become_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")

    assert Address.parse("ipc://here").folder == tmp_path / "here"
    assert Address.parse("ipc://~/there").folder == Path("/home/me/there")


def test_the_variable_sets_the_default(address):
    assert str(Address.default()) == address


def test_without_the_variable_the_default_lies_in_the_users_runtime_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("LOADER_SERVICE_ADDRESS", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/tmp")

    assert str(Address.default()) == "ipc:///tmp/loader-service/default"


def test_without_a_runtime_folder_the_default_lies_in_a_temporary_folder_of_the_users_own(monkeypatch):
    monkeypatch.delenv("LOADER_SERVICE_ADDRESS", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)

    assert Address.default().folder == Path(tempfile.gettempdir()) / f"loader-service-{os.getuid()}" / "default"


def test_a_runtime_folder_too_deep_for_a_socket_is_said_at_once(monkeypatch, tmp_path):
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.delenv("LOADER_SERVICE_ADDRESS", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", os.fspath(deep))

    with pytest.raises(AddressError, match="bytes longer than a socket's path may be"):
        Address.default()


def test_the_folder_of_an_address_is_for_its_owner_alone(address):
    with hold(Address.parse(address)):
        assert Path(address.removeprefix("ipc://")).stat().st_mode & 0o777 == 0o700


def test_an_address_that_another_process_holds_is_refused_with_its_pid(address):
    with (
        holder(address) as other,
        pytest.raises(AddressInUse, match=rf"in use by a live daemon \(pid {other.pid}\).*stop --address {address}"),
        hold(Address.parse(address)),
    ):
        pass


def test_a_refused_second_daemon_leaves_the_first_ones_sockets_alone(address):
    """libzmq's own bind would take them over, silently."""
    with holder(address):
        lifeline = Address.parse(address).lifeline
        lifeline.touch()
        with pytest.raises(AddressInUse), hold(Address.parse(address)):
            pass

        assert lifeline.exists()


def test_an_address_is_free_as_soon_as_its_holder_is_killed(address):
    with holder(address) as other:
        Address.parse(address).lifeline.touch()
        other.kill()
        other.wait()

        with hold(Address.parse(address)):
            left = entries(Address.parse(address).folder)

    assert left == ["lock"]


def test_an_address_can_be_held_again_and_again(address):
    for _ in range(3):
        with hold(Address.parse(address)):
            pass


def test_only_a_log_is_left_where_a_daemon_ended(address):
    with hold(Address.parse(address)):
        for name in ("lifeline", "clients", "workers", "daemon.log"):
            (Address.parse(address).folder / name).touch()

    assert entries(Address.parse(address).folder) == ["daemon.log"]


def test_an_address_is_given_back_when_its_holder_fails(address):
    with pytest.raises(ZeroDivisionError), hold(Address.parse(address)):
        raise ZeroDivisionError

    with hold(Address.parse(address)):
        pass


def test_a_folder_that_is_open_to_others_and_holds_their_files_is_refused(tmp_path):
    """ipc:///tmp must not make /tmp private."""
    tmp_path.chmod(0o755)
    (tmp_path / "photos").mkdir()

    with pytest.raises(AddressError, match=r"open to other users \(mode 755\) and holds other files"):
        own_folder(tmp_path)

    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_an_empty_folder_that_is_open_to_others_is_closed_to_them(tmp_path):
    """`mkdir` makes folders of mode 755: that is no reason to send the user away."""
    tmp_path.chmod(0o755)

    own_folder(tmp_path)

    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(AddressError, match="cannot be made: File exists"):
        own_folder(tmp_path / "file")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(tmp_path):
    """Whoever owns the folder can put sockets of his own into it."""
    os.chown(tmp_path, 12345, -1)

    with pytest.raises(AddressError, match="belongs to uid 12345, not to you"):
        own_folder(tmp_path)


def test_a_private_address_leaves_nothing_at_all(address):
    private = private_address()

    with hold(private):
        (private.folder / "daemon.log").touch()

    assert not private.folder.exists()


def test_a_private_address_can_be_had_beside_a_daemon_at_the_default_one(address, monkeypatch):
    """Both lie in the runtime folder: whoever makes it first must close it to others."""
    monkeypatch.delenv("LOADER_SERVICE_ADDRESS")

    with hold(Address.default()):
        private = private_address()

    assert private.folder.parent == runtime_folder()
    assert runtime_folder().stat().st_mode & 0o777 == 0o700


def test_every_private_address_is_another_one(address):
    assert private_address() != private_address()


def test_the_next_private_address_clears_away_those_of_the_dead(address):
    """kill -9 of trainer and daemon leaves a folder; nothing else ever looks there."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = runtime_folder() / f"private-{ended.pid}-abc"
    own_folder(dead)
    alive = private_address().folder

    private_address()

    assert not dead.exists()
    assert alive.exists()


def test_the_folder_of_a_daemon_that_outlives_its_client_is_not_cleared_away(address):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    orphan = runtime_folder() / f"private-{ended.pid}-abc"

    with holder(f"ipc://{orphan}"):
        private_address()

        assert "lock" in entries(orphan)
