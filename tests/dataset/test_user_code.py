import inspect
import os
import re
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from loader_service import Dataset
from loader_service.dataset.user_code import UserCode
from loader_service.protocol.errors import DatasetError, SampleError
from loader_service.protocol.tables import carried_in

ARRAYS = Dataset.from_arrays(x=np.arange(6.0)).batch(3)
DOUBLE = "def double(sample):\n    return {'x': sample['x'] * 2}\n"


def importable(sample):
    return sample


class Shelf:
    @classmethod
    def of_class(cls, sample):
        return sample

    @staticmethod
    def static(sample):
        return sample

    def method(self, sample):
        return sample


def test_a_function_is_named_by_its_import_path(user_module):
    module = user_module(DOUBLE)

    assert ARRAYS.map(f"{module}:double").compute(0)["x"].tolist() == [0, 2, 4]


def test_a_function_that_is_importable_may_be_given_itself(user_module):
    module = user_module(DOUBLE)
    function = UserCode.of(f"{module}:double").load()

    dataset = ARRAYS.map(function)

    assert dataset.declaration.transforms[0].function == UserCode.of(f"{module}:double")
    assert dataset.compute(0)["x"].tolist() == [0, 2, 4]


@pytest.mark.parametrize("function", [Shelf.static, Shelf.of_class])
def test_a_function_on_a_class_is_importable(function):
    assert UserCode.of(function).load() == function


def test_the_folder_of_a_users_module_travels_and_that_of_an_installed_one_does_not(user_module):
    module = user_module(DOUBLE)

    assert os.path.exists(f"{UserCode.of(f'{module}:double').root}/{module}.py")  # noqa: PTH110
    assert UserCode.of("numpy:flip").root is None
    assert UserCode.of("json.decoder:JSONDecoder").root is None


def test_a_worker_finds_a_module_whose_folder_is_not_on_its_path(user_module, monkeypatch):
    module = user_module(DOUBLE)
    code = UserCode.of(f"{module}:double")
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder != code.root])

    assert code.load()({"x": 4}) == {"x": 8}


def test_code_that_was_changed_is_imported_anew(user_module):
    """Workers outlive edits: the key says that this is another dataset, so the bytes must be others, too."""
    module = user_module(DOUBLE)
    before = ARRAYS.map(f"{module}:double")
    assert before.compute(0)["x"].tolist() == [0, 2, 4]

    user_module(DOUBLE.replace("* 2", "* 1000"), name=module)
    after = ARRAYS.map(f"{module}:double")

    assert after.compute(0)["x"].tolist() == [0, 1000, 2000]
    assert after.key != before.key


@pytest.mark.parametrize("seconds", [0, -0.3])
def test_an_edit_in_the_very_second_of_the_import_is_seen(user_module, monkeypatch, seconds):
    """Python compares whole seconds, and sizes: it would take what it has compiled for the new source."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    module = user_module(DOUBLE)
    file = Path(UserCode.of(f"{module}:double").root, f"{module}.py")
    now = int(time.time()) + 0.5
    os.utime(file, (now, now + seconds))
    assert ARRAYS.map(f"{module}:double").compute(0)["x"].tolist() == [0, 2, 4]

    user_module(DOUBLE.replace("* 2", "* 3"), name=module)
    os.utime(file, (now, max(now, time.time())))

    assert ARRAYS.map(f"{module}:double").compute(0)["x"].tolist() == [0, 3, 6]


def test_two_projects_may_have_modules_of_one_name(tmp_path, user_module, monkeypatch):
    """A daemon serves them all, from the same workers."""
    module = user_module(DOUBLE)
    other = tmp_path / "other"
    other.mkdir()
    (other / f"{module}.py").write_text(DOUBLE.replace("* 2", "* -1"))
    first, second = UserCode.of(f"{module}:double"), UserCode(name=f"{module}:double", root=str(other))

    results = [code.load()({"x": 4})["x"] for code in (first, second, first, second)]

    assert results == [8, -4, 8, -4]


def test_code_that_is_unchanged_is_imported_once(user_module):
    module = user_module("import random\nTOKEN = random.random()\n")
    code = UserCode.of(f"{module}:TOKEN")

    assert code.load() == code.load()


@pytest.mark.parametrize("name", ["augment", "augment:", ":noise", "my-module:f", "a:b-c", "a:b:c", "../a:b", ""])
def test_what_is_no_import_path_is_refused_with_an_example(name):
    with pytest.raises(DatasetError, match=r'is no import path: expected "module:attribute", as in "augment:noise"'):
        ARRAYS.map(name)


def test_a_module_that_is_not_there_is_refused_when_it_is_named():
    with pytest.raises(DatasetError, match="'no_such_module:f': there is no module 'no_such_module' on this"):
        ARRAYS.map("no_such_module:f")


def test_a_module_inside_a_package_that_is_not_there_is_refused():
    with pytest.raises(DatasetError, match=r"module 'no_such_package.inner' cannot be found"):
        ARRAYS.map("no_such_package.inner:f")


def test_an_attribute_that_is_not_there_is_refused(user_module):
    module = user_module(DOUBLE)

    with pytest.raises(DatasetError, match=rf"^'{module}:treble': module '{module}' has no attribute 'treble'"):
        ARRAYS.map(f"{module}:treble").compute(0)


def test_a_module_that_fails_to_import_says_why(user_module):
    module = user_module("import no_such_library\n")

    with pytest.raises(DatasetError, match=f"module '{module}' cannot be imported: ModuleNotFoundError.*no_such_libr"):
        ARRAYS.map(f"{module}:f").compute(0)


def why_of(function):
    """Return what those are told who cannot take a function that has no import path."""
    (why,) = carried_in(ARRAYS.map(function).to_dict())
    return why


def test_a_lambda_is_explained_with_its_place_and_what_to_do():
    line = inspect.currentframe().f_lineno + 2

    why = why_of(lambda sample: sample)

    assert "is a lambda, which workers cannot import" in why
    assert f"{__file__}, line {line}" in why
    assert 'write it as a function in a module, for example augment.py, and name it: .map("augment:noise")' in why
    assert "Or start a daemon of your own, which takes it as it is: loader_client.connect(workers=N)" in why


def test_a_function_inside_a_function_is_explained_with_its_place():
    def inner(sample):
        return sample

    assert re.search(r"inner' \(.*test_user_code.py, line \d+\) is defined inside a function", why_of(inner))


def test_a_function_of_the_script_is_explained_with_what_to_do(monkeypatch):
    """The worker's __main__ is another one."""
    monkeypatch.setattr(importable, "__module__", "__main__")

    assert re.search(r'script or notebook .* name it: .map\("augment:importable"\)', why_of(importable))


