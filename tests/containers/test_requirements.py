"""The images install what deploy/requirements-*.txt list, and nothing else: the lists must be whole."""

import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.containers.images import ROOT, TARGETS

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
NEEDED = {
    "daemon": PROJECT["dependencies"],
    "trainer": [*PROJECT["dependencies"], *EXTRAS["tensorflow"], *EXTRAS["demo"]],
}
BUILT_OTHERWISE = {"tensorflow": "tensorflow-cpu"}  # see deploy/tensorflow-cpu.txt


def pinned(target):
    lines = (ROOT / f"deploy/requirements-{target}.txt").read_text().splitlines()
    requirements = [Requirement(line) for line in lines if not line.lstrip().startswith("#")]
    return {
        canonicalize_name(requirement.name): str(requirement.specifier).removeprefix("==")
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate({"platform_machine": "x86_64"})
    }


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_has_all_that_pyproject_asks_for(target):
    """After a change of dependencies: `make lock`."""
    versions = pinned(target)

    for requirement in map(Requirement, NEEDED[target]):
        name = BUILT_OTHERWISE.get(requirement.name, requirement.name)
        if name != PROJECT["name"]:
            assert versions[canonicalize_name(name)] in requirement.specifier, requirement


def test_both_images_have_the_same_versions():
    """Or `dataset.compute(n)` in the trainer might differ from what workers make, by a release of NumPy or OpenCV."""
    daemon, trainer = map(pinned, TARGETS)

    assert daemon == {name: trainer[name] for name in daemon}
