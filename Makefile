# Every target sets up .venv by itself on its first run. ARGS is passed on: make test ARGS="-k ledger"
PY := .venv/bin/python
ARGS ?=

.PHONY: help demo test test-all lint conformance clients bench bench-drafts bench-more clean
.NOTPARALLEL:

help:
	@echo "make demo         one delegated task from end to end, without a key or an account"
	@echo "make test         the tests, slow ones left out"
	@echo "make test-all     the slow ones too"
	@echo "make lint         ruff and mypy over code and tests"
	@echo "make conformance  the official MCP suite against our door and the product (fetches Node)"
	@echo "make clients      Claude Code against a scripted model (fetches Node and the client)"
	@echo "make bench        cold start, memory and tokens"
	@echo "make bench-more   playbooks, matching, the audit, the ledger and its report at size (long)"
	@echo "make bench-drafts what a delegated edit costs and proves (long; recorded data where it is at hand)"

.venv/.runtime: pyproject.toml constraints.txt .ci/venv
	@.ci/venv runtime
	@touch $@

.venv/.dev: pyproject.toml constraints.txt .ci/venv
	@.ci/venv dev
	@touch .venv/.runtime $@

demo: .venv/.runtime
	@.venv/bin/tierkit demo $(ARGS)

test: .venv/.dev
	@$(PY) -m pytest -m "not slow" $(ARGS)

test-all: .venv/.dev
	@$(PY) -m pytest $(ARGS)

lint: .venv/.dev
	$(PY) -m ruff check .
	$(PY) -m mypy

conformance: .venv/.dev
	@$(PY) -m benchmarks.conformance $(ARGS)

clients: .venv/.dev
	@$(PY) -m benchmarks.clients $(ARGS)

bench: .venv/.dev
	@$(PY) -m benchmarks.bench $(ARGS)

bench-drafts: .venv/.dev
	@for part in polyglot caller_tokens cascade big_repository edit_distortions; do \
	  echo "== $$part"; $(PY) -m benchmarks.$$part $(ARGS) || exit 1; done

bench-more: .venv/.dev
	@for part in playbooks matching audit ledger report soak; do \
	  echo "== $$part"; $(PY) -m benchmarks.$$part $(ARGS) || exit 1; done

clean:
	rm -rf .venv dist build .mypy_cache .ruff_cache node_modules/.benchmarks
