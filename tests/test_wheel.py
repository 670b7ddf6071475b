"""What people install: built, put into an empty environment, and run from another folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Made by builds, tests and work in the checkout; none of it may get into a wheel, where it would hide mistakes.
_MADE = shutil.ignore_patterns(
    ".*", "build", "dist", "*.egg-info", "__pycache__", "dropin.cache", "*.db*", "*.log*", "twistd.pid"
)


def run(command: Sequence[str | Path], folder: Path) -> str:
    """Run a command and return what it printed."""
    ran = subprocess.run(
        command,
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    return ran.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source archive, so that this has everything too."""
    folder = tmp_path_factory.mktemp("build")
    shutil.copytree(ROOT, folder / "chatd", ignore=_MADE)
    run([sys.executable, "-m", "build", "--outdir", folder / "dist", folder / "chatd"], folder)
    assert len(list((folder / "dist").glob("chatd-*.tar.gz"))) == 1
    (built,) = (folder / "dist").glob("chatd-*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment that had nothing in it but pip, with the wheel and what that asks for."""
    folder = tmp_path_factory.mktemp("environment")
    run([sys.executable, "-m", "venv", folder], folder)
    run([folder / "bin" / "pip", "install", "--quiet", wheel], folder)
    return folder / "bin"


def test_the_wheel_has_what_the_checkout_has_and_no_tests(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    source = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "chatd").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == source | {"twisted/plugins/chatd_plugin.py"}


def test_twistd_finds_the_chat_from_another_folder(environment: Path, tmp_path: Path) -> None:
    text = run([environment / "twistd", "chat", "--help"], tmp_path)
    assert "--port" in text
    assert "--log-format" in text
    assert list(tmp_path.iterdir()) == []


def test_the_client_runs_from_another_folder(environment: Path, tmp_path: Path) -> None:
    text = run([environment / "python", "-m", "chatd.client", "--help"], tmp_path)
    assert "--name" in text


def test_what_is_installed_fits_together(environment: Path, tmp_path: Path) -> None:
    run([environment / "pip", "check"], tmp_path)
