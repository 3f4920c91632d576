# `make help` lists what there is.
PYTHONS := 3.11 3.12 3.13 3.14
NEWER := 3.13 3.12 3.14
ADDRESS ?= 127.0.0.1:8000
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-older test-newer lint format bench mutants clean

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/.demo ## Serve the chat of examples/chat on localhost, with a database made for it.
	.venv/bin/python examples/chat/manage.py migrate --verbosity 0
	.venv/bin/python examples/chat/manage.py seed
	.venv/bin/python examples/chat/manage.py runserver $(ADDRESS)

test: test-older test-newer ## Run all tests, on Django 5.2 and, given Python 3.12 or later, on 6.

test-older: .venv/.dev ## Run the tests on Django 5.2; ARGS="-k name" picks some.
	.venv/bin/pytest --numprocesses auto $(ARGS)
	@.venv/bin/python .ci/versions.py

test-newer: ## Run the tests on Django 6, if a Python from 3.12 on runs here.
	@if .ci/find-python $(NEWER) >/dev/null; then \
		$(MAKE) --no-print-directory .venv-newer/.dev && \
		.venv-newer/bin/pytest --numprocesses auto $(ARGS) && \
		.venv-newer/bin/python .ci/versions.py; \
	else \
		echo "Django 6: not tested, since no Python of $(NEWER) runs here"; \
	fi

lint: .venv/.dev ## Check format, style, types and the direction of imports.
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

format: .venv/.dev ## Format the code, and mend what ruff can mend.
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

bench: .venv-bench/.ready ## Measure servers and actors beside their peers; ARGS="actors" picks some.
	.venv-bench/bin/python -m benchmarks $(ARGS)

mutants: .venv/.dev ## Plant faults in the actor core, and see that a test notices each.
	.venv/bin/python -m tests.mutants $(ARGS)

clean: ## Remove what the other targets made.
	rm -rf .venv .venv-newer .venv-bench dist build .mypy_cache .pytest_cache .ruff_cache
	rm -rf .hypothesis .import_linter_cache

.venv/.demo: pyproject.toml
	.ci/make-venv .venv $(PYTHONS)
	.venv/bin/python -m pip install --quiet --editable '.[django]'
	touch $@

.venv/.dev: pyproject.toml
	.ci/make-venv .venv $(PYTHONS)
	.venv/bin/python -m pip install --quiet --group dev --editable . 'django>=5.2,<6'
	touch $@ .venv/.demo

.venv-newer/.dev: pyproject.toml
	.ci/make-venv .venv-newer $(NEWER)
	.venv-newer/bin/python -m pip install --quiet --group dev --editable . 'django>=6,<7'
	touch $@

.venv-bench/.ready: pyproject.toml
	.ci/make-venv .venv-bench $(PYTHONS)
	.venv-bench/bin/python -m pip install --quiet --group bench --editable .
	touch $@
