# `make demo` and `make test` set everything up by themselves: nothing has to run before them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.solvus-installed
DEMO := out/demo
BENCHMARKS := poisson masked matrices fem datagen
CONTRAST := constant:255,two-phase-1e6:255
RELAX := cg,fixed-1,fixed-1.4,fixed-1.95,tsallis-inf,reduced-variance,chebcb,instance-optimal,dst
NETWORKS := multiadam,recipe,fem
CYCLES := log-normal-3:255,two-phase-1e6:255,discs-1e4:255

# A virtual environment that was moved here from another folder is not usable: forget that it was finished.
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
$(shell rm -f $(STAMP))
endif

.PHONY: help demo test slow lint setup fenics mesher chromium clean

help:
	@echo 'make demo    set up, run the quick benchmarks, make a dataset, draw the page $(DEMO)/index.html (10 minutes)'
	@echo 'make test    set up, run the tests (make slow: the long ones too)'
	@echo 'make lint    set up, check format, style and types'
	@echo 'make clean   remove $(VENV), caches and out/'

# --- set-up -------------------------------------------------------------------------------------------------

setup: $(STAMP) build/typing/solvus/__init__.py

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo 'solvus needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ...' >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt setuptools
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-build-isolation -e '.[dev,fem,direct,compare]'
	@printf '%s' '$(CURDIR)' >$@

# The import names, laid out as links, for type checkers (they do not see through an editable install).
build/typing/solvus/__init__.py: $(wildcard src/solvus/*)
	@rm -rf build/typing && mkdir -p build/typing/solvus
	@ln -s $(addprefix ../../../,$(wildcard src/solvus/*) meshes operators solvers datasets) build/typing/solvus/

# FEniCS is not on the Python package index. Where this is not possible its tests are skipped (in CI they fail).
fenics:
	@$(call apt,python3-dolfinx-real,/usr/bin/python3 -c 'import dolfinx')

# System libraries that gmsh, a Python package, looks for; without them nothing is meshed from shapes.
mesher: setup
	@$(call apt,libglu1-mesa libxcursor1 libxft2 libxinerama1,$(BIN)/python -c 'import gmsh')

chromium:
	@$(call apt,chromium,command -v chromium || command -v chromium-browser || command -v google-chrome)

# $(call apt,PACKAGE,TEST): install a system package unless the test passes, if apt and the rights are there.
define apt
if ( $(2) ) >/dev/null 2>&1; then :; \
elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
    echo 'installing $(1)'; export DEBIAN_FRONTEND=noninteractive; \
    { apt-get update -qq && apt-get install -qq -y --no-install-recommends $(1); } >/dev/null || \
        echo 'warning: $(1) could not be installed' >&2; \
else echo 'note: $(1) is missing and needs root and apt to be installed' >&2; \
fi
endef

# --- the two main jobs --------------------------------------------------------------------------------------

demo: setup fenics mesher
	@rm -rf $(DEMO) && mkdir -p $(DEMO)
	@failed=; for name in $(BENCHMARKS); do \
	    echo "== benchmarks/$$name.py --quick"; \
	    $(BIN)/python benchmarks/$$name.py --quick --repeats 1 --out $(DEMO)/$$name.jsonl || failed="$$failed $$name"; \
	done; \
	echo '== benchmarks/contrast.py, some of --quick'; \
	$(BIN)/python benchmarks/contrast.py --only $(CONTRAST) --repeats 1 --out $(DEMO)/contrast.jsonl || \
	    failed="$$failed contrast"; \
	echo '== benchmarks/operators.py --quick, networks as shipped'; \
	$(BIN)/python benchmarks/operators.py --quick --repeats 1 --only darcy64,darcy64-start --out $(DEMO)/operators.jsonl || \
	    failed="$$failed operators"; \
	echo '== learned linear solvers: omega chosen online, cycles chosen by a network, search directions'; \
	$(BIN)/python benchmarks/learning_to_relax.py --quick --repeats 1 --methods $(RELAX) --out $(DEMO)/relax.jsonl || \
	    failed="$$failed learning_to_relax"; \
	$(BIN)/python benchmarks/learned_preconditioners.py --only $(CYCLES) --repeats 2 --out $(DEMO)/cycles.jsonl || \
	    failed="$$failed learned_preconditioners"; \
	$(BIN)/python benchmarks/dcdm.py --only sphere:32 --repeats 1 --out $(DEMO)/dcdm.jsonl || failed="$$failed dcdm"; \
	echo '== heat in a ball of five dimensions, by networks and by polynomials'; \
	$(BIN)/python benchmarks/pinn.py --only hnd:15 --methods $(NETWORKS) --out $(DEMO)/pinn.jsonl || \
	    failed="$$failed pinn"; \
	$(BIN)/solvus generate darcy --n 64 --resolution 64 --seed 7 --out $(DEMO)/darcy && \
	    $(BIN)/solvus check $(DEMO)/darcy && $(BIN)/solvus show $(DEMO)/darcy || failed="$$failed dataset"; \
	$(BIN)/solvus report --out $(DEMO) $(DEMO)/*.jsonl || failed="$$failed report"; \
	if [ -n "$$failed" ]; then echo "failed:$$failed" >&2; exit 1; fi
	@echo; echo 'A dataset: $(CURDIR)/$(DEMO)/darcy, its picture: $(CURDIR)/$(DEMO)/darcy/preview.png'
	@echo 'Open this page: $(CURDIR)/$(DEMO)/index.html'

# Small kernels run fastest on one thread; tests that need more ask for them.
test slow: export OMP_NUM_THREADS ?= 1
test slow: export NUMBA_NUM_THREADS ?= 2

test: setup fenics mesher chromium
	$(BIN)/python -m pytest -m 'not slow' --durations=10

slow: setup fenics mesher chromium
	$(BIN)/python -m pytest --durations=10

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright $$(find -L build/typing -name '*.py')

clean:
	rm -rf $(VENV) out build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
