# make demo   the poisoned delivery in a real Airflow and a real Dagster, from an environment of its own
# make test   the tests, against the installed package, from an environment of its own
# make lint   ruff, and mypy over the installed package
# make docs   the documentation site in docs/_build/html; a broken link, a missing anchor or a page outside the menu ends it
# make bench  seconds and memory of reading, of checks and of a whole scan, beside other tools
# make bench-detection   published attacks planted into clean data, beside other methods
# make bench-digest   what manifests and certificates cost, beside reading and SHA-256
# PYTHON names another interpreter (3.11 to 3.13), PYTEST_ARGS goes to pytest.

SHELL := bash
PYTHON ?= python3
PYTEST_ARGS ?=
WORKERS ?= 2
VENV := .venv
DEMO := .venv-demo
SOURCES := $(shell find src operators expectations plugins -name '*.py' -o -name '*.css' -o -name '*.html' -o -name '*.tmpl' -o -name py.typed)

# Compiled files halve the start of every host.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint docs bench bench-detection bench-digest env clean

demo: $(DEMO)/.installed
	@$(DEMO)/bin/python scripts/demo.py

test: $(VENV)/.installed
	@$(VENV)/bin/python scripts/get_browser.py || true
	@$(VENV)/bin/python scripts/get_softhsm.py || true
	@$(VENV)/bin/python scripts/get_tool.py azurite dbt spark-submit || true
	@$(VENV)/bin/python -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

lint: $(VENV)/.installed
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy -p foretaste
	@$(VENV)/bin/mypy scripts dags_examples/docs_qa.py

docs: $(VENV)/.installed
	@$(VENV)/bin/python -m sphinx --builder html --jobs auto --fail-on-warning --keep-going --quiet docs docs/_build/html
	@echo "docs/_build/html/index.html"

# make bench DATA=train.parquet ARGS='--roles prompt=question response=answer'; ARGS=--huge adds 1 and 10 million rows
bench: $(VENV)/.installed
	@$(PYTHON) scripts/make_env.py $(VENV) cleanlab datasketch rensa semhash text-dedup
	@$(VENV)/bin/python benchmarks/speed.py $(if $(DATA),--data $(DATA),--out benchmarks/speed.json --chart docs/speed.svg) $(ARGS)

# DATA and ARGS name other data and options: make bench-detection DATA=train.parquet ARGS='--text body --label topic'
bench-detection: $(VENV)/.installed
	@$(PYTHON) scripts/make_env.py $(VENV) cleanlab datasketch
	@$(VENV)/bin/python benchmarks/detection.py $(DATA) $(ARGS) $(if $(DATA),,--peers --out benchmarks/detection.json)

bench-digest: $(VENV)/.installed
	@$(VENV)/bin/python benchmarks/digesting.py $(DATA) $(ARGS)

env: $(VENV)/.installed

# Dependencies when pyproject.toml changes, the package alone when its source does.
$(VENV)/.dependencies: pyproject.toml scripts/make_env.py
	@$(PYTHON) scripts/make_env.py $(VENV) '.[all,dev,docs]' --cpu-torch
	@touch $@

$(VENV)/.installed: $(VENV)/.dependencies $(SOURCES)
	@$(PYTHON) scripts/make_env.py $(VENV) --reinstall .
	@touch $@

$(DEMO)/.dependencies: pyproject.toml scripts/make_env.py
	@$(PYTHON) scripts/make_env.py $(DEMO) '.[airflow,dagster,gx]'
	@touch $@

$(DEMO)/.installed: $(DEMO)/.dependencies $(SOURCES)
	@$(PYTHON) scripts/make_env.py $(DEMO) --reinstall .
	@touch $@

clean:
	rm -rf $(VENV) $(DEMO) .demo docs/_build docs/checks docs/api build *.egg-info .pytest_cache .mypy_cache .ruff_cache
