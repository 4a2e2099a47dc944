# `make demo` shows a transfer from end to end, `make test` runs the tests; both set up what they need first.

SOURCES := src tests benchmarks docs/examples ow_config_sample.py token_gen.py watchdog.py
BIN := .venv/bin

PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check install
LOCKED := --require-hashes --requirement requirements.txt
LOCK := $(BIN)/uv --quiet pip compile --universal --generate-hashes --custom-compile-command "make lock" pyproject.toml

# Each process of tests would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup setup-runtime system-packages demo screenshots test test-fast test-python test-browser coverage chaos fuzz bench lint format type-check lock

setup: .venv/installed

# What both setups install is locked; the package itself is installed as a link to this checkout. uv takes half of pip's
# processor time and all cores, but knows no settings of pip's: where it finds no index, pip installs.
.venv/installed: requirements.txt | system-packages
	$(PYTHON) -m venv .venv
	@echo "Installing Python packages into .venv; this takes a minute."
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.txt >.venv/uv.txt
	$(PIP) --require-hashes --requirement .venv/uv.txt
	$(BIN)/uv --quiet pip install --python .venv --compile-bytecode $(LOCKED) || $(PIP) $(LOCKED)
	$(PIP) --no-deps --no-build-isolation --editable .
	@7z i | grep -q '[0-9A-F] Rar5$$' || echo "Compressed RARs will be refused: their codec is not free, and in the package \
	7zip-rar (in Debian 12: p7zip-rar) of Debian's section non-free."
	@touch $@

# For production: nothing that only tests and checks need.
setup-runtime:
	$(PYTHON) -m venv .venv
	$(PIP) --require-hashes --requirement requirements-runtime.txt
	$(PIP) --no-deps --no-build-isolation --editable .

system-packages:
	@deploy/install-system-packages.sh $(PYTHON)

# A test process for each core and one more, since tests often wait; each has services of its own. Tests that wait for a
# slow one go to another process.
PARALLEL := --numprocesses $(shell expr $$(nproc) + 1) --maxprocesses 4 --dist worksteal

# The first command on the machine that is a Python of at least 3.11.
PYTHON = $(shell for command in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$command -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$command && break; done)

demo: setup
	PYTHONPATH=src:. $(BIN)/python -m tests.demo $(if $(FILE),'$(FILE)') $(if $(STORAGE),--storage $(STORAGE))

test: setup
	$(BIN)/python -m pytest $(PARALLEL)

# Without schemathesis, whose plugin takes longer to load than most files of tests to run, and which only tests/fuzz uses.
FAST := $(PARALLEL) -p no:schemathesis -p tests.support.fast

test-fast: setup
	$(BIN)/python -m pytest $(FAST)

# The fast tests once more, with the newest other Python that pyproject.toml names and this machine has, in PATH or by pyenv; its
# packages stay in uv's cache. They hold the coverage too: of all tests it would take minutes.
test-python: setup
	@run=; for version in $(or $(VERSION),$(shell sed -n 's/.*Python :: \(3\..*\)",/\1/p' pyproject.toml | sort -Vr)); do \
		[ ! -e $(BIN)/python$$version ] || continue; \
		found=$$(PATH="$$(printf %s: ~/.pyenv/versions/*/bin)$$PATH" $(BIN)/uv python find --system $$version 2>/dev/null) || continue; \
		run="$(BIN)/uv --quiet run --isolated --no-project --python $$found --with-requirements requirements.txt python"; \
		$$run --version && break; echo "The packages cannot be installed for $$found."; run=; \
	done; [ "$$run" ] || { echo "No other Python is tested: there is none."; run=$(BIN)/python; }; \
	exec $$run -m pytest $(FAST) --cov --cov-report= --cov-fail-under=75

# Apart from the others, because it needs a browser of 300 MB.
test-browser: setup
	@deploy/install-system-packages.sh $(PYTHON) chromium npm
	npm ci --silent --prefix tests/browser
	$(BIN)/python -m pytest --override-ini=addopts=-q tests/browser

screenshots: setup
	@deploy/install-system-packages.sh $(PYTHON) chromium
	PYTHONPATH=src:. $(BIN)/python -m tests.screenshots

coverage: setup
	$(BIN)/python -m pytest $(PARALLEL) --cov --cov-fail-under=93

chaos: setup
	PYTHONPATH=src:. $(BIN)/python -m tests.chaos $(if $(filter s3,$(STORAGE)),--hosts) $(if $(FAILOVERS),--failovers) $(if $(SCANNER),--scanner) $(if $(SEED),--seed $(SEED))

fuzz: setup
	$(BIN)/python -m pytest tests/fuzz --hypothesis-profile=fuzz --override-ini=faulthandler_timeout=0

bench: setup
	@command -v wrk >/dev/null || { echo "wrk is needed. As root: apt-get install wrk" >&2; exit 1; }
	PYTHONPATH=src:. $(BIN)/python -m benchmarks $(GROUPS)

lint: setup
	$(BIN)/python -m isort --check-only $(SOURCES)
	$(BIN)/python -m black --check --quiet $(SOURCES)
	$(BIN)/python -m flake8 $(SOURCES)
	PYTHONPATH=src $(BIN)/lint-imports --no-logo

format: setup
	$(BIN)/python -m isort $(SOURCES)
	$(BIN)/python -m black --quiet $(SOURCES)

type-check: setup
	$(BIN)/python -m mypy $(SOURCES)

# Keeps the locked versions that pyproject.toml still allows. `make lock UPGRADE=--upgrade` takes the newest.
lock: setup
	$(LOCK) $(UPGRADE) --group dev --output-file requirements.txt
	$(LOCK) --group build --constraint requirements.txt --output-file requirements-runtime.txt
