.DEFAULT_GOAL := help
.PHONY: help install demo docs lint test torture rehearse bench lab

# More for pytest on the command line, e.g. make test ARGS="-k splits"
ARGS ?=
# SLOW=1: the tests marked slow, too
SLOW ?=
# Notebooks whose every cell must run (nbval), e.g. --nbval-lax --nbval-cell-timeout=60 notebooks/tutorials
NBVAL ?=

help:
	@echo "make demo   the quickstart: anti-transfer on embedded speech; prints where the notebook and its HTML are"
	@echo "make test   every test, the doctests and the tutorials"
	@echo "make docs   the documentation site, tutorials executed (about ten minutes; QUICK=1: not executed)"
	@echo "make torture   kills, spoiled raw files, changed files, all at random; takes an hour"
	@echo "make lint   style, format and types"
	@echo "make rehearse  every grid at paper scale on miniature corpora, from preparation to its table (GRIDS='table3_words ...', QUICK=1)"
	@echo "make bench  what a training step costs here, next to its limits (QUICK=1: about a minute)"
	@echo "make lab    JupyterLab on this machine only, with the atlab kernel"

install:
	@sh scripts/install

demo: install
	@.venv/bin/atlab run notebooks/tutorials/01_quickstart.ipynb --html

docs: install
	@.venv/bin/python docs/build.py $(if $(QUICK),--without-tutorials)

lint: install
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy

test: lint
	@$(if $(SLOW),ATLAB_SLOW=1 ).venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests atlab data_recipes $(NBVAL) $(ARGS)

rehearse: install
	@.venv/bin/python -m tests.rehearsal $(if $(QUICK),--quick) $(GRIDS)

torture: install
	@for part in trainings sweeps inputs mutations; do .venv/bin/python -m scripts.torture $$part || exit 1; done

bench: install
	@.venv/bin/python -m benchmarks $(if $(QUICK),--quick)

lab: install
	@.venv/bin/jupyter lab --ip=127.0.0.1 $(if $(filter 0,$(shell id -u)),--allow-root)
