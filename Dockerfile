FROM python:3.11-slim

# OpenCV's wheel links against these; curl serves the health check.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends curl libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home motserve
WORKDIR /app

# Dependencies change less often than code: a layer of their own, made from the metadata alone.
COPY pyproject.toml README.md LICENSE ./
RUN mkdir motserve && touch motserve/__init__.py \
    && pip install --no-cache-dir . \
    && pip uninstall --yes motserve \
    && rm -r motserve

COPY motserve motserve
RUN pip install --no-cache-dir --no-deps .

COPY configs configs
COPY training training
COPY serve_config.yaml ./
# Inside a container the service must listen on the container's address, not on its loopback.
RUN sed --in-place 's/host: 127.0.0.1/host: 0.0.0.0/' serve_config.yaml \
    && mkdir data models runs && chown motserve data models runs

USER motserve
VOLUME ["/app/data", "/app/models", "/app/runs"]
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=6s --start-period=120s CMD curl --fail --silent http://127.0.0.1:8000/readyz
CMD ["serve", "run", "serve_config.yaml"]
