# Semore. `make help` lists the targets; each installs what it needs into .venv on first use, and resumes when repeated.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup collect annotate audit rehearse cris-tiny train evaluate compare report view counterfactual sweep eyes
.PHONY: study results demo doctor test test-slow test-carla lint bench docs docs-serve format clean

PYTHON ?= python3.11
PRESET ?= laptop
SCENARIO ?= JayWalk
# Further choices, passed on only when given: METHOD, RUN, ROLLOUTS, KNOWLEDGE, WEATHER, SIM, DESCRIBER, SEGMENTER, SAMPLE,
# FRAMES, BUDGET, SCHEDULER, WORKERS, with SIM=carla CARLA_HOST, CARLA_PORT, CARLA (a command line that starts a server) and
# SERVERS, RUNS, EPISODE, VARY, and ARGS for anything else, e.g. make train ARGS="--seed 2 --run second".
common = --preset $(PRESET) --scenario $(SCENARIO)
option = $(if $($(1)),--$(2) $($(1)))
# A knowledge set is called after its producers unless KNOWLEDGE says otherwise (annotate.settings.default_knowledge).
describer = $(or $(DESCRIBER),privileged)
segmenter = $(or $(SEGMENTER),cris-tiny)
produced = $(if $(filter $(describer),$(segmenter)),$(describer),$(describer)-$(segmenter))
knowledge = $(if $(KNOWLEDGE)$(DESCRIBER)$(SEGMENTER),--knowledge $(or $(KNOWLEDGE),$(produced)))
# A rival's run is called after its method unless RUN says otherwise (train.settings.run_folder), and what another world
# gave after that world: its recordings and runs stay apart from the embedded world's.
rival = $(filter-out semore,$(METHOD))
world = $(filter-out embedded,$(SIM))
plain = $(SCENARIO)-$(basename $(notdir $(PRESET)))
named = $(or $(RUN),$(if $(rival)$(world),$(plain)$(addprefix -,$(rival))$(addprefix -,$(world))))
recorded = $(or $(ROLLOUTS),$(if $(world),$(plain)-$(world)))
export CARLA
carla = $(if $(filter carla,$(SIM)),$(if $(CARLA),--carla.command "$$CARLA") $(call option,CARLA_HOST,carla.host) $(call option,CARLA_PORT,carla.port) $(call option,SERVERS,carla.servers))
drive = $(call option,WEATHER,weather) $(call option,SIM,simulator) $(carla)
empty :=
comma := ,
list = [$(subst $(empty) $(empty),$(comma),$(strip $(1)))]
seeds = $(if $(SEEDS),--seeds $(call list,$(SEEDS)))
cluster = $(call option,SCHEDULER,scheduler) $(call option,WORKERS,workers)
run = .venv/bin/python -m
# A file's tests stay together: what a module's fixtures make is made once.
parallel = -n auto --maxprocesses 4 --dist loadfile

help:
	@echo "make collect annotate train evaluate   the pipeline, in this order"
	@echo "make demo                              watch the shipped policies drive: films with masks, two minutes, no training"
	@echo "make annotate SAMPLE=50                a pilot: rate, cost of the rest, failures, a contact sheet"
	@echo "make audit                             the masks against the simulator's truth"
	@echo "make cris-tiny                         train the small segmenter of the embedded world again"
	@echo "make rehearse                          a cluster's bad day on this machine, with a fake model"
	@echo "make test | test-slow | lint           checks"
	@echo "make test-carla                        the CARLA client against our loopback server"
	@echo "make doctor                            what is there of all that Semore can use, and how to get the rest"
	@echo "make bench                             speeds of all stages and of rivals, against their targets"
	@echo "make report RUNS=\"a b\"                 one HTML file that compares runs: tables, curves, masks, films"
	@echo "make compare RUNS=\"a b\"                the same in the paper's form, printed"
	@echo "make view EPISODE=                     walk through a recorded episode in the browser"
	@echo "make counterfactual                    does the knowledge matter, and where: other masks, no attention, one stream"
	@echo "make study PARTS=\"main rivals\"        the study: all methods and ablations, resumable (docs/study.md)"
	@echo "make results                           its CSV files, tables and pictures, at any time"
	@echo "make sweep VARY=\"agent.lr=3e-4,1e-3\"   train for every value and seed, evaluate, draw"
	@echo "make docs | docs-serve                 the documentation as a site: build/site; or served here"
	@echo "make eyes                              do the scenarios need eyes? the driver against everything blind"
	@echo "make setup                             install into .venv (every target does, when needed)"
	@echo "make clean                             remove .venv and caches; data/ and runs/ stay"
	@echo "variables: PRESET=laptop|debug|paper SCENARIO=JayWalk|HighBeam|HighWay RUN= ROLLOUTS= KNOWLEDGE= WEATHER="
	@echo "           METHOD=semore|sac|deepmdp|drq|curl|sac-segmentation|cloning SEEDS=\"1 2 3\""
	@echo "           SIM=embedded|carla CARLA_HOST= CARLA_PORT= CARLA=\"command that starts a server\" SERVERS="
	@echo "           DESCRIBER= SEGMENTER= SAMPLE= FRAMES= BUDGET=minutes SCHEDULER=none|local|tcp://... WORKERS="
	@echo "           ARGS=\"--any.setting value\"; every setting: .venv/bin/python -m train --help"

