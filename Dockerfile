# One image for every service; docker-compose.yml says which command each runs.
FROM python:3.11-slim-bookworm

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/palate/.venv/bin:$PATH
WORKDIR /palate
RUN apt-get update \
 && apt-get install --yes --no-install-recommends make \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home palate \
 && mkdir /data && chown palate /palate /data
USER palate

# What changes seldom comes first: dependencies and browser code, then the code itself.
COPY --chown=palate pyproject.toml constraints.txt package.json package-lock.json Makefile README.md ./
RUN mkdir -p app trainer static && touch app/__init__.py trainer/__init__.py && make install
COPY --chown=palate . .

VOLUME /data
EXPOSE 8000
CMD ["palate", "web", "--host", "0.0.0.0"]
