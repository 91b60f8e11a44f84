# The edge in a self-hosted workerd:   workerd serve edge/workerd/config.capnp config
#
# Build first: script/build-edge. What differs from one start to the next comes from outside:
#   --socket-addr=http=HOST:PORT        where it listens (port 0 and --control-fd=N: a free port, announced on N)
#   --external-addr=origin=HOST:PORT    the native service
#   environment                         the settings below; one that is not set is null in the worker, so its default
#                                       holds (never read one with `Env::var`: on null it hangs the request)
# Not enforced here, only on Cloudflare: CPU, memory and subrequest limits. There is no `cf` object either.

using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "edge", worker = .edge),
    (name = "origin", external = (address = "127.0.0.1:8080", http = ())),
    # Where the global fetch() may go. Only this machine, so that no request can be talked into reaching further.
    (name = "internet", network = (allow = ["local"])),
  ],
  sockets = [(name = "http", address = "127.0.0.1:8787", http = (), service = "edge")],
);

const edge :Workerd.Worker = (
  modules = [
    (name = "index.js", esModule = embed "../build/index.js"),  # the first module is the worker
    (name = "index_bg.wasm", wasm = embed "../build/index_bg.wasm"),
  ],
  # Never before 2025-05-05: older dates leak wasm objects (enable_weak_ref).
  compatibilityDate = "2026-04-01",
  bindings = [
    (name = "ORIGIN", service = "origin"),
    (name = "EDGE_POLICY", fromEnvironment = "EDGE_POLICY"),
    (name = "QUEUE_THRESHOLD", fromEnvironment = "QUEUE_THRESHOLD"),
    (name = "ACCURACY_FLOOR", fromEnvironment = "ACCURACY_FLOOR"),
    (name = "PREDICT_TIMEOUT_MS", fromEnvironment = "PREDICT_TIMEOUT_MS"),
    (name = "INFER_TIMEOUT_MS", fromEnvironment = "INFER_TIMEOUT_MS"),
    (name = "JOBS_TIMEOUT_MS", fromEnvironment = "JOBS_TIMEOUT_MS"),
    (name = "MAX_BODY_BYTES", fromEnvironment = "MAX_BODY_BYTES"),
    (name = "SNAPSHOT_FRESH_MS", fromEnvironment = "SNAPSHOT_FRESH_MS"),
    (name = "SNAPSHOT_USABLE_MS", fromEnvironment = "SNAPSHOT_USABLE_MS"),
  ],
);
