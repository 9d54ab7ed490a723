# Works with nothing but Python >= 3.11 (with venv) and GNU make: everything else is installed into .venv, pinned by hash.

PYTHON ?= python3
bin    := .venv/bin
dists  := protos libs/servicekit services/incident services/approval services/alert-intake services/metrics-gateway cli
pip    := $(bin)/python -m pip install -qq --disable-pip-version-check
typed  := protos/generate.py docs/generate.py $(addsuffix /src,$(dists)) $(wildcard benchmarks chaos hostile release) tests

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile
	@echo 'ARGS="..." is passed to the command that is run; PYTHON=... is the interpreter for .venv.'

up: .venv/.runtime ## start PostgreSQL and the four services here; Ctrl-C stops them
	@exec $(bin)/flywheel up $(ARGS)

demo: .venv/.runtime ## heal 566 stuck incidents through an outage; ARGS=--alerts: verify repairs by real alerts
	@exec $(bin)/flywheel demo $(ARGS)

tools: .venv/.dev ## install buf and what tests and lint need

test: .venv/.dev ## run every test: unit, integration, contract, end to end
	@$(bin)/python -m pytest $(ARGS)

test-fast: .venv/.dev ## run the unit and contract tests: no database, under 90 s on two cores
	@$(bin)/python -m pytest -q $(wildcard tests/*/unit tests/contract) $(ARGS)

lint: lint-style lint-types lint-imports lint-contracts lint-rules ## run all checks; changes nothing

lint-style: .venv/.dev ## check the style of Python files
	$(bin)/ruff check
	$(bin)/ruff format --check

lint-types: .venv/.dev ## check types
	$(bin)/mypy $(typed)

lint-imports: .venv/.dev ## check the import rules of import-rules.ini and protos/import-rules.ini
	@for rules in import-rules.ini protos/import-rules.ini; do \
		found=$$($(bin)/lint-imports --no-cache --no-logo $$rules) || { echo "$$found"; exit 1; }; \
	done

lint-contracts: .venv/.dev ## check the .proto files, the generated code, and that no client breaks
	$(bin)/buf lint
	$(bin)/buf format -d --exit-code
	$(bin)/python protos/generate.py --check
	@BUF=$(bin)/buf .ci/breaking-changes

lint-rules: .venv/.dev ## check that alert rules and dashboards use series that exist
	$(bin)/metrics-gateway check-rules $(wildcard deploy/prometheus/rules/*.yml deploy/grafana/dashboards/*.json)

format: .venv/.dev ## rewrite Python and protobuf files in the project's style
	$(bin)/ruff check --fix-only
	$(bin)/ruff format
	$(bin)/buf format -w

proto: .venv/.dev ## generate protos/gen from the .proto files
	$(bin)/python protos/generate.py

docs: .venv/.dev ## generate docs/cli.md from the command, and the tables of docs/configuration.md from the settings
	$(bin)/python -m flywheel.reference docs/cli.md
	$(bin)/python docs/generate.py

bench: .venv/.dev ## measure the performance ratios, both sides in one run; ARGS="P1 P4"
	@$(bin)/python -m benchmarks $(ARGS)

hostile: .venv/.dev ## attack the services, good clients beside; ARGS="--minutes 30" is the soak
	@$(bin)/python -m hostile $(ARGS)

test-compose: .venv/.dev ## start docker-compose.yml and resolve an incident through it
	@deploy/docker/test-compose $(ARGS)

release: .venv/.dev ## version, changelog, wheels, images, SBOM, tag; ARGS=1.2.3
	@$(bin)/python -m release $(ARGS)

lock: .venv/.dev ## pin the dependencies of the pyproject files; ARGS=--upgrade takes the newest
	$(call compile,dev,cli/pyproject.toml --group build --group dev $(ARGS))
	$(call compile,,cli/pyproject.toml --group build -c requirements-dev.lock --upgrade)
	$(call compile,services,--extra kubernetes -c requirements-dev.lock --upgrade)
	$(bin)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate \
		--custom-compile-command 'make lock' -o benchmarks/requirements.lock benchmarks/requirements.in $(ARGS)

clean: ## remove .venv and caches; data in .flywheel stays
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(filter-out protos,$(dists)) protos/gen protos/src tests $(wildcard benchmarks chaos hostile release) -name __pycache__ -prune -exec rm -rf {} +

.PHONY: help up demo tools test test-fast lint lint-style lint-types lint-imports lint-contracts lint-rules format proto docs bench \
	hostile test-compose release lock clean

# The services' dependencies are in every lock; the later locks follow the versions of the first, so that all agree.
compile = $(bin)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command 'make lock' -o requirements$(addprefix -,$(1)).lock \
	$(addsuffix /pyproject.toml,$(filter-out cli,$(dists))) $(2)

# A virtual environment knows its own path and interpreter: when either is gone, it is made again.
ifneq ($(shell test -x $(bin)/python && cat .venv/.home 2>/dev/null),$(CURDIR))
.PHONY: .venv/.home
endif

.venv/.home:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is not Python 3.11 or newer. Name one that is: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) has no venv. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv --clear .venv
	@echo '$(CURDIR)' > $@

.venv/.runtime: .venv/.home requirements.lock $(addsuffix /pyproject.toml,$(dists))
	@echo 'Installing into .venv what the services need (55 MB the first time, under a minute; only after a change)'
	@$(pip) --require-hashes -r requirements.lock
	@$(pip) --no-deps --no-build-isolation $(addprefix -e ,$(dists))
	@touch $@

.venv/.dev: .venv/.runtime requirements-dev.lock
	@echo 'Installing into .venv what tests and lint need (90 MB more the first time, under a minute; only after a change)'
	@$(pip) --require-hashes -r requirements-dev.lock
	@touch $@