setup: .venv/.installed $(if $(filter carla,$(SIM)),.venv/.carla)

.venv/.carla: .venv/.installed requirements-carla.lock
	@echo "setup: installing the CARLA client (180 MB; once)"
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-carla.lock
	@touch $@

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "Semore needs Python 3.11 as \"$(PYTHON)\"; name another with PYTHON=..."; exit 1; }
	@echo "setup: creating .venv and installing the locked packages (about 2 GB on a CPU build of torch; once)"
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@echo "setup: compiling the embedded world (once)"
	@.venv/bin/python -m collect.embedded
	@touch $@

collect: setup
	@$(run) collect $(common) $(call option,recorded,rollouts) $(drive) $(ARGS)

annotate: setup
	@$(run) annotate $(common) $(call option,recorded,rollouts) $(knowledge) $(call option,DESCRIBER,describer) $(call option,SEGMENTER,segmenter) $(call option,SAMPLE,sample) $(call option,FRAMES,frames) $(call option,BUDGET,budget) $(call option,SCHEDULER,scheduler) $(call option,WORKERS,workers) $(ARGS)

audit: setup
	@$(run) annotate.audit $(common) $(call option,recorded,rollouts) $(knowledge) $(ARGS)

rehearse: setup
	@$(run) annotate.rehearsal $(ARGS)

cris-tiny: setup
	@$(run) annotate.segment.cris_tiny $(ARGS)

train: setup
	@$(run) train $(common) $(call option,recorded,rollouts) $(knowledge) $(drive) $(call option,METHOD,method) $(call option,named,run) $(seeds) $(ARGS)

evaluate: setup
	@$(run) evaluate $(common) $(drive) $(call option,named,run) $(ARGS)

test: setup
	@$(run) pytest $(parallel) -m "not slow"

# LeRobot's and rerun's formats are written, and read back by their own libraries where these can be had.
.venv/.export: .venv/.installed requirements-export.lock
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-export.lock -c requirements.lock
	@touch $@

test-slow: .venv/.export .venv/.docs
	@$(run) pytest $(parallel)

# Demo and study have scenarios of their own, the study a preset too, unless the command line names others.
given = $(if $(filter command line environment,$(origin $(1))),$($(1)))
demo: setup
	@$(run) evaluate.demo $(if $(call given,SCENARIO),--scenarios $(call list,$(call given,SCENARIO))) $(ARGS)

# The client library and our loopback server; without the library this fails, while `make test` skips those tests.
test-carla: .venv/.carla
	@.venv/bin/python -c 'import carla.libcarla'
	@$(run) pytest tests/carla

doctor: setup
	@$(run) collect.doctor $(carla) $(call option,SCHEDULER,scheduler) $(ARGS)

runs = $(or $(RUNS),$(or $(named),$(plain)))

report: setup
	@$(run) evaluate.report --runs $(call list,$(runs)) $(ARGS)

compare: setup
	@$(run) evaluate.compare $(addprefix runs/,$(runs)) $(ARGS)

view: setup
	@$(run) evaluate.view $(common) $(call option,recorded,rollouts) $(knowledge) $(call option,EPISODE,episode) $(ARGS)

counterfactual: setup
	@$(run) evaluate.counterfactual $(common) $(call option,named,run) $(seeds) $(cluster) $(ARGS)

sweep: setup
	@$(run) evaluate.sweep $(common) $(addprefix --vary ,$(VARY)) $(patsubst --knowledge %,--base knowledge=%,$(knowledge)) $(seeds) $(cluster) $(ARGS)

study: setup
	@$(run) evaluate.study $(addprefix --preset ,$(call given,PRESET)) $(if $(PARTS),--parts $(call list,$(PARTS))) $(if $(call given,SCENARIO),--scenarios $(call list,$(call given,SCENARIO))) $(seeds) $(call option,SCHEDULER,scheduler) $(call option,STUDY,study) $(ARGS)

results: setup
	@$(run) evaluate.results $(call option,STUDY,study) $(ARGS)

eyes: setup
	@$(run) evaluate.eyes --table docs/eyes.md $(ARGS)

# The documentation's site; a broken link or anchor ends it.
.venv/.docs: .venv/.installed requirements-docs.lock
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.lock -c requirements.lock
	@touch $@

docs: .venv/.docs
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs --quiet build --strict
	@echo "next: open build/site/index.html, or make docs-serve, where search works too"

docs-serve: .venv/.docs
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs serve $(ARGS)

lint: setup
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy

bench: .venv/.carla
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-bench.lock -c requirements.lock
	@$(run) perf.collect
	@$(run) perf.annotate
	@$(run) perf.replay
	@$(run) perf.train
	@$(run) perf.carla

format: setup
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
