# Semore. `make help` lists the targets; each installs what it needs into .venv on first use, and resumes when repeated.
.DEFAULT_GOAL := help
.NOTPARALLEL:
PYTHON ?= python3.11

# A variable named on the command line or in the environment reaches every command as SEMORE_<name>: it is a default of
# the setting that datasets/command_line.py lists beside it. Anything else goes into ARGS="--any.setting value".
variables := PRESET SCENARIO SCENARIOS METHOD RUN RUNS ROLLOUTS KNOWLEDGE WEATHER SIM CARLA CARLA_HOST CARLA_PORT SERVERS \
  DESCRIBER SEGMENTER JUDGE SAMPLE FRAMES BUDGET SCHEDULER WORKERS SEEDS EPISODE VARY PARTS STUDY
$(foreach name,$(variables),$(if $($(name)),$(eval export SEMORE_$(name) := $($(name)))))
export SEMORE_MAKE := 1
commands := collect annotate train evaluate report view demo audit compare counterfactual sweep doctor
# A file's tests stay together: what a module's fixtures make is made once.
pytest := .venv/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile
install := .venv/bin/python -m pip install --quiet --disable-pip-version-check
.PHONY: help setup $(commands) test test-slow test-carla lint format bench docs docs-serve clean

help:
	@echo "make collect annotate train evaluate   the pipeline, in this order"
	@echo "make demo                              films of the shipped policies; no training"
	@echo "make report RUNS=\"a b\"                 one HTML file that compares runs; compare: the same as a table"
	@echo "make view EPISODE=                     walk through a recorded episode in the browser"
	@echo "make annotate SAMPLE=50                a pilot: rate, cost of the rest, failures, a contact sheet"
	@echo "make audit                             the masks against the simulator's truth"
	@echo "make test-gpu                          what only a GPU can test; semore train --help has its settings"
	@echo "make sweep VARY=\"agent.lr=3e-4,1e-3\"   train for every value and seed, evaluate, draw"
	@echo "make counterfactual                    does the knowledge matter: other masks, no attention, one stream"
	@echo "make doctor                            what is there of all that Semore can use, and how to get the rest"
	@echo "make test | test-slow | test-carla     the tests; lint, bench, docs, docs-serve, format, setup, clean"
	@echo "make bench QUICK=1                     speeds and their ratios in 3 minutes; without QUICK in 15"
	@echo "variables: PRESET=laptop|scratch|debug|paper SCENARIO=JayWalk|HighBeam|HighWay METHOD=semore|sac|deepmdp|drq|curl|…"
	@echo "           RUN= RUNS= ROLLOUTS= KNOWLEDGE= WEATHER= SEEDS=\"1 2 3\" DESCRIBER= SEGMENTER= JUDGE= SAMPLE= FRAMES="
	@echo "           BUDGET=minutes SCHEDULER=none|local|tcp://… WORKERS= SIM=embedded|carla CARLA_HOST= CARLA_PORT="
	@echo "           CARLA=\"command that starts a server\" SERVERS= ARGS=\"--any.setting value\""
	@echo ".venv/bin/semore --help lists all commands, .venv/bin/semore train --help every setting of one"

setup: .venv/.installed $(if $(filter carla,$(SIM)),.venv/.carla)

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "The locked packages are for Python 3.11, and \"$(PYTHON)\" is none; name another with PYTHON=..."; exit 1; }
	@echo "setup: creating .venv and installing the locked packages (about 2 GB on a CPU build of torch; once)"
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@$(install) -r requirements.lock
	@$(install) --no-deps -e .
	@echo "setup: compiling the embedded world (once)"
	@.venv/bin/semore compile
	@touch $@

# Extras on top of the lock: the CARLA client (180 MB), the documentation's site, LeRobot's and rerun's formats, rivals.
.venv/.%: .venv/.installed requirements-%.lock
	@echo "setup: installing requirements-$*.lock (once)"
	@$(install) -r requirements-$*.lock -c requirements.lock
	@touch $@

$(commands): setup
	@.venv/bin/semore $@ $(ARGS)

test: setup
	@$(pytest) -m "not slow"

test-slow: .venv/.export .venv/.docs
	@$(pytest)

# Our loopback server against the true client library. Without the library this fails, while `make test` skips those tests.
test-carla: .venv/.carla
	@.venv/bin/python -c 'import carla.libcarla'
	@.venv/bin/python -m pytest tests/collect/carla

# What only a GPU can run; without one each test is skipped by name.
test-gpu: setup
	@.venv/bin/python -m pytest tests/gpu -rs

lint: setup
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy

format: setup
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

bench: .venv/.carla .venv/.bench
	@for part in collect annotate replay train overlap carla gpu; do .venv/bin/python -m perf.$$part $(if $(QUICK),--quick) || exit 1; done

# The documentation's site, in build/site; a broken link or anchor ends it.
docs: .venv/.docs
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs --quiet build --strict
	@echo "next: open build/site/index.html, or make docs-serve, where search works too"

docs-serve: .venv/.docs
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs serve $(ARGS)

clean:
	rm -rf .venv build *.egg-info src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