def test_a_function_without_an_import_path_is_another_dataset_when_its_code_or_what_it_closes_over_changes():
    def scaled(by):
        return lambda sample: {"x": sample["x"] * by}

    keys = [ARRAYS.map(scaled(by)).key for by in (2, 2, 3)]

    assert keys[0] == keys[1] != keys[2]
    assert ARRAYS.map(scaled(3)).compute(0)["x"].tolist() == (ARRAYS.compute(0)["x"] * 3).tolist()


def test_a_function_that_can_neither_be_named_nor_sent_is_refused():
    lock = threading.Lock()

    with pytest.raises(DatasetError, match=r"^map: .*<lambda>' \(.*\) cannot be sent to workers: cannot pickle '_thr"):
        ARRAYS.map(lambda sample: sample if lock else None)


def test_the_script_cannot_be_named_either():
    with pytest.raises(DatasetError, match="'__main__:noise' is in the script or notebook that is running"):
        ARRAYS.map("__main__:noise")


def test_a_callable_without_a_name_is_explained():
    class Noise:
        def __call__(self, sample):
            return sample

    assert "'test_a_callable_without_a_name_is_explained.<locals>.Noise'" in why_of(Noise())
    assert "has no import path, so workers cannot find it" in why_of(Noise())


def test_a_bound_method_is_explained():
    """A worker would find the function, without the object."""
    assert re.search(r"'Shelf.method' .* is not what a worker would find as .*:Shelf.method", why_of(Shelf().method))


def test_a_function_that_took_anothers_name_is_explained(user_module):
    """functools.wraps: the worker would import the undecorated one, and nobody would notice."""
    module = user_module(
        "import functools\n"
        "def noise(sample): return sample\n"
        "@functools.wraps(noise)\n"
        "def louder(sample): return sample\n"
    )
    louder = UserCode.of(f"{module}:louder").load()

    assert "is not what a worker would find" in why_of(louder)


def test_an_exception_in_a_users_function_names_the_sample_and_brings_its_traceback(user_module, photos):
    module = user_module("def fails(sample):\n    if sample['label'] == 1:\n        return 1 / 0\n    return sample\n")
    dataset = Dataset.from_image_folder(photos).resize(4, 4).map(f"{module}:fails").batch(7)

    with pytest.raises(
        SampleError, match=r"^sample 4 \(.*dogs/e.webp\): ZeroDivisionError: division by zero"
    ) as failed:
        dataset.compute(0)

    notes = "".join(failed.value.__notes__)
    assert "Traceback (most recent call last)" in notes
    assert f'{module}.py", line 3, in fails' in notes
    assert "return 1 / 0" in notes


@pytest.mark.parametrize("returned", ["None", "[]", "{}", "sample['x']"])
def test_a_function_that_returns_no_dict_is_refused(user_module, returned):
    module = user_module(f"def f(sample): return {returned}\n")

    with pytest.raises(DatasetError, match=f"map: '{module}:f' returned .*, expected a dict of arrays"):
        ARRAYS.map(f"{module}:f").compute(0)


def test_a_function_that_returns_several_strings_is_refused(user_module):
    module = user_module("def f(sample): return {'x': ['cat', 'mat']}\n")

    with pytest.raises(DatasetError, match=f"map: '{module}:f': field 'x': dtype '<U3' cannot be shared"):
        ARRAYS.map(f"{module}:f").compute(0)


def test_what_is_no_function_is_refused(user_module):
    module = user_module("f = 7\n")

    with pytest.raises(DatasetError, match=f"map: '{module}:f' is int, expected a function"):
        ARRAYS.map(f"{module}:f").compute(0)
