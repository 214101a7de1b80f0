# The two commands of a newcomer are `make demo` and `make test`; both make the environment first if it is not there.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
CORES ?= 2
BIN := .venv/bin
ENVIRONMENT := .venv/complete
export PATH := $(CURDIR)/$(BIN):$(PATH)
# One process of one thread a core.
export OMP_NUM_THREADS := 1

.PHONY: demo test test-workflow fuzz test-browser test-cluster test-psi4 test-gpu lint format schema bench bench-cluster bench-reference study check-psi4 write-psi4 check-schnetpack \
  write-schnetpack screenshot docs

$(ENVIRONMENT): pyproject.toml executor/pyproject.toml constraints.txt
	@echo "Making the environment in .venv (a few minutes, once)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --editable ./executor --editable '.[dev]'
	# As pip does for the others: each job imports these, and may not write what it compiles.
	$(BIN)/python -m compileall -q executor/src src
	touch $@

# The jobs inherit the lock: after a kill -9 the next run waits for those that still go on, and then it may unlock.
demo: $(ENVIRONMENT)
	@mkdir -p .snakemake
	@flock --nonblock .snakemake/demo.lock true || echo "Waiting for the jobs of an earlier run to end"
	@flock .snakemake/demo.lock sh -ec ' \
	  snakemake --cores $(CORES) --unlock --quiet all; \
	  snakemake --cores $(CORES) --quiet reason'
	@echo "Report: $(CURDIR)/results/ammonia/report.html"

# A module stays in one process, since its tests share what takes long to make.
# The longest module comes first: neither core waits for it in the end.
ON_TWO_CORES := $(BIN)/python -m pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder
test: $(ENVIRONMENT) lint
	$(ON_TWO_CORES) executor/tests tests/unit

# Whole experiments through Snakemake: chains, kills, edits; what else is installed, or is not.
test-workflow: $(ENVIRONMENT)
	$(ON_TWO_CORES) tests/workflow

# Configs with something changed, beyond those of the tests: `make fuzz FUZZ_COUNT=5000 FUZZ_SEED=1`.
FUZZ_COUNT ?= 1000
FUZZ_SEED ?= 0
fuzz: $(ENVIRONMENT)
	$(BIN)/python tests/fuzz/trials.py --count $(FUZZ_COUNT) --seed $(FUZZ_SEED)

# The report in headless Chromium, which is installed where root may.
test-browser: $(ENVIRONMENT)
	$(BIN)/python -m pytest tests/browser

# On a real SLURM of one node, which the tests install (as root), start and stop.
test-cluster: $(ENVIRONMENT)
	$(BIN)/python -m pytest tests/cluster

# PySCF's levels beside psi4's, whose energies are stored, and psi4 itself, which the tests install (as root, on Debian).
test-psi4: $(ENVIRONMENT)
	$(BIN)/python -m pytest tests/psi4

# What is computed on a GPU, beside the same on the CPU; skipped where torch sees none.
test-gpu: $(ENVIRONMENT)
	$(BIN)/python -m pytest tests/gpu

lint: $(ENVIRONMENT)
	ruff check
	ruff format --check
	mypy
	lint-imports
	snakefmt --check Snakefile workflow/rules
	snakemake --lint

format: $(ENVIRONMENT)
	ruff check --fix
	ruff format
	snakefmt Snakefile workflow/rules

schema: $(ENVIRONMENT)
	piwsl schema > workflow/schemas/config.schema.json

# Frames an hour of the reference stage, beside psi4 where it is installed; then what approximations of the coupled-cluster
# correction cost, and how far they scatter about the whole of it, on 20 geometries of three molecules; then minima and
# forces of radicals; then what forces of closed shells cost. Fifty minutes; what is in natural-orbitals.jsonl and open-shells.jsonl is not computed again.
bench-reference: $(ENVIRONMENT)
	$(BIN)/python tests/benchmarks/reference_frames_an_hour.py
	$(BIN)/python tests/benchmarks/natural_orbitals.py
	$(BIN)/python tests/benchmarks/open_shells.py
	$(BIN)/python tests/benchmarks/composite_forces.py

