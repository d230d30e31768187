# Everything stays in this clone: two virtualenvs, target/, benchmarks/results/, pages/.
#
#   make demo    the tutorial's pool, its shared memory, its manager, and its downloader
#   make test    linters, type checks, Rust tests, the whole Python suite
#   make bench   every benchmark, and one table at the end (about twelve minutes)
#   make bench-NAME  one of them; BENCH="--quick --compare OLD" are its options
#
#   make check         linters and the part of the suite that answers in three minutes
#   make conformance   CPython's own tests of multiprocessing and concurrent.futures on garrison
#   make test-all      all of this on every CPython from 3.10 to 3.14 at hand
#
#   make engines       pools over Ray and Dask, managers over Valkey; installs all three
#
#   make docs    the site of docs/, in target/site: no warning, no link that goes nowhere
#
#   make third-party   programs of other libraries on garrison; installs some gigabytes (torch)
#
#   make wheels        the wheels and the source distribution, built, checked and tried, in dist/
#
#   make lint | storm [KILLS=2000 SEED=n] | smoke | clean
#
#   Before a release (CONTRIBUTING.md):
#   make audit      licences, sources and known vulnerabilities of the crates
#   make sanitize   AddressSanitizer over Rust's tests, Miri over those of pure code
#   make fuzz       every fuzz target for FUZZ_SECONDS=600; FUZZ="keys frames" for some of them

PYTHON ?= python3
KILLS ?= 2000
FUZZ_SECONDS ?= 600
FUZZ ?=
SHELL := /bin/sh
CARGO := cargo
CRATE := --manifest-path native/Cargo.toml --locked
TARGET := $(CURDIR)/target

# What `make check` runs of the suite.
CHECKED := tests/test_layers.py tests/test_namespace.py tests/programs tests/pool/test_map.py \
	tests/sync/test_locks.py tests/sync/test_queues.py tests/memory

# One virtualenv as users get it, one with crash points compiled in for the tests.
USER := .venv
TEST := .venv-test
THIRD := .venv-third-party
DOCS := .venv-docs
ENGINES := .venv-engines
WHEELS := .venv-wheels

export CARGO_TARGET_DIR := $(TARGET)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

