# Needs make and Python >= 3.11, nothing else. Everything is installed into .venv.

PYTHON ?= python3
VENV   := .venv
BENCH  := .venv-bench
PY     := $(VENV)/bin/python
TESTS  ?= 2
DEMO_FLAGS ?=
TEST_FLAGS ?=
BENCH_FLAGS ?=
MUTATIONS_FLAGS ?=
REPRODUCE_FLAGS ?=
ROW    ?=
DATA   ?= data

.DEFAULT_GOAL := help
.PHONY: help demo test test-all soak mutations check docs bench reproduce clean distclean
.DELETE_ON_ERROR:

help:  ## this list
	@echo "snowmelt: undo any degradation"
	@echo
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 18
	@echo
	@echo "PYTHON=python3.12 picks an interpreter, DEMO_FLAGS=--quick shortens the demo, TESTS=4 runs four test processes."

demo: $(VENV)/.with-core  ## install if needed, train and restore, write runs/demo
	$(VENV)/bin/snowmelt demo $(DEMO_FLAGS)

test: $(VENV)/.with-test  ## the fast tests
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(TESTS) --dist loadgroup -m "not slow" $(TEST_FLAGS)

test-all: $(VENV)/.with-test  ## all tests
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(TESTS) --dist loadgroup $(TEST_FLAGS)

soak: $(VENV)/.with-test  ## the promises of docs/reliability.md, many rounds of each: a quarter of an hour; prints the figures
	@mkdir -p build
	SNOWMELT_SOAK=1 SNOWMELT_FIGURES=build/soak.json OMP_NUM_THREADS=1 $(PY) -m pytest -n $(TESTS) --timeout 14400 $(TEST_FLAGS) \
	  $$(grep -rlE --include='test_*.py' '(^|[^.])\bfigure\(' tests)

mutations: $(VENV)/.with-test  ## plants twelve faults in a copy, one at a time: do the tests notice?
	$(PY) scripts/mutations.py --json build/mutations.json --tests $(TESTS) $(MUTATIONS_FLAGS)

check: $(VENV)/.with-test-dev  ## style, types, import order, documentation
	$(PY) -m ruff check .
	$(PY) -m mypy --strict src
	$(VENV)/bin/lint-imports
	$(PY) -m sphinx -q -W --keep-going -b html -d build/doctrees docs build/docs

docs: $(VENV)/.with-test-dev  ## the documentation, into build/docs
	$(PY) -m sphinx -q -b html -d build/doctrees docs build/docs
	@echo "open build/docs/index.html"

bench: $(VENV)/.with-test $(BENCH)/.with-peers  ## speed next to other libraries, into docs/speed.md
	$(BENCH)/bin/python benchmarks/run.py $(BENCH_FLAGS)

reproduce: $(VENV)/.with-core  ## train and evaluate a recipe, ROW=mnist-four DATA=folder-of-data-sets; writes docs/reproductions
	$(PY) scripts/reproduce.py $(ROW) --data $(DATA) $(REPRODUCE_FLAGS)

clean:  ## remove what was built; runs/ and .venv stay
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests docs benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean  ## also remove .venv and .venv-bench
	rm -rf $(VENV) $(BENCH)

# --- the environment -----------------------------------------------------------------------------------
# A stamp says what is installed; it is redone when pyproject.toml or constraints.txt changed. A bigger set
# contains the smaller ones, so `make check` first means one installation, not three.

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "snowmelt needs Python 3.11 or later; '$(PYTHON)' is not that. Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || { \
	  echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu the package python3-venv is needed" >&2; exit 1; }
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(VENV) was made with a Python older than 3.11: remove it (make distclean) and try again" >&2; exit 1; }
	@touch $@

# A torch that is already there stays if pyproject.toml would accept it: the pin is left out then.
define install
	@if $(PY) -c 'import importlib.metadata as m, sys; sys.exit(tuple(map(int, m.version("torch").split(".")[:2])) < (2, 6))' 2>/dev/null; \
	then sed '/^torch==/d' constraints.txt; else cat constraints.txt; fi > $(VENV)/constraints.txt
	@echo "installing snowmelt$(EXTRAS) into $(VENV); the first time takes some minutes and 1.4 GB of disk or more"
	@$(PY) -m pip install --quiet --disable-pip-version-check -c $(VENV)/constraints.txt -e '.$(EXTRAS)'
endef

$(VENV)/.with-test-dev: EXTRAS := [test,dev]
$(VENV)/.with-test-dev: pyproject.toml constraints.txt | $(VENV)/.made
	$(install)
	@touch $@ $(VENV)/.with-test $(VENV)/.with-core

$(VENV)/.with-test: EXTRAS := [test]
$(VENV)/.with-test: pyproject.toml constraints.txt | $(VENV)/.made
	$(install)
	@touch $@ $(VENV)/.with-core

$(VENV)/.with-core: EXTRAS :=
$(VENV)/.with-core: pyproject.toml constraints.txt | $(VENV)/.made
	$(install)
	@touch $@

# The libraries that `make bench` measures beside this one: an environment that sees all of .venv, so that torch is not fetched twice, and holds
# them without what they would bring along. Those that cannot be fetched are reported as not installed; the next `make bench` tries again.
$(BENCH)/.with-peers: $(VENV)/.with-test benchmarks/peers.txt
	@$(PY) -m venv --without-pip --clear $(BENCH)
	@$(PY) -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	  > "$$($(BENCH)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/snowmelt.pth"
	@if $(PY) -m pip --python $(BENCH)/bin/python install --quiet --disable-pip-version-check --no-deps -r benchmarks/peers.txt; \
	then touch $@; else echo "some peers could not be installed: their rows will say so" >&2; fi
