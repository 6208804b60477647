# make figures   every figure and table into figures/; PRESET=smoke|paper: into build/figures-smoke|paper
# make test      unit tests, and the notebooks at preset smoke
# make check     what a change must pass at once, in under two minutes: lint, format, types, import contracts, the fast tests
# make numerics  what a processor's kernels decide, as an older processor: all others compute by AVX2, as in make test
# make lab       JupyterLab on this machine alone
# make app       the live cockpit alone, as a page of its own on this machine
# make audit     known vulnerabilities of the pinned dependencies, where pip-audit can reach its index
PRESET ?= quick
PYTHON ?= python3

ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif
STAMP := .venv/installed
AUDIT := .venv/audit/installed

.PHONY: figures test numerics check lint lab app audit install clean

figures: install
	$(BIN)/python -m kit figures --preset $(PRESET) $(if $(OUT),--out $(OUT))

test: install
	$(BIN)/python -m pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder

numerics: install
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 $(BIN)/python -m pytest tests -m numerics --numprocesses 2 --dist loadscope

# The method, and what is committed beside it: the tests that are quick and find most.
FAST := tests/test_losses.py tests/test_temperature.py tests/test_recipe.py tests/test_models.py \
	tests/training/test_steering.py tests/data/test_augment.py tests/paper/test_claims.py \
	tests/test_pins.py::test_descriptions_and_hashes \
	tests/test_environment.py tests/test_docs.py tests/test_security.py

check: lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadscope $(FAST)

lint: install
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

lab: install
	mkdir -p .venv/share/jupyter/lab/settings
	cp docs/jupyterlab.json .venv/share/jupyter/lab/settings/overrides.json
	$(BIN)/jupyter lab --ip=127.0.0.1 --notebook-dir=notebooks --LabApp.default_url=/lab/tree/00_start_here.ipynb

# Voilà begins a kernel of a gigabyte for every page, and does not end it with the page: after two minutes it does.
app: install
	$(BIN)/voila notebooks/08_playground.ipynb --Voila.ip=127.0.0.1 --token \
		--MappingKernelManager.cull_idle_timeout=120 --MappingKernelManager.cull_interval=30

audit: $(AUDIT)
	$(PYTHON) .ci/audit.py $(BIN:.venv/%=.venv/audit/%)/pip-audit constraints.txt

$(AUDIT):
	$(PYTHON) -m venv $(@D)
	$(BIN:.venv/%=.venv/audit/%)/python -m pip install --quiet pip-audit==2.10.1
	touch $@

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf .venv figures/executed
