# A server of autotag. Build: docker build -t autotag .   Run: see compose.yaml.
FROM python:3.12-slim

# CPU wheels of torch are a tenth of the size; for a GPU leave the index out and start with --gpus all.
RUN pip install --no-cache-dir torch torchvision --index-url https://download.pytorch.org/whl/cpu

COPY pyproject.toml README.md LICENSE /src/
COPY autotag /src/autotag
RUN pip install --no-cache-dir "/src[serve]" \
    && useradd --create-home --uid 1000 autotag \
    && mkdir /home/autotag/.cache && chown autotag /home/autotag/.cache

USER autotag
EXPOSE 8118
STOPSIGNAL SIGTERM
ENTRYPOINT ["autotag", "serve", "--host", "0.0.0.0"]
CMD ["--preset", "base", "--preload", "--token-file", "/run/secrets/autotag_tokens"]
