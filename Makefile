# make demo    the whole line on simulated parts: learn, export, replay, publish, show
# make test    every test            make check   format, lint, types, layers
# make bench   benchmarks/results    make fresh   set-up, test and demo on a bare Debian (root)
PYTHON := .venv/bin/python
NOT_RUN := %/harness.py %/stand_in.py %/good_parts.py %/gpu_front.py %/gpu_floors.py \
	%/peer.py %/start_engine.py
BENCHMARKS := $(filter-out $(NOT_RUN),$(wildcard benchmarks/*.py))
.PHONY: demo test test-edge check bench fresh clean

demo: .venv/.ready
	$(PYTHON) -m loupe_trainer.demo

test: .venv/.ready
	$(PYTHON) -m pytest

# The edge alone, as it is installed at a station: no trainer, no torch.
test-edge: .venv-edge/.ready
	! .venv-edge/bin/python -c 'import torch' 2>/dev/null
	.venv-edge/bin/python -m pytest --ignore=tests/trainer --ignore=tests/parity

check: .venv/.ready
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m ruff check
	$(PYTHON) -m mypy
	.venv/bin/lint-imports
	$(PYTHON) .ci/tensorrt_types.py

bench: .venv/.ready
	failed=0; for script in $(BENCHMARKS); do \
		echo "== $$script"; $(PYTHON) "$$script" || failed=1; \
	done; exit $$failed

fresh:
	.ci/fresh

# Both environments are made again when what they depend on changes.
.venv/.ready: pyproject.toml setup.sh tests/edge/tensorrt/bindings.txt
	./setup.sh .venv camera,openvino,trainer

.venv-edge/.ready: pyproject.toml setup.sh tests/edge/tensorrt/bindings.txt
	./setup.sh .venv-edge camera,openvino

clean:
	rm -rf .venv .venv-edge demo runs *.egg-info .mypy_cache .ruff_cache .pytest_cache \
		.hypothesis .import_linter_cache
