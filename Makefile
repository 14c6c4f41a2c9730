# The developer's manual: `make demo`, `make check`, `make test`, `make test-all`, `make lint`, `make bench`; each sets up what
# it needs. `make check` is for each change, `make test` before it is pushed, `make test-all` takes an hour.
# `make corpus` and `make fuzz SECONDS=600` try the reader of videos on files of every kind, whole and damaged.
# `make kubernetes` writes what clusters serve after serve_config.yaml or configs/environments changed; see docs/deploy.md.
# `make wheel`, `make check-wheel`, `make licences`, `make sbom` are for releases; see docs/releasing.md.
# `make bundled DATA=FOLDER` trains the weights that the package ships, for hours; see docs/training.md.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

SECONDS ?= 600
# files run in parallel, one process for each core up to 4; each loads PyTorch
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
DATA ?= $(MOTSERVE_DATA)
QUICK := $(addprefix tests/,config files people pipeline postprocessing reid results test_types.py tracking video)
PICTURES := data/pictures
PICTURE_PACKAGES := gnome-backgrounds lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 mate-backgrounds \
	plasma-workspace-wallpapers ukui-wallpapers openarena-081-textures tuxpaint-stamps-default

.PHONY: setup demo check test test-workers test-all lint bench corpus fuzz kubernetes bundled pictures wheel check-wheel licences sbom

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --upgrade "pip>=24"
	$(BIN)/python -m pip install --disable-pip-version-check --editable ".[dev,bench,detectors,release]"
	touch $@

demo: setup
	$(BIN)/motserve demo

# what a change breaks first: lint, types, and the tests that start no cluster and train nothing
check: lint
	$(BIN)/python -m pytest $(PARALLEL) $(QUICK)

test: setup
	$(BIN)/python -m pytest $(PARALLEL)

# the tests that start several Ray Train workers, for minutes each
test-workers: setup
	$(BIN)/python -m pytest -m workers tests/training

test-all: setup
	$(BIN)/python -m pytest -m "not gpu"

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: setup
	$(BIN)/motserve benchmark tracker --people 30,100,300 --frames 300

# some 370 small videos, read by motserve and by the FFmpeg command line, which has to be installed
corpus: setup
	$(BIN)/python -m pytest tests/corpus -m "slow or not slow"

# damaged copies of such videos, which must give frames or a typed error
fuzz: setup
	cd tests && ../$(BIN)/python -m corpus.fuzz --seconds $(SECONDS)

kubernetes: setup
	$(BIN)/python deploy/kubernetes/render.py

# setuptools would keep files in build/ that are gone from the tree
wheel: setup
	rm -rf build dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(BIN)/python deploy/release/check_wheel.py dist/*.whl --contents

check-wheel: wheel
	$(BIN)/python deploy/release/check_wheel.py dist/*.whl --constraint deploy/docker/constraints.txt

licences: setup
	PYTHONPATH=deploy/docker $(BIN)/python deploy/release/licences.py > docs/licences.md.new
	mv docs/licences.md.new docs/licences.md

sbom: setup
	PYTHONPATH=deploy/docker $(BIN)/python deploy/release/sbom.py --output dist/motserve.cdx.json

bundled: setup pictures
	@test -n "$(DATA)" || { echo "make bundled needs DATA=FOLDER, see docs/training.md"; exit 2; }
	$(BIN)/python -m training.bundled detector --data "$(DATA)"
	$(BIN)/python -m training.bundled embedder --data "$(DATA)"
	$(BIN)/python -m training.bundled ship --data "$(DATA)"

pictures: $(PICTURES)/.fetched

# Pictures of Debian's packages, unpacked beside the system and not installed into it.
$(PICTURES)/.fetched:
	mkdir -p $(PICTURES)/packages
	cd $(PICTURES)/packages && apt-get download $(PICTURE_PACKAGES)
	for package in $(PICTURE_PACKAGES); do \
		dpkg -x $(PICTURES)/packages/$${package}_*.deb $(PICTURES)/$$package || exit 1; done
	rm -r $(PICTURES)/packages
	cd $(PICTURES)/openarena-081-textures && $(PYTHON) -m zipfile -e usr/share/games/openarena/baseoa/*.pk3 .
	touch $@
