# make setup | demo | test | lint | docs | dist | help ; everything happens in .venv, set up on first use from constraints.txt
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
READY := $(VENV)/.ready
# processes that run tests at the same time; each takes up to 4 GB
TESTERS ?= 2

help:
	@echo 'make setup      .venv with the tested versions of everything (about a minute); all others do it, too'
	@echo 'make demo       train, fine-tune with a quality metric, test and compare, on sample data (2 cores: 4 to 15 min)'
	@echo 'make study      the paper'"'"'s whole experiment at toy size, with its report (2 cores: ~10 min)'
	@echo 'make test       the fast tests'
	@echo 'make test-slow  the slow tests'
	@echo 'make lint       ruff, codespell, mypy'
	@echo 'make docs       the documentation as a site, in build/docs; links within it are checked'
	@echo 'make linkcheck  its links to elsewhere (needs network)'
	@echo 'make dist       the sdist and the wheel, in dist'
	@echo 'make lock       resolve constraints.txt anew'
	@echo 'make clean      remove what make made, not your data, experiments or results'

$(READY): constraints.txt setup.cfg setup.py pyproject.toml Makefile
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	# exactly what the lock lists: it has one OpenCV and one TensorBoard, which free resolution would double. Compiled, as
	# Python may be told not to (PYTHONDONTWRITEBYTECODE), and then each of many processes compiles PyTorch for itself
	$(UV) pip install --python $(BIN)/python --no-deps --build-constraints constraints.txt --compile-bytecode \
		-r constraints.txt
	$(UV) pip install --python $(BIN)/python --no-deps --build-constraints constraints.txt -e .
	touch $@

setup: $(READY)

SAMPLE = $(BIN)/python scripts/make_sample_data.py -o datasets/mini

# the lists of the clips are written last
datasets/mini/near/meta_info_Vimeo90K_test_GT.txt: | $(READY)
	$(SAMPLE)/near --train-clips 24 --test-clips 3 --size 128 224

datasets/mini/far/meta_info_Vimeo90K_test_GT.txt: | $(READY)
	$(SAMPLE)/far --train-clips 1 --test-clips 3 --size 192 256 --seed 1

study: $(READY) datasets/mini/near/meta_info_Vimeo90K_test_GT.txt datasets/mini/far/meta_info_Vimeo90K_test_GT.txt
	$(BIN)/snakemake --cores 2 --config study=workflow/mini_study.yml

demo: $(READY)
	$(BIN)/python scripts/demo.py

test: $(READY)
	$(BIN)/python -m pytest -n $(TESTERS) --dist worksteal -m 'not slow'

test-slow: $(READY)
	$(BIN)/python -m pytest -n $(TESTERS) --dist worksteal -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/mypy

# everything is read anew: what is not read again does not warn again
SPHINX = $(BIN)/sphinx-build -W --keep-going -n -E -q -d build/doctrees

docs: $(READY)
	$(SPHINX) -b html docs build/docs

linkcheck: $(READY)
	$(SPHINX) -b linkcheck docs build/linkcheck

# the wheel is built from the sdist
dist: $(READY)
	rm -rf dist
	$(UV) build --quiet --offline --no-build-isolation --python $(BIN)/python --out-dir dist
	ls -l dist

lock: $(READY)
	$(UV) pip compile --quiet --universal --python-version 3.10 --extra dev --extra balancers --extra study --no-annotate \
		--no-header --upgrade setup.cfg -o constraints.txt

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis

.PHONY: help setup demo study test test-slow lint docs linkcheck dist lock clean
.DEFAULT_GOAL := help