SOURCES := $(wildcard pyproject.toml README.md LICENSE THIRD-PARTY-LICENSES packaging/*.py) \
	$(shell find src native -name target -prune -o -name __pycache__ -prune -o ! -name '*.so' -print)

.PHONY: wheels check conformance docs engines third-party test-all demo test bench lint storm fuzz sanitize audit smoke clean build tools rust-test loom-test python-test
.NOTPARALLEL:
.DEFAULT_GOAL := build

build: $(USER)/.built

demo: $(USER)/.built
	$(USER)/bin/python examples/demo.py

test: lint rust-test loom-test python-test

bench: $(USER)/.built $(USER)/.bench-tools
	$(USER)/bin/python benchmarks/run_all.py $(BENCH)

bench-%: $(USER)/.built $(USER)/.bench-tools
	$(USER)/bin/python benchmarks/$*.py $(BENCH)

bench-ray_pool bench-dask_pool: $(USER)/.engines

lint: $(TEST)/.built $(TEST)/.test-tools
	$(TEST)/bin/python -m ruff check .
	$(TEST)/bin/python -m ruff format --check .
	$(TEST)/bin/python -m mypy
	$(TEST)/bin/python scripts/licences.py --check
	$(CARGO) fmt --manifest-path native/Cargo.toml --check
	$(CARGO) clippy $(CRATE) --all-targets -- -D warnings
	$(CARGO) clippy $(CRATE) --all-targets --features crash-points -- -D warnings
	$(CARGO) clippy $(CRATE) --all-targets --no-default-features -- -D warnings

# Without the Python face the crate links no libpython, which not every machine has.
rust-test: | tools
	$(CARGO) test $(CRATE) --no-default-features

loom-test: | tools
	CARGO_TARGET_DIR="$(TARGET)/loom" RUSTFLAGS="--cfg loom" \
		$(CARGO) test $(CRATE) --no-default-features --profile loom --lib

python-test: $(TEST)/.built $(TEST)/.test-tools
	$(TEST)/bin/python -m pytest

check: lint
	$(TEST)/bin/python -m pytest -q $(CHECKED)

conformance: $(TEST)/.built $(TEST)/.test-tools
	$(TEST)/bin/python tests/conformance/run.py

test-all: test conformance
	$(TEST)/bin/python scripts/test_pythons.py --all

engines: $(ENGINES)/.built $(ENGINES)/.test-tools $(ENGINES)/.mpi
	@sh scripts/redis_server.sh
	$(ENGINES)/bin/python -m pytest -rs tests/engines tests/manager/valkey

# The theme's own advertisement would be the only line.
docs: export NO_MKDOCS_2_WARNING := 1
docs: $(DOCS)/.tools
	$(DOCS)/bin/python -m mkdocs build
	$(DOCS)/bin/python scripts/check_links.py target/site

third-party: $(THIRD)/.built
	$(THIRD)/bin/python -m pytest tests/third_party tests/aio

storm: $(TEST)/.built $(TEST)/.test-tools
	cd tests && ../$(TEST)/bin/python -m storms.pool --kills $(KILLS) $(if $(SEED),--seed $(SEED))
	cd tests && ../$(TEST)/bin/python -m storms.manager --kills $(KILLS) $(if $(SEED),--seed $(SEED))
	cd tests && ../$(TEST)/bin/python -m storms.cluster --kills $(KILLS) $(if $(SEED),--seed $(SEED))

fuzz: $(TEST)/.built $(TEST)/.test-tools $(TEST)/.fuzz-tools
	PYTHON=$(TEST)/bin/python sh scripts/fuzz.sh $(FUZZ_SECONDS) $(FUZZ)

sanitize: | tools
	sh scripts/sanitize.sh

wheels: $(WHEELS)/.wheel-tools
	rm -rf dist
	$(WHEELS)/bin/python scripts/wheels.py

audit: $(TEST)/.built
	PYTHON=$(TEST)/bin/python sh scripts/audit.sh

smoke: $(USER)/.built
	$(USER)/bin/python scripts/smoke.py

clean:
	rm -rf .venv .venv-* target native/target build dist pages benchmarks/results
	rm -rf .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

tools:
	@sh scripts/check_tools.sh "$(PYTHON)"

$(USER)/.created $(TEST)/.created $(ENGINES)/.created $(THIRD)/.created $(DOCS)/.created: | tools
	"$(PYTHON)" -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	touch $@

$(USER)/.built: $(USER)/.created $(SOURCES)
	$(USER)/bin/python -m pip install --quiet ".[fetch]"
	touch $@

$(TEST)/.built: $(TEST)/.created $(SOURCES)
	MATURIN_PEP517_ARGS="--features extension-module,crash-points" \
		$(TEST)/bin/python -m pip install --quiet ".[fetch]"
	touch $@

$(ENGINES)/.built: $(ENGINES)/.created $(SOURCES)
	MATURIN_PEP517_ARGS="--features extension-module,crash-points" \
		$(ENGINES)/bin/python -m pip install --quiet ".[fetch,ray,dask,valkey]"
	touch $@

$(THIRD)/.built: $(THIRD)/.created $(SOURCES) pyproject.toml
	$(THIRD)/bin/python -m pip install --quiet ".[fetch]" --group third-party
	touch $@

$(USER)/.bench-tools: $(USER)/.created pyproject.toml
	$(USER)/bin/python -m pip install --quiet --group bench
	touch $@

$(TEST)/.test-tools $(ENGINES)/.test-tools: %/.test-tools: %/.created pyproject.toml
	$*/bin/python -m pip install --quiet --group test
	touch $@

$(DOCS)/.tools: $(DOCS)/.created pyproject.toml
	$(DOCS)/bin/python -m pip install --quiet --group docs
	touch $@

$(WHEELS)/.wheel-tools: $(WHEELS)/.created pyproject.toml
	$(WHEELS)/bin/python -m pip install --quiet --group wheels
	touch $@

# Without it the suite over MPI is skipped.
$(ENGINES)/.mpi: $(ENGINES)/.created pyproject.toml
	-$(ENGINES)/bin/python -m pip install --quiet --only-binary :all: --group mpi
	touch $@

$(USER)/.engines: $(USER)/.created pyproject.toml
	$(USER)/bin/python -m pip install --quiet --group engines
	touch $@

# Without atheris the Python targets are fuzzed by mutations alone.
$(TEST)/.fuzz-tools: $(TEST)/.created pyproject.toml
	-$(TEST)/bin/python -m pip install --quiet --only-binary :all: --group fuzz
	touch $@
