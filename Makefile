# Everything this project needs, on a machine with python3 (3.11 or newer, with venv) and make. `make` explains.
#
# What is installed is remembered in .venv/.stamps: nothing is done twice, and a changed lock is noticed.

PYTHON ?= python3
ARGS   ?=
VENV   := .venv
BIN    := $(VENV)/bin
STAMPS := $(VENV)/.stamps
NODE   := tests/e2e/node

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help up test lint bench soak fuzz lock clean

help: ## This text.
	@echo "Moonpool, a self-hosted LLM platform behind one resilient gateway."
	@echo
	@sed -n 's/^\([a-z]*\):.*## /  make \1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-13s  %s\n", $$1, $$2 }'
	@echo
	@echo '  make up ARGS="--port 18080 --data DIR" passes arguments on; so do test and bench.'
	@echo "  After the set-up the program itself is .venv/bin/moonpool (try --help)."

up: $(STAMPS)/local $(STAMPS)/project ## Set up everything and start the platform (ctrl-C stops it).
	@exec $(BIN)/moonpool up $(ARGS)

test: lint $(STAMPS)/node ## Set up and run the whole test suite.
	@$(BIN)/python -m pytest -m "not slow" $(ARGS) || { code=$$?; \
	  if [ $$code -eq 5 ]; then echo "No test was run: that is a failure too."; fi; exit $$code; }

lint: $(STAMPS)/dev $(STAMPS)/project ## Style, types and import rules.
	@echo "· ruff, mypy, import rules"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { \
	  echo "Not formatted (see above): run $(BIN)/ruff format ."; exit 1; }
	@$(BIN)/mypy --no-error-summary
	@said=`$(BIN)/lint-imports 2>&1` || { echo "$$said"; exit 1; }

bench: $(STAMPS)/dev $(STAMPS)/project ## Side-by-side benchmarks; ARGS=--quick takes two minutes.
	@$(BIN)/python -m bench $(ARGS)

soak: $(STAMPS)/node $(STAMPS)/project ## The tests that take minutes each.
	@$(BIN)/python -m pytest -m slow --timeout=3600 $(ARGS)

fuzz: $(STAMPS)/dev $(STAMPS)/project ## A million hostile inputs for the edge.
	@$(BIN)/python tests/security/fuzz_edge.py --inputs 1000000 $(ARGS)

lock: $(STAMPS)/venv ## Write requirements/*.txt anew; ARGS=--upgrade takes newer versions.
	@$(BIN)/python -m pip install --quiet --target .setup/lock 'uv==0.13.*'
	@requirements/lock.sh .setup/lock/bin/uv $(ARGS)

clean: ## Remove what was set up and built here (never the platform's data).
	rm -rf $(VENV) .setup .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	rm -rf $(NODE)/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ── set-up ─────────────────────────────────────────────────────────────────────────────────────────

$(STAMPS)/venv:
	@command -v $(PYTHON) > /dev/null || { \
	  echo "Moonpool needs Python 3.11 or newer, and there is no $(PYTHON) here."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Moonpool needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) --version 2>&1`."; \
	  echo "If a newer one is installed: make PYTHON=python3.12 (and so on)."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2> /dev/null || { \
	  echo "This Python lacks its venv module (Debian and Ubuntu: apt install python3-venv)."; exit 1; }
	@echo "· A virtual environment in $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/local: requirements/local.txt $(STAMPS)/venv
	@echo "· The platform, the engine and a small model (380 MB on disk, one or two minutes the first time)"
	@$(BIN)/python requirements/install.py $<
	@touch $@

$(STAMPS)/dev: requirements/dev.txt $(STAMPS)/venv
	@echo "· All of it, and the tools for tests and benchmarks (650 MB on disk, two or three minutes the first time)"
	@$(BIN)/python requirements/install.py $<
	@touch $@

$(STAMPS)/project: pyproject.toml requirements/build.txt $(STAMPS)/venv
	@$(BIN)/python requirements/install.py requirements/build.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation --editable .
	@touch $@

$(STAMPS)/node: $(NODE)/package-lock.json requirements/node.txt $(STAMPS)/dev $(STAMPS)/project
	@$(BIN)/python requirements/node.py path > /dev/null || { \
	  echo "· Node.js for the tests of its SDK (210 MB on disk)"; $(BIN)/python requirements/install.py requirements/node.txt; }
	@$(BIN)/python requirements/node.py ci $(NODE)
	@touch $@
