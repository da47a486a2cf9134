"""Shared fixtures: a tiny restorer with seeded weights, and small random faces."""

import os
import sys

import formula
import pytest
import torch
from networks import make_network

from iqpbfr_core.checkpoint import save_network
from iqpbfr_core.restorer import Restorer

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores, and so do the commands they start
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)  # before fixtures are made
def pytest_runtest_setup(item):
    formula.may_be_large = item.get_closest_marker("slow") is not None


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist, whose marks for groups pytest 9.2 does not know any more
def pytest_xdist_make_scheduler(config, log):
    """Leave all servers and pages to one worker, and let the others have the rest, test by test."""
    from xdist.scheduler import LoadScopeScheduling

    class OneServer(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return "comfy" if nodeid.startswith("tests/comfy/") else nodeid

    return OneServer(config, log)


@pytest.fixture(autouse=True)
def fresh_accelerator():
    """A process has one training precision until it is forgotten: no test finds that of another."""
    if state := sys.modules.get("accelerate.state"):
        state.AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def tiny():
    return Restorer(make_network())


@pytest.fixture
def tiny_file(tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_network(make_network(), path)
    return path


@pytest.fixture
def faces():
    """(3, 3, 64, 64): smooth random pictures in [0, 1]."""
    generator = torch.Generator().manual_seed(1)
    small = torch.rand(3, 3, 8, 8, generator=generator)
    return torch.nn.functional.interpolate(small, size=64, mode="bicubic").clamp(0, 1)
