# `make` alone lists the targets. Everything happens in .venv and .peers; nothing outside this directory is changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 3

.DEFAULT_GOAL := help
.PHONY: help venv peers demo test test-shuffled test-long coverage test-store store-table torture fuzz mutants test-versions test-all lint format docs \
    bench bench-quick audit sbom dist dist-check clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort | expand -t 14

venv: $(VENV)/.complete ## make the virtual environment with everything that development needs

$(VENV)/.complete: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[aws,azure,google,verify,dev,release]'
	touch $@

peers: venv ## install what tests compare with: real Barman, PostgreSQL 14, 16 and 17, Azurite
	$(BIN)/python scripts/peers.py

demo: venv ## show the main job for real: back up, archive, lose a table, restore (URL=… ENDPOINT=… for another store)
	$(BIN)/python -m scripts.demo $(URL) $(if $(ENDPOINT),--endpoint-url $(ENDPOINT))

test: peers lint ## lint, then run the tests on the newest PostgreSQL
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -m "not long"

SEED ?=
test-shuffled: peers ## the tests of `make test` in an order that SEED=… decides: none may need what another has left behind
	@seed=$(or $(SEED),$$(date +%s)); echo "SEED=$$seed"; \
	    BARMAN_CLOUD_TEST_ORDER=$$seed $(BIN)/python -m pytest -q -n $(JOBS) --dist loadgroup -m "not long"

test-long: peers ## the tests that are left out of `make test` because they take long, and new examples for the others
	BARMAN_CLOUD_TEST_DRAW=anew $(BIN)/python -m pytest -q -n $(JOBS) --dist loadgroup -m long
	BARMAN_CLOUD_TEST_DRAW=anew $(BIN)/python -m pytest -q -n $(JOBS) --dist loadgroup -m "not long" tests/unit tests/fuzz

# What depends on the server's version; the rest of the tests doesn't need to run once for each.
VERSION_TESTS := $(addprefix tests/integration/test_, \
    backup.py streamed_backup.py incremental_backup.py point_in_time_recovery.py wal_archive.py wal_receive.py wal_restore.py)

coverage: peers ## which lines of src the tests run in their own process, branch by branch
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadgroup --cov --cov-report=term -m "not long"

test-versions: peers ## test what depends on the server's version on every other PostgreSQL found
	for major in $$($(BIN)/python -m tests.support.installations); do \
	    BARMAN_CLOUD_TEST_POSTGRES=$$major $(BIN)/python -m pytest -q -n $(JOBS) --dist loadgroup -m "not long" $(VERSION_TESTS) || exit 1; \
	done

test-store: venv ## the store conformance suite on any server: make test-store URL=s3://bucket/path ENDPOINT=http://…
	@test -n "$(URL)" || { echo "URL=… says which store: s3://bucket/path, gs://bucket/path or https://…/container/path"; exit 2; }
	BARMAN_CLOUD_TEST_STORE_URL='$(URL)' BARMAN_CLOUD_TEST_STORE_ENDPOINT='$(ENDPOINT)' \
	    $(BIN)/python -m pytest -q tests/store

store-table: peers ## run it on every server found, MinIO and versitygw too, and write the table of what each can do
	$(BIN)/python -m scripts.store_table --run

MINUTES ?= 10
torture: peers ## kill and disturb every command for MINUTES=10, drawn from SEED=…; figures and findings go to torture.json
	$(BIN)/python -m tests.torture --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) --json torture.json

EXAMPLES ?= 20000
SECONDS_EACH ?= 30
fuzz: venv ## hostile bytes for every reader: EXAMPLES=20000 for each, then SECONDS_EACH=30 led by coverage (atheris)
	mkdir -p .fuzz && rm -f .fuzz/inputs
	BARMAN_CLOUD_TEST_DRAW=anew BARMAN_CLOUD_TEST_FUZZ_EXAMPLES=$(EXAMPLES) BARMAN_CLOUD_TEST_FUZZ_INPUTS=.fuzz/inputs \
	    $(BIN)/python -m pytest -q --timeout 0 tests/fuzz
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: -c constraints.txt atheris
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS_EACH)

mutants: peers ## make small mistakes in safety-relevant code, one at a time, and write how many the tests notice
	$(BIN)/python -m tests.mutants --write

test-all: test test-versions test-long ## all of them; CI runs the first two

lint: venv ## ruff, mypy and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m scripts.reference --check
	$(BIN)/python -m scripts.man_pages --check
	$(BIN)/python -m scripts.completions --check
	$(BIN)/python -m scripts.store_table --check

format: venv ## let ruff fix what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: venv ## write the reference pages that the code itself knows, and build the site into site/
	$(BIN)/python -m scripts.reference
	$(BIN)/python -m scripts.man_pages
	$(BIN)/python -m scripts.completions
	$(BIN)/python -m scripts.store_table
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

bench: peers ## measure against Barman, and pgBackRest and WAL-G if found; see benchmarks/README.md
	$(BIN)/python -m benchmarks

bench-quick: peers ## the same on small data, in a few minutes
	$(BIN)/python -m benchmarks --quick

audit: venv ## look the pinned versions up in the public database of vulnerabilities (asks pypi.org)
	$(BIN)/python -m pip_audit --strict --disable-pip --no-deps --progress-spinner off -r constraints.txt

sbom: venv ## list what is installed to run barman-cloud, as CycloneDX: dist/sbom.cdx.json
	$(BIN)/python -m scripts.sbom

dist: dist-check ## make wheel and sdist in dist/, with their checksums

dist-check: venv ## the same, built three times: they are the same, byte for byte, wherever and whenever (SOURCE_DATE_EPOCH)
	$(BIN)/python -m scripts.dist_check

clean: ## remove what was made here: environments, peers, caches
	rm -rf $(VENV) .peers .demo build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache htmlcov
	rm -rf .fuzz
	rm -f .coverage .coverage.* torture.json .mutants.json
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
