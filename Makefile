# Everything sets itself up: a Python 3.11 or newer and make are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SITE := .build/site

.PHONY: demo test tools slow slurm chaos check docs bench clean

demo: $(STAMP)
	$(BIN)/twinlines demo --out demo

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

# Other people's tools, with which tests read exported tables back and open reports; tests that lack one skip with a reason.
tools:
	@command -v stilts >/dev/null || \
		{ test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq stilts >/dev/null; } || \
		echo "stilts cannot be installed here"
	@command -v chromium >/dev/null || \
		{ test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; } || \
		echo "chromium cannot be installed here"

slow: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow

# Through a real SLURM of one node, where Debian's packages are or may be installed; skipped with a reason elsewhere.
slurm: $(STAMP)
	@command -v slurmctld >/dev/null && command -v munged >/dev/null || \
		{ test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq slurm-wlm munge iproute2 >/dev/null; } || \
		echo "SLURM's packages cannot be installed here"
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slurm tests/cluster

# Random faults for half an hour: make chaos CHAOS="--faults 100 --seed 7"
chaos: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.chaos $(CHAOS)

# Types are checked against an ordinary install, as a user's type checker would see the package.
check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf $(SITE) build
	$(BIN)/pip install --quiet --no-deps --target $(SITE) .
	rm -rf build
	MYPYPATH=$(SITE) $(BIN)/mypy -p twinlines

# Pages and the reference, from docstrings; a warning is an error. Start at .build/docs/docs/index.html.
docs: $(STAMP)
	rm -rf docs/api .build/docs
	$(BIN)/python -m sphinx --quiet --fail-on-warning -c docs . .build/docs
	$(BIN)/pytest -q -m docs tests/test_reference.py

bench: $(STAMP)
	@for file in benchmarks/*.py; do echo "== $$file"; OMP_NUM_THREADS=1 $(BIN)/python $$file || exit 1; done

# Installed editably, modules are found through links: a new one in front/ needs a new link.
$(STAMP): pyproject.toml setup.py $(wildcard front/*)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Twinlines needs Python 3.11 or newer; say which: make PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable ".[test]"
	touch $@

clean:
	rm -rf $(VENV) .build build demo docs/api *.egg-info
