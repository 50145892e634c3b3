"""The doctor: what it says of a sound machine, of each thing that is missing, and when it gives a bad verdict."""

from __future__ import annotations

import socket
import sys
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from semore import doctor
from semore.collect.carla.ping import Identity
from semore.collect.carla.settings import CarlaSettings
from semore.doctor import DoctorSettings, Finding, examine


def of(what: str, settings: DoctorSettings) -> Finding:
    return next(finding for finding in examine(settings) if finding.what == what)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DoctorSettings:
    """Nothing outside this machine is asked."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(doctor, "identity", lambda host, port, timeout: None)
    return DoctorSettings(data=str(tmp_path / "data"), models=())


def test_a_machine_that_runs_these_tests_has_what_is_required(settings: DoctorSettings) -> None:
    findings = {finding.what: finding for finding in examine(settings)}
    assert list(findings) == [
        *("Python", "system", "packages", "processor", "GPU", "memory", "disk", "CARLA client", "CARLA server"),
        "Dask scheduler",
    ]
    assert (findings["Python"].state, findings["disk"].state) == ("ok", "ok")
    assert findings["packages"].state == "ok", findings["packages"].line()
    assert all(finding.remedy for finding in findings.values() if finding.state != "ok")
    assert "REQUIRED" not in {finding.state for finding in findings.values()}


def test_what_is_missing_comes_with_a_remedy(settings, tmp_path, monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage(1, 1, 2**20))
    monkeypatch.setattr(doctor.psutil, "virtual_memory", lambda: SimpleNamespace(available=2**30))
    assert "make setup PYTHON=" in of("Python", settings).remedy
    assert of("Python", settings).state == "REQUIRED"
    assert "--data" in of("disk", settings).remedy
    assert of("disk", settings).state == "REQUIRED"
    memory = of("memory", settings)
    assert memory.state == "warning"
    assert "--replay.pool_frames" in memory.line()


def test_packages_are_compared_with_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    version = torch.__version__.partition("+")[0]
    lock.write_text(f"# by pip\ntorch=={version}\n")
    assert doctor.packages(tmp_path).state == "ok"
    lock.write_text(f"torch=={version}\nnumpy==0.0.1\nno-such-package==1\n")
    found = doctor.packages(tmp_path)
    assert (found.state, found.remedy) == ("REQUIRED", "make setup")
    assert "no-such-package none for 1" in found.found


def test_a_library_installation_is_told_by_its_extras(monkeypatch) -> None:
    """There is no lock beside an installed wheel: what counts is which extras are complete."""
    monkeypatch.setitem(sys.modules, "dask", None)
    found = doctor.packages(None)
    assert found.state == "ok"
    assert "collect, train, annotate, report" in found.found
    assert "cluster" not in found.found
    assert "pip install 'semore[cluster," in found.remedy


def test_the_processor_s_features_are_read(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    for flags, state, word in (
        ("flags : sse avx2 avx512_bf16", "ok", "avx512_bf16"),
        ("flags : sse avx2", "ok", "no bf16"),
        ("flags : sse", "warning", "no AVX2"),
    ):
        info.write_text(flags)
        found = doctor.processor(info)
        assert found.state == state
        assert word in found.line()


@pytest.mark.parametrize(
    ("answer", "state", "word"),
    [
        (None, "optional", "(optional: for simulator carla)"),
        (Identity("0.9.16", "unreal"), "ok", "Unreal's"),
        (Identity("0.9.16", "embedded-3"), "ok", "a loopback server's (embedded-3)"),
        (Identity("0.9.13", "unreal"), "warning", "carlasim/carla:0.9.16"),
        (Identity("0.9.160", "unreal"), "warning", "carlasim/carla:0.9.16"),
        (Identity("0.9.16-dirty", "unreal"), "ok", "if episodes are lost"),
        (Identity("4f1c2aa-dirty", "unreal"), "ok", "if episodes are lost"),
        (Identity("0.9.16", "unreal", 2001), "warning", "its streams, at port 2001"),
    ],
)
def test_a_carla_server_is_asked_who_it_is(answer, state, word, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "identity", lambda host, port, timeout: answer)
    found = doctor.carla_server(CarlaSettings(), 2000)
    assert found.state == state
    assert word in found.line()


@pytest.mark.parametrize(
    ("installed", "state", "word"),
    [
        ("0.9.16", "ok", "0.9.16"),
        ("0.9.16-dirty", "ok", "if episodes are lost"),
        ("0.9.15", "warning", "SIM=carla"),
        (None, "optional", "not installed (optional: for simulator carla)"),
    ],
)
def test_the_carla_client_must_be_of_the_server_s_version(installed, state, word, monkeypatch) -> None:
    def version(name: str) -> str:
        if installed is None:
            raise doctor.metadata.PackageNotFoundError
        return installed

    monkeypatch.setattr(doctor.metadata, "version", version)
    found = doctor.carla_client()
    assert found.state == state
    assert word in found.line()


def test_models_are_there_and_whole_or_not(settings: DoctorSettings, tmp_path: Path) -> None:
    folder = tmp_path / "qwen"
    assert "not installed: neither here nor downloaded (optional: " in doctor.model(str(folder)).found
    assert doctor.model("Nobody/Has-This-Model").state == "optional"
    folder.mkdir()
    assert "config.json and weights" in doctor.model(str(folder)).found
    (folder / "config.json").write_text("{}")
    assert doctor.model(str(folder)).state == "warning"
    (folder / "model.safetensors").write_bytes(b"x")
    assert doctor.model(str(folder)).state == "ok"
    assert doctor.model(str(folder / "model.safetensors")).state == "ok"


def test_a_dask_scheduler_is_called(tmp_path: Path) -> None:
    assert doctor.dask("").state == "optional"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        file = tmp_path / "scheduler.json"
        file.write_text(f'{{"address": "{address}"}}')
        assert doctor.dask(address).state == "ok"
        assert doctor.dask(str(file)).found == address
    found = doctor.dask(address)
    assert found.state == "warning"
    assert "dask scheduler" in found.remedy


@pytest.mark.parametrize(("state", "code"), [("REQUIRED", 1), ("warning", None), ("optional", None)])
def test_only_what_is_required_makes_a_bad_verdict(state, code, monkeypatch, capsys) -> None:
    bad = Finding("disk", state, "full", "free some")
    monkeypatch.setattr(doctor, "examine", lambda settings: iter([Finding("Python", "ok", "3.11"), bad]))
    monkeypatch.setattr(sys, "argv", ["doctor"])
    if code is None:
        doctor.main()
    else:
        with pytest.raises(SystemExit) as ended:
            doctor.main()
        assert ended.value.code == code
    said = capsys.readouterr().out
    assert "→ free some" in said
    assert ("verdict: disk must be mended first" in said) == (state == "REQUIRED")
    assert "missing" not in said