# Errors at few frames of rMD17's ethanol and aspirin (their .npz files in STUDY_DATA) and of a molecule that is labelled
# first; what is made of few energies, and what an unlabelled pool is worth. A day on one core; what is in study.csv,
# few-energies.csv and the like is not computed again.
STUDY_DATA ?= rmd17
STUDY := $(BIN)/python tests/benchmarks/errors_at_few_frames.py
FEW := $(BIN)/python tests/benchmarks/from_few_energies.py
POOL := $(BIN)/python tests/benchmarks/worth_of_a_pool.py
MALONALDEHYDE := results/malonaldehyde/datasets/malonaldehyde/dataset.h5
study: $(ENVIRONMENT)
	snakemake $(MALONALDEHYDE) --cores $(CORES) --quiet all --configfile tests/benchmarks/malonaldehyde.yaml
	$(STUDY) malonaldehyde $(MALONALDEHYDE)
	for molecule in ethanol aspirin; do \
	  $(STUDY) $$molecule $(STUDY_DATA)/rmd17_$${molecule}_train_01.npz $(STUDY_DATA)/rmd17_$${molecule}_test_01.npz; \
	done
	for architecture in schnet mace; do \
	  $(STUDY) ethanol $(STUDY_DATA)/rmd17_ethanol_train_01.npz $(STUDY_DATA)/rmd17_ethanol_test_01.npz \
	    --architectures $$architecture --sizes 50; \
	done
	for molecule in ethanol aspirin; do \
	  $(FEW) $$molecule $(STUDY_DATA)/rmd17_$${molecule}_train_01.npz $(STUDY_DATA)/rmd17_$${molecule}_test_01.npz; \
	done
	$(POOL) ethanol $(STUDY_DATA)/rmd17_ethanol_train_01.npz $(STUDY_DATA)/rmd17_ethanol_test_01.npz --sizes 50
	for study in "$(STUDY)" "$(FEW)" "$(POOL)"; do $$study --table; done

# Runs psi4 (Debian: apt-get install psi4) on the inputs of tests/psi4 and compares with the stored energies.
check-psi4 write-psi4:
	$(PYTHON) tests/psi4/run.py $(@:-psi4=)

# Other packages, on top of what .venv has; what they bring themselves would not go with it.
.venv-others/complete: $(ENVIRONMENT) tests/others/requirements.txt
	$(PYTHON) -m venv .venv-others
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib')); print('$(CURDIR)/src'); \
	  print('$(CURDIR)/executor/src')" > .venv-others/lib/python3.11/site-packages/piwsl.pth
	.venv-others/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  --requirement tests/others/requirements.txt
	touch $@

# Runs schnetpack with the weights of tests/others and compares with its stored energies and forces.
check-schnetpack write-schnetpack: .venv-others/complete
	.venv-others/bin/python tests/others/schnetpack_numbers.py $(@:-schnetpack=)

# Short jobs through our executor and the official one on a real SLURM (as root); then 10,000 on one that is played.
bench-cluster: .venv-others/complete
	$(BIN)/python tests/benchmarks/many_jobs.py short
	$(BIN)/python tests/benchmarks/many_jobs.py rehearse

# The planning of 1,000 runs, and the report of 200; then steps of training and of dynamics, ours and other packages', for more than an hour.
bench: $(ENVIRONMENT) .venv-others/complete
	$(BIN)/python tests/benchmarks/graph_of_many_runs.py
	$(BIN)/python tests/benchmarks/large_dataset.py build/large-dataset
	PYTHONPATH=tests:tests/browser $(BIN)/python tests/benchmarks/report_of_many_runs.py
	PYTHONPATH=tests/others .venv-others/bin/python tests/benchmarks/loading.py build/loading
	.venv-others/bin/python tests/benchmarks/training_step.py --others --compiled
	.venv-others/bin/python tests/benchmarks/dynamics_step.py --others
	$(BIN)/python tests/benchmarks/committee.py

# The documentation, into site/; open site/index.html.
docs: $(ENVIRONMENT)
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet
	@echo "Documentation: $(CURDIR)/site/index.html"

# The pictures in README.md, of the report that `make demo` wrote.
screenshot: $(ENVIRONMENT)
	$(BIN)/python tests/browser/screenshots.py
