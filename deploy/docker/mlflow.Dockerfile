# syntax=docker/dockerfile:1
# The MLflow server: tracking of runs and model registry. MLflow's own image has no PostgreSQL driver.
#
#   docker build --tag motserve-mlflow --file deploy/docker/mlflow.Dockerfile .
FROM debian:bookworm-slim AS system
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/*

FROM system AS dependencies
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/pip \
    && python3 -m venv --without-pip /opt/venv
WORKDIR /build
# The same version as the client in the service.
COPY deploy/docker/constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/pip/bin/pip --python /opt/venv/bin/python install --constraint constraints.txt \
        mlflow "psycopg[binary]==3.3.9"

FROM system AS server
RUN useradd --create-home --uid 10001 mlflow \
    && mkdir /artifacts \
    && chown mlflow /artifacts
# Job execution is for the evaluation of language models; its workers would take as much memory as the server.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
COPY --from=dependencies /opt/venv /opt/venv
WORKDIR /home/mlflow
USER 10001
VOLUME ["/artifacts"]
EXPOSE 5000
HEALTHCHECK --interval=15s --timeout=6s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5000/health', timeout=5)"]
# MLFLOW_BACKEND_STORE_URI names the database. The server itself serves artifacts; clients have no access to the folder.
ENTRYPOINT ["mlflow", "server", "--host=0.0.0.0", "--port=5000", "--serve-artifacts", "--artifacts-destination=/artifacts"]
CMD ["--workers=2", "--allowed-hosts=mlflow:5000,localhost:5000,127.0.0.1:5000"]
