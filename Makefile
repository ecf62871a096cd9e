# Every chore as one command, the same here as in .ci/run. `make run` is the one to try first.
.DEFAULT_GOAL := help
SHELL := /bin/sh

# Empty: the first on PATH that is new enough; `make PYTHON=/path/to/python3 ...` decides otherwise.
PYTHON ?=
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.locked
PORT ?= 8000
ARGS ?=
JOBS ?= 5

.PHONY: help run test mutants check format lock venv clean third-party clients-old
.PHONY: chaos soak chaos-bite rolling upgrade chaos-ci bench bench-quick bench-setup bench-growth flame

help: ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1	/' | expand -t 22

run: $(STAMP) ## Redis, worker, two gateways and a model, here; PORT=8000 (the second gateway takes PORT + 1)
	@TAILRACE_PORT=$(PORT) exec $(PY) -m deploy.local

# Files, not tests, are spread over the processes: a file's tests share servers that are started once.
test: $(STAMP) ## the whole test suite; ARGS="tests/unit -x" narrows it, JOBS=0: in one process, TEST_PLAIN=1: fast paths off
	$(PY) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(STAMP) ## lint, format, types and import contracts
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

format: $(STAMP) ## rewrite the sources in the project's format
	$(PY) -m ruff check --fix-only .
	$(PY) -m ruff format .

lock: ## resolve pyproject.toml into the lock files anew (needs uv on PATH, see deploy/lock.sh)
	sh deploy/lock.sh

venv: $(STAMP) ## the virtual environment alone

clients-old: $(STAMP) ## OpenAI's Python SDK 1.109 and 2.54 over the same road, each installed into a temporary folder
	$(PY) -m pytest tests/integration/openai/old_versions.py $(ARGS)

third-party: $(STAMP) .venv-third-party/.locked ## the road with an upstream from elsewhere (LiteLLM's proxy, installed apart)
	$(PY) -m pytest tests/third_party $(ARGS)

.venv-third-party/.locked: tests/third_party/requirements.lock | $(STAMP)
	@$(PY) -m venv --clear .venv-third-party
	@.venv-third-party/bin/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps \
		-r tests/third_party/requirements.lock
	@touch $@

mutants: $(STAMP) ## take each safeguard out of the sources in turn; a test must notice (ARGS="mend 4": those named so)
	$(PY) -m tests.mutants $(if $(ARGS),"$(ARGS)")

chaos: $(STAMP) ## twelve windows of faults against a whole fleet, checked; 8 minutes (CHAOS_PROFILE=short: 2); SEED=n replays
	$(PY) -m tests.chaos --seed $(or $(SEED),0)

soak: $(STAMP) ## the same again and again for HOURS=8, each time with another seed; the first failure ends it
	$(PY) -m tests.chaos.soak --hours $(or $(HOURS),8)

chaos-bite: $(STAMP) ## planted faults, in copies of the tree: the checker must find each; 17 minutes
	$(PY) -m tests.chaos.bite

rolling: $(STAMP) ## restart every worker and gateway, twice, under 100 streams, as Kubernetes does; then two wrong ways
	$(PY) -m tests.chaos.rolling
	$(PY) -m tests.chaos.rolling --rounds 1 --wrong no-delay
	$(PY) -m tests.chaos.rolling --rounds 1 --wrong short-grace

upgrade: $(STAMP) ## roll a fleet from FROM=commit (or a folder with its services) to this tree and back, under 100 streams
	$(PY) -m tests.chaos.upgrade $(FROM) $(ARGS)

chaos-ci: $(STAMP) ## the short profile, directed scenarios, short rolling restarts and one planted fault, as tests
	$(PY) -m pytest -m chaos tests/chaos $(ARGS)

bench-quick: $(STAMP) ## operations per event (commands, bytes, system calls) against the committed baseline; half a minute
	$(PY) -m tests.bench.quick $(ARGS)

bench-setup: $(STAMP) ## what the benchmark's peers need: node packages, a Python environment, nchan where apt is ours
	sh tests/bench/setup.sh

bench: $(STAMP) ## race the product against its peers, in turns; writes tests/bench/RESULTS.md; ten minutes
	$(PY) -m tests.bench $(ARGS)

bench-growth: $(STAMP) ## how cost grows, as curves: tests/bench/GROWTH.md; ten minutes (ARGS=--quick: one, into .bench/growth)
	$(PY) -m tests.bench.growth $(ARGS)

flame: $(STAMP) ## flame graphs of a gateway and a worker under load, into .bench/
	$(PY) -m tests.bench.flame $(ARGS)

# By content, not by date: a lock that was only touched must not disturb what runs from the environment.
$(STAMP): FORCE
	@cmp -s requirements.lock $@ 2>/dev/null || sh deploy/venv.sh $(VENV) $(PYTHON)

FORCE:

clean: ## remove what was built or cached, and the virtual environment
	rm -rf $(VENV) .venv-third-party .run .bench build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
