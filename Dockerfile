# syntax=docker/dockerfile:1
# The image of the service, built in three steps: system packages, Python dependencies, application.
#
#   docker build --tag motserve .                              for NVIDIA GPUs; runs on CPUs as well
#   docker build --tag motserve:cpu --build-arg DEVICE=cpu .   for CPUs only, less than half the size
#
# docs/deploy.md says how to run it, what was checked and how large it is.
ARG DEVICE=cuda

# PyTorch's wheels for CUDA 13.0 include cuBLAS, cuDNN and NCCL. NVIDIA's `runtime` images would add them again, some
# 2 GB; the `base` images have only the CUDA runtime, the files that the container toolkit needs, and the libraries that
# run a new CUDA on an older driver. Programs that need more of CUDA, such as TensorRT engines, need another base image.
ARG CUDA_BASE=nvidia/cuda:13.0.2-base-ubuntu24.04
ARG CPU_BASE=debian:bookworm-slim


# ---- system packages, also of the final image
FROM ${CUDA_BASE} AS base-cuda
FROM ${CPU_BASE} AS base-cpu

# hadolint ignore=DL3006
FROM base-${DEVICE} AS system
# wget runs the health checks, here and in the probes of KubeRay; tini forwards signals and reaps the zombie processes of
# Ray.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 tini wget \
    && rm -rf /var/lib/apt/lists/*


# ---- dependencies: a virtual environment without pip, filled by a pip that is not in the final image
FROM system AS tools
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/pip \
    && python3 -m venv --without-pip /opt/venv
WORKDIR /build

# Only the lists of requirements: other changes of pyproject.toml do not invalidate the layers below. The image serves and
# trains; what `lab` adds to that is 1 MB.
FROM tools AS requirements
COPY pyproject.toml ./
RUN python3 -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
        extras = [project['optional-dependencies'][name] for name in ('serve', 'train', 'lab', 'tracing')]; \
        print(*sorted({*project['dependencies'], *sum(extras, [])}), sep='\n')" \
        > requirements.txt \
    && grep '^torch' requirements.txt > torch.txt

# PyTorch in its own layer, by far the largest one.
FROM tools AS torch-cuda
COPY deploy/docker/constraints.txt ./
COPY --from=requirements /build/torch.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/pip/bin/pip --python /opt/venv/bin/python install --requirement torch.txt --constraint constraints.txt

# PyPI has only the CUDA build. PyTorch's dependencies come from PyPI in the next stage: its own index has few versions.
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
# Replaces OpenCV by its headless build, which needs neither X11 nor Mesa and saves 0.3 GB.
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/pip/bin/pip --python /opt/venv/bin/python install --requirement requirements.txt --constraint constraints.txt \
    && opencv="$(grep '^opencv-python==' constraints.txt)" \
    && /opt/pip/bin/pip --python /opt/venv/bin/python uninstall --yes opencv-python \
    && /opt/pip/bin/pip --python /opt/venv/bin/python install --no-deps "opencv-python-headless${opencv#opencv-python}"

FROM tools AS package
COPY pyproject.toml README.md LICENSE serve_config.yaml ./
COPY configs configs
COPY motserve motserve
COPY training training
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/pip/bin/pip wheel --no-deps --wheel-dir /wheels .


# ---- application
FROM system AS application
# A numeric user, because Kubernetes cannot verify from a name that it is not root.
RUN useradd --create-home --uid 10001 motserve
# Ray remembers fewer ended actors and tasks (each video is one actor and some hundred tasks), and kills a process 1 s
# after the request to end: a stopped session blocks a detector until it is killed.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MOTSERVE_CACHE_DIR=/app/cache \
    RAY_maximum_gcs_destroyed_actor_cached_count=1000 \
    RAY_task_events_max_num_task_in_gcs=10000 \
    RAY_kill_worker_timeout_milliseconds=1000
COPY --from=dependencies /opt/venv /opt/venv
RUN --mount=type=bind,from=package,source=/opt/pip,target=/opt/pip \
    --mount=type=bind,from=package,source=/wheels,target=/wheels \
    /opt/pip/bin/pip --python /opt/venv/bin/python install --no-cache-dir --no-index --no-deps /wheels/*.whl

WORKDIR /app
COPY configs configs
COPY deploy/docker/start.sh serve_config.yaml ./
# In a container the service must listen on all addresses, not only on the loopback.
RUN sed --in-place 's/host: 127.0.0.1/host: 0.0.0.0/' serve_config.yaml \
    && grep --quiet 'host: 0.0.0.0' serve_config.yaml \
    && mkdir cache data models runs \
    && chown motserve cache data models runs

USER 10001
# cache: downloaded weights and those from the registry; data: uploads, results and the identity index; models: your own
# weights; runs: outputs of trainings.
VOLUME ["/app/cache", "/app/data", "/app/models", "/app/runs"]
# HTTP API, and Ray's metrics for Prometheus.
EXPOSE 8000 8080
# `serve run` shuts the service down cleanly on SIGINT.
STOPSIGNAL SIGINT
HEALTHCHECK --interval=15s --timeout=6s --start-period=180s --retries=3 \
    CMD ["wget", "--quiet", "--output-document=/dev/null", "http://127.0.0.1:8000/readyz"]
ENTRYPOINT ["tini", "--", "/app/start.sh"]
CMD ["serve_config.yaml"]
