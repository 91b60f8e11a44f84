# The edge in a self-hosted workerd. Build from the repository root:
#   docker build -f deploy/edge.Dockerfile -t infer-router/edge .

FROM node:22-bookworm-slim AS node
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ENV INFER_ROUTER_CACHE=/cache
WORKDIR /src
COPY package.json package-lock.json ./
COPY script/env.sh script/lib.sh script/bootstrap script/
# workerd is copied from where this platform has it, node from where this image has it: both differ.
RUN script/bootstrap node \
 && . script/env.sh \
 && mkdir /out \
 && install "$WORKERD_BIN" /out/workerd \
 && install "$(node -p process.execPath)" /out/node


FROM rust:1.95-bookworm AS build
# worker-build is linked to OpenSSL.
RUN apt-get update \
 && apt-get install -y --no-install-recommends libssl-dev pkg-config \
 && rm -rf /var/lib/apt/lists/*
ENV INFER_ROUTER_CACHE=/cache
WORKDIR /src
COPY rust-toolchain.toml package-lock.json ./
COPY script/env.sh script/lib.sh script/bootstrap script/
RUN script/bootstrap wasm32 worker-build
# It says which wasm-bindgen: after worker-build, which takes minutes and does not depend on it.
COPY Cargo.lock ./
RUN script/bootstrap wasm-bindgen
COPY --from=node /cache/tools/node /cache/tools/node
COPY --from=node /out/node /usr/local/bin/node
COPY Cargo.toml ./
COPY shared/Cargo.toml shared/
COPY edge/Cargo.toml edge/
COPY worker-native/Cargo.toml worker-native/
COPY lab/Cargo.toml lab/
COPY deploy/stub-members deploy/
RUN deploy/stub-members
COPY script/build-edge script/
COPY shared/src shared/src
COPY edge/src edge/src
RUN script/build-edge


FROM debian:bookworm-slim
COPY deploy/healthcheck /usr/local/bin/
COPY --from=node /out/workerd /usr/local/bin/
COPY edge/workerd/config.capnp /srv/edge/workerd/
COPY --from=build /src/edge/build/index.js /src/edge/build/index_bg.wasm /srv/edge/build/
WORKDIR /srv
USER 10001:10001
EXPOSE 8787
# /health asks the native service as well: healthy means that readings get through.
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=3 CMD ["healthcheck", "8787", "/health"]
ENTRYPOINT ["workerd", "serve", "edge/workerd/config.capnp", "--socket-addr=http=0.0.0.0:8787"]
CMD ["--external-addr=origin=worker-native:8080"]
