FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /opt/marketprism
COPY pyproject.toml README.md LICENSE ./
COPY config config
COPY src src
RUN /opt/marketprism/bin/pip install --no-cache-dir .

FROM python:3.13-slim
LABEL org.opencontainers.image.title="MarketPrism data collector" \
      org.opencontainers.image.licenses="MIT"
RUN groupadd --gid 10001 marketprism \
    && useradd --uid 10001 --gid marketprism --no-create-home --shell /usr/sbin/nologin marketprism \
    && install -d -o marketprism -g marketprism /app/data /app/logs
COPY --from=build /opt/marketprism /opt/marketprism
COPY config /app/config
ENV PATH=/opt/marketprism/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HEALTH_CHECK_HOST=0.0.0.0 \
    METRICS_HOST=0.0.0.0
WORKDIR /app
USER marketprism
# Only these two are written to: the root filesystem may be read-only.
VOLUME ["/app/data", "/app/logs"]
EXPOSE 8086 9093
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:' + (os.environ.get('HEALTH_CHECK_PORT') or '8086') + '/health', timeout=4)"]
ENTRYPOINT ["python", "-m", "marketprism"]
