# make run [ARGS='--port 8001']   install what is needed into .venv and serve on http://127.0.0.1:8000
# make test                       install what the tests need and run every test, Python and browser
# make install                    make .venv and stop
# make check                      what a change must pass: format, lint, types, tests
# make bench                      measure the server beside others, most of an hour (ARGS='job timers' for some parts, --quick to try)
# make lock                       choose dependency versions anew

PYTHON ?= $(firstword $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null && command -v "$$name"; done))
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --require-hashes
ARGS ?=

.PHONY: run test install check lint bench lock node-test clean
.DELETE_ON_ERROR:

run: $(VENV)/.installed
	@exec $(BIN)/handrail serve $(ARGS)

install: $(VENV)/.installed
	@echo 'Handrail is installed in $(VENV). Start it with: make run'

# A venv that was moved or half made is no use: its own python must answer.
$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo 'Handrail needs Python 3.11 to 3.14; no such python3 is on PATH. Install one, or: make PYTHON=/path/to/python3' >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip' 2>/dev/null || { echo 'This Python cannot make a venv. On Debian or Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	@echo 'Making $(VENV)'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV)
	@touch $@

$(VENV)/.installed: requirements.lock pyproject.toml $(VENV)/.made
	@echo 'Installing what Handrail needs into $(VENV)'
	@$(PIP) -r requirements.lock
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.tested: requirements-dev.lock $(VENV)/.installed
	@echo 'Installing what the tests need into $(VENV)'
	@$(PIP) -r requirements-dev.lock
	@touch $@

test: $(VENV)/.tested
	@.ci/need-chromium
	@.ci/need-redis
	$(BIN)/pytest
	$(BIN)/python .ci/node.py --test client_js/test/

lint: $(VENV)/.tested client_js/node_modules/.installed
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	cd client_js && ../$(BIN)/python ../.ci/node.py node_modules/typescript/bin/tsc --project .

client_js/node_modules/.installed: client_js/package-lock.json $(VENV)/.tested
	cd client_js && ../$(BIN)/python ../.ci/node.py --npm ci --no-audit --no-fund --ignore-scripts
	@touch $@

check: lint test

bench: $(VENV)/.installed ; @$(BIN)/python -m benchmarks $(ARGS)

lock: $(VENV)/.tested
	echo 'hatchling>=1.27' | $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate -o requirements.lock pyproject.toml -
	echo 'hatchling>=1.27' | $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --all-extras -c requirements.lock -o requirements-dev.lock pyproject.toml -

clean:
	rm -rf $(VENV) client_js/node_modules
