import pytest

from loader_service.protocol import errors
from loader_service.protocol.errors import DatasetError, LoaderError, RemoteError, error_from_plain, error_to_plain

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, LoaderError)]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_crosses_the_wire_as_itself(kind):
    error = kind("what is wrong")
    error.add_note("the worker's traceback")

    returned = error_from_plain(*error_to_plain(error))

    assert type(returned) is kind
    assert str(returned) == "what is wrong"
    assert returned.__notes__ == ["the worker's traceback"]


@pytest.mark.parametrize("kind", CLASSES)
def test_the_tree_in_the_docstring_names_every_error(kind):
    assert f" {kind.__name__} " in errors.__doc__ or f"{kind.__name__}\n" in errors.__doc__


def test_what_the_user_caused_and_what_the_peer_caused_have_nothing_in_common():
    assert not issubclass(DatasetError, RemoteError)
    assert not issubclass(RemoteError, DatasetError)


def test_an_error_of_somebody_else_becomes_a_remote_error_that_names_its_class():
    returned = error_from_plain(*error_to_plain(ZeroDivisionError("division by zero")))

    assert type(returned) is RemoteError
    assert str(returned) == "ZeroDivisionError: division by zero"


def test_an_error_that_only_shares_a_name_with_one_of_ours_is_not_taken_for_it():
    class ConfigError(Exception):
        pass

    returned = error_from_plain(*error_to_plain(ConfigError("of another library")))

    assert type(returned) is RemoteError
    assert str(returned) == "ConfigError: of another library"


def test_an_error_class_of_a_newer_peer_is_a_remote_error():
    assert type(error_from_plain("QuotaExceeded", "no more", [])) is RemoteError
