# syntax=docker/dockerfile:1
# The service in an image, built in three stages: what the system brings, the Python dependencies, the application.
#
#   docker build --tag motserve .                              for NVIDIA GPUs; runs on CPUs as well
#   docker build --tag motserve:cpu --build-arg DEVICE=cpu .   for CPUs alone, less than half the size
#
# How it is run, what was checked and how large it is: docs/deploy.md.
ARG DEVICE=cuda

# PyTorch's wheels for CUDA 13.0 bring cuBLAS, cuDNN and NCCL with them. NVIDIA's `runtime` flavour would bring them
# once more, some 2 GB; `base` is the CUDA runtime alone, with what the container toolkit looks for and the libraries
# by which a new CUDA runs on an older driver. What needs more of CUDA, such as TensorRT's engines, names another flavour.
ARG CUDA_BASE=nvidia/cuda:13.0.2-base-ubuntu24.04
ARG CPU_BASE=debian:bookworm-slim


# ---- system: what runs beneath Python, in the final image too
FROM ${CUDA_BASE} AS base-cuda
FROM ${CPU_BASE} AS base-cpu

# hadolint ignore=DL3006
FROM base-${DEVICE} AS system
# wget asks for the health, here and in the probes of KubeRay; tini passes signals on and buries the dead processes that
# Ray leaves to it.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 tini wget \
    && rm -rf /var/lib/apt/lists/*


# ---- dependencies: a virtual environment without pip, filled by a pip that stays behind
FROM system AS tools
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/pip \
    && python3 -m venv --without-pip /opt/venv
WORKDIR /build

# Two lists out of the metadata: a change elsewhere in pyproject.toml leaves them, and the layers below, as they are.
FROM tools AS requirements
COPY pyproject.toml ./
RUN python3 -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
        print(*project['dependencies'], *project['optional-dependencies']['tracing'], sep='\n')" \
        > requirements.txt \
    && grep '^torch' requirements.txt > torch.txt

# PyTorch in a layer of its own, the largest by far.
FROM tools AS torch-cuda
COPY deploy/docker/constraints.txt ./
COPY --from=requirements /build/torch.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/pip/bin/pip --python /opt/venv/bin/python install --requirement torch.txt --constraint constraints.txt

# PyPI has it for CUDA alone. What it needs besides comes from PyPI in the next stage: its own index has few versions.
FROM tools AS torch-cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY deploy/docker/constraints.txt ./
COPY --from=requirements /build/torch.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/pip/bin/pip --python /opt/venv/bin/python install --requirement torch.txt --constraint constraints.txt \
        --index-url "${TORCH_INDEX}" --no-deps

# hadolint ignore=DL3006
FROM torch-${DEVICE} AS dependencies
WORKDIR /build
COPY --from=requirements /build/requirements.txt ./
# OpenCV is exchanged for its build without windows, which needs neither X11 nor Mesa: 0.3 GB.
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/pip/bin/pip --python /opt/venv/bin/python install --requirement requirements.txt --constraint constraints.txt \
    && opencv="$(grep '^opencv-python==' constraints.txt)" \
    && /opt/pip/bin/pip --python /opt/venv/bin/python uninstall --yes opencv-python \
    && /opt/pip/bin/pip --python /opt/venv/bin/python install --no-deps "opencv-python-headless${opencv#opencv-python}"

FROM tools AS package
COPY pyproject.toml README.md LICENSE ./
COPY motserve motserve
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/pip/bin/pip wheel --no-deps --wheel-dir /wheels .


# ---- application
FROM system AS application
# A number, because Kubernetes cannot tell from a name that it is not root.
RUN useradd --create-home --uid 10001 motserve
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MOTSERVE_CACHE_DIR=/app/cache
COPY --from=dependencies /opt/venv /opt/venv
RUN --mount=type=bind,from=package,source=/opt/pip,target=/opt/pip \
    --mount=type=bind,from=package,source=/wheels,target=/wheels \
    /opt/pip/bin/pip --python /opt/venv/bin/python install --no-cache-dir --no-index --no-deps /wheels/*.whl

WORKDIR /app
COPY configs configs
COPY training training
COPY deploy/docker/start.sh serve_config.yaml ./
# Inside a container the service must listen on the container's address, not on its loopback.
RUN sed --in-place 's/host: 127.0.0.1/host: 0.0.0.0/' serve_config.yaml \
    && grep --quiet 'host: 0.0.0.0' serve_config.yaml \
    && mkdir cache data models runs \
    && chown motserve cache data models runs

USER 10001
# Weights that were downloaded or fetched from the registry; uploads, results and the index of people; weights of one's
# own; what trainings leave.
VOLUME ["/app/cache", "/app/data", "/app/models", "/app/runs"]
# The service, and Ray's metrics for Prometheus.
EXPOSE 8000 8080
# By an interrupt `serve run` takes the service down in order.
STOPSIGNAL SIGINT
HEALTHCHECK --interval=15s --timeout=6s --start-period=180s --retries=3 \
    CMD ["wget", "--quiet", "--output-document=/dev/null", "http://127.0.0.1:8000/readyz"]
ENTRYPOINT ["tini", "--", "/app/start.sh"]
CMD ["serve_config.yaml"]
