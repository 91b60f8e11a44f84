# The native service. Build from the repository root:
#   docker build -f deploy/worker-native.Dockerfile -t infer-router/worker-native .

FROM debian:bookworm-slim AS onnxruntime
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3-pip \
 && rm -rf /var/lib/apt/lists/*
ENV INFER_ROUTER_CACHE=/cache
WORKDIR /src
COPY package-lock.json ./
COPY script/env.sh script/lib.sh script/bootstrap script/
RUN script/bootstrap onnxruntime


# Without rust-toolchain.toml: the tag pins Rust, and that file would fetch rustfmt and clippy.
FROM rust:1.95-bookworm AS build
ENV CARGO_TARGET_DIR=/target
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY shared/Cargo.toml shared/
COPY edge/Cargo.toml edge/
COPY worker-native/Cargo.toml worker-native/
COPY lab/Cargo.toml lab/
COPY deploy/stub-members deploy/
RUN deploy/stub-members && cargo build --release --locked --package worker-native
COPY shared/src shared/src
COPY worker-native/src worker-native/src
# COPY keeps the time of each file, and cargo takes one older than the stub's build for unchanged.
RUN find shared/src worker-native/src -type f -exec touch {} + \
 && cargo build --release --locked --package worker-native


# It has the libstdc++6 that the ONNX Runtime needs, because apt needs it too.
FROM debian:bookworm-slim
COPY deploy/healthcheck /usr/local/bin/
COPY --from=onnxruntime /cache/tools/onnxruntime /usr/local/lib/onnxruntime
COPY models /srv/models
COPY --from=build /target/release/infer-router /usr/local/bin/
# ONNX Runtime 1.29 and later would tell its maker about process and models; the API turns that off too late for the first
# message.
ENV ORT_DISABLE_TELEMETRY=1 \
    API_HOST=0.0.0.0 \
    API_PORT=8080 \
    MODEL_DIR=/srv/models \
    ORT_DYLIB_PATH=/usr/local/lib/onnxruntime/libonnxruntime.so
WORKDIR /srv
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 CMD ["healthcheck", "8080", "/readyz"]
ENTRYPOINT ["infer-router"]
CMD ["serve"]
