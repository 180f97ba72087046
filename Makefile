# One target for each thing people do with this repository. `make` alone lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
STAMP := $(VENV)/.installed
export OMP_NUM_THREADS ?= 2
# A thread that waits gives its core away; else, on a busy machine, spinning makes a minute six.
export OMP_WAIT_POLICY ?= PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PYTHONUNBUFFERED = 1
SAY = @printf '\n== %s\n'
# An environment that came with a moved folder, or whose Python is gone, is made again.
$(shell [ ! -e $(STAMP) ] || { [ "$$(cat $(STAMP))" = "$(CURDIR)" ] && $(PY) -c "" 2>/dev/null; } || rm -f $(STAMP))

.DEFAULT_GOAL := help
.NOTPARALLEL: # two cores; and the chapters' timings are shown
.PHONY: help setup data notebooks notebooks-check execute site book lint types floors unit browser devices properties site-tests test \
	repository lab newest colab-test lowest clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

# --- what everything else needs -------------------------------------------------------------------------------------

setup: $(STAMP) ## virtual environment with the pinned packages (done once; again when requirements.txt changes)

$(STAMP): requirements.txt pyproject.toml
	$(SAY) "setup: virtual environment $(VENV) with the packages of requirements.txt"
	@command -v $(PYTHON) >/dev/null || { echo "setup: no $(PYTHON) on PATH; install Python 3.11 or newer, or say make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("setup: Python 3.11 or newer is needed, $(PYTHON) is %d.%d; say make PYTHON=python3.12" % v[:2])'
	@if [ ! -e $(VENV)/pyvenv.cfg ] || ! $(PY) -m pip --version >/dev/null 2>&1 || ! grep -qF "$(abspath $(BIN))" $(BIN)/pip; then \
		$(PYTHON) -m venv $$([ ! -e $(VENV)/pyvenv.cfg ] || echo --clear) $(VENV) || \
		{ echo "setup: $(PYTHON) cannot make a virtual environment in $(VENV) (Debian: apt install python3-venv)"; exit 1; }; fi
	@$(PY) -m pip install -r requirements.txt && $(PY) -m pip install --quiet --no-deps -e . || \
		{ echo "setup: pip could not install requirements.txt (why stands above); it needs a network and 7 GB of disk. Then: make setup"; exit 1; }
	@echo "$(CURDIR)" > $@

data: $(STAMP) ## fetch and verify the data: the default dataset, a film clip (skips what is there)
	$(SAY) "data: the default dataset, a film clip"
	@$(PY) -m mmlearn.cli data hanzi
	@$(PY) -m mmlearn.cli data film

# --- the book -------------------------------------------------------------------------------------------------------

notebooks: $(STAMP) ## derive the .ipynb beside each chapter
	$(SAY) "notebooks: derive them from the chapters"
	@$(PY) -m tools.notebooks

execute: $(STAMP) data ## run every chapter that changed (pytest --nbmake over the derived notebooks)
	$(SAY) "execute: run the chapters that changed"
	@$(PY) -m tools.execute

site: $(STAMP) execute ## build the pages from what was executed
	$(SAY) "site: build the pages"
	@$(BIN)/jupyter-book build . -W --keep-going

book: setup data notebooks execute site ## the whole book: set up, fetch, execute, build _build/html
	@echo; echo "The book: _build/html/index.html"

lab: setup data ## open copies of the chapters in JupyterLab: work/ is yours, nothing writes over what you edit there
	@$(PY) -m tools.lab work
	@$(PY) -m jupyterlab work

# --- the tests ------------------------------------------------------------------------------------------------------

test: setup lint types floors notebooks-check unit execute site browser ## everything that CI checks
	@echo; echo "All tests passed."

lint: $(STAMP) ## ruff over the package, the tools, the tests and the chapters' code
	$(SAY) "lint: ruff"
	@$(BIN)/ruff check mmlearn tests tools benchmarks conftest.py book
	@$(BIN)/ruff format --check mmlearn tests tools benchmarks conftest.py book/_ext

types: $(STAMP) ## mypy
	$(SAY) "types: mypy"
	@$(BIN)/mypy

floors: $(STAMP) ## import-linter: no module imports from a floor above its own
	$(SAY) "floors: import-linter"
	@$(BIN)/lint-imports

notebooks-check: $(STAMP)
	$(SAY) "notebooks: are they fresh?"
	@$(PY) -m tools.notebooks --check

unit: $(STAMP) data ## unit tests with coverage, two processes of one thread each
	$(SAY) "unit: pytest"
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --ignore=tests/book/test_site.py --ignore=tests/book/test_player.py \
		--ignore=tests/book/test_devices.py --cov=mmlearn --cov-fail-under=90
	@OMP_NUM_THREADS=1 $(PY) -m pytest --doctest-modules mmlearn

browser: $(STAMP)
	$(SAY) "browser: the built site in Chromium"
	@$(PY) -m tools.chromium
	@$(PY) -m pytest tests/book/test_site.py tests/book/test_player.py

devices: $(STAMP) data ## every notebook on a second device, which is emulated: nothing mixes tensors of the two
	$(SAY) "devices: the notebooks beside an emulated GPU"
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 tests/book/test_devices.py

properties: $(STAMP) data ## property tests with random examples, 20 times as many as in `make test`
	$(SAY) "properties: random and long"
	@MMLEARN_PROPERTIES=random OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 -m hypothesis

site-tests: site browser ## build the site and look at it in a real browser

# --- now and then ---------------------------------------------------------------------------------------------------

repository: $(STAMP) ## make repository URL=https://github.com/OWNER/NAME: change the address everywhere
	@$(PY) -m tools.repository "$(URL)"
	@$(PY) -m tools.notebooks

# All notebooks and the unit tests with other packages than the pinned ones; 6 GB and half an hour each, in _build/lanes.
# CHAPTERS="start/setup … tests" runs these alone; LANE_PYTHON=… picks the interpreter.
LANE = @$(PYTHON) -m tools.lanes $(if $(LANE_PYTHON),--python $(LANE_PYTHON)) $(if $(FOLDER),--folder "$(FOLDER)")

newest: ## everything with the newest Python here and the newest packages that pyproject.toml allows
	$(LANE) newest $(CHAPTERS)

colab-test: ## everything with Colab's Python and packages (tools/colab-DATE.txt), install cell included
	$(LANE) colab $(CHAPTERS)

lowest: ## one notebook with the lowest packages that pyproject.toml allows
	$(LANE) lowest $(or $(CHAPTERS),start/dataset)

clean: ## remove what was built (the virtual environment and the data stay)
	rm -rf _build .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
