# The worker as a container. How to run it, and why each option is needed: docs/docker.md.

# Both images can be others, such as a mirror's or ones of your own: any with a Rust toolchain and a C compiler,
# and any of Debian.
ARG BUILD_IMAGE=rust:bookworm
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY . .
ARG PROFILE=release
# Optional secrets, never part of an image: `ca`, the certificate authorities of a network with its own, and
# `cargo-config`, a config.toml that names another registry.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    --mount=type=secret,id=ca \
    --mount=type=secret,id=cargo-config,target=/usr/local/cargo/config.toml \
    if [ -s /run/secrets/ca ]; then export CARGO_HTTP_CAINFO=/run/secrets/ca; fi; \
    cargo build --locked --profile "$PROFILE" --bin stockade \
    && install -D "target/$(echo "$PROFILE" | sed s/^dev$/debug/)/stockade" /out/stockade

FROM ${BASE_IMAGE}
# Jobs see this image's /usr, read-only: what is installed here is what scripts can use.
ARG JOB_PACKAGES="python3"
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ${JOB_PACKAGES} \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/stockade /usr/bin/stockade
COPY packaging/docker/entrypoint /usr/lib/stockade/entrypoint
COPY packaging/docker/config.toml /etc/stockade/config.toml
VOLUME /var/lib/stockade
EXPOSE 50000
# Asks http://127.0.0.1:50000, unless STOCKADE_ENDPOINT and STOCKADE_TLS_* say otherwise: a configuration with TLS takes
# these, or --no-healthcheck.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["stockade", "worker", "-o", "json"]
ENTRYPOINT ["/usr/lib/stockade/entrypoint"]
CMD ["serve"]
